"""What an English voice reads wrong by itself, or another one than the next: dates, ranges, money, units, fractions, formulas. Plain numbers stay."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from museserve.speech.text import english_numbers
from museserve.speech.text.hangul import romanize
from museserve.speech.text.latex import plain_formula
from museserve.speech.text.rewrite import Finder, Rule, rewrite
from museserve.speech.text.tables import table

_SAID: dict[str, dict[str, str]] = table("normalize_en")
_SIGNS, _UNITS, _ABBREVIATED = _SAID["signs"], _SAID["units"], _SAID["abbreviations"]
_SHORT_ENDINGS = {"py": "pie", "js": "J S", "ts": "T S", "md": "M D", "sh": "S H", "yml": "yammel", "yaml": "yammel", "cpp": "C P P", "rs": "R S"}
_FILE_ENDINGS = "py|js|ts|tsx|jsx|md|sh|yml|yaml|json|html|css|cpp|rs|go|java|txt|csv|xml|sql|toml|ini|exe|png|jpg|pdf"
_TIMES = {"k": "thousand", "K": "thousand", "M": "million", "B": "billion"}
_BIG = {"k": "thousand", "K": "thousand", "m": "million", "M": "million", "b": "billion", "B": "billion", "bn": "billion", "T": "trillion"}
_COINS = {"$": "dollar", "US$": "dollar", "€": "euro", "£": "pound", "₩": "won", "￦": "won", "¥": "yen", "￥": "yen"}
_ALIKE = ("won", "yen")  # in singular and plural
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_START = r"(?<![\w.,$€£¥₩/:-])"
_END = r"(?![\w/]|[.,:-]\d)"
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))
_NUMERALS = {"II": 2, "III": 3, "IV": 4, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "XI": 11, "XII": 12}
_COMPARED = {"<": "less than", ">": "greater than", "<=": "less than or equal to", ">=": "greater than or equal to"}
_MONTH, _DAY = r"(?P<m>0?[1-9]|1[0-2])", r"(?P<d>[12]\d|3[01]|0?[1-9])"
_VERSIONED = r"(?<=\bv)|(?<=\bversion )|(?<=\bVersion )|(?<=\bPython )|(?<=\bJava )|(?<=\bNode )|(?<=\bRuby )|(?<=\bGo )|(?<=\bTLS )|(?<=\bPHP )"


@cache
def english_rules() -> tuple[Finder, ...]:
    any_sign = "|".join(re.escape(sign) for sign in sorted(_SIGNS, key=len, reverse=True))
    return (
        Rule("address", r"(?:https?://|www\.)[^\s<>\"]+", _address),
        Rule("mail", r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+", _mail),
        Rule("formula", r"\$(?=\S)(?P<tex>[^$\n]{1,120})(?<=\S)\$(?!\d)", lambda m: _tex(m["tex"])),
        Rule("formula", r"\\(?:frac|sqrt|times|cdot|leq?|geq?|neq?)\b\S*", lambda m: _tex(m[0])),
        Rule("date", rf"{_START}(?P<y>(?:19|20)\d\d)(?P<sign>[-./]){_MONTH}(?P=sign){_DAY}(?![\w/-]|[.,:]\d)", _date),
        Rule(
            "phone",
            r"(?<![\w+])(?:\+\d{1,3}[- ])?\(?0?\d{2,4}\)?[- ]\d{3,4}[- ]\d{4}(?![\w-])"
            r"|(?<![\w+])\+\d{1,3}(?:[- ]\(?\d{1,4}\)?){2,5}(?![\w-])",
            _phone,
        ),
        Rule(
            "range",
            rf"{_START}(?P<a>(?:19|20)\d\d)\s?[-–~]\s?(?P<b>(?:19|20)\d\d){_END}",
            lambda m: f"{english_numbers.year(m['a'])} to {english_numbers.year(m['b'])}",
        ),
        Rule("range", rf"{_START}(?P<a>{_NUMBER})\s?[~～∼–]\s?(?P<b>{_NUMBER}){_END}", r"{a} to {b}"),
        Rule("range", rf"{_START}(?P<a>\d{{1,3}}(?:\.\d+)?)-(?P<b>\d{{1,3}}(?:\.\d+)?)(?= ?[A-Za-z%]|[,.;:!?)]|\s*$)", r"{a} to {b}"),
        Rule("decade", r"(?<![\w.])(?P<y>1[5-9]\d0|20\d0)s\b", lambda m: english_numbers.decade(m["y"])),
        Rule(
            "money",
            rf"(?<!\w)(?P<coin>US\$|[$€£₩￦¥￥]) ?(?P<n>{_NUMBER})"
            rf"(?: ?(?P<big>(?:bn|[kKmMbBT])(?![A-Za-z])|(?:thousand|million|billion|trillion)\b))?{_END}",
            _money,
        ),
        Rule(
            "height",
            r"(?<![\w.])(?P<feet>\d)['′’](?P<inches>\d{1,2})(?:[\"″”]|'')",
            lambda m: f"{m['feet']} feet {m['inches']}{' inches' if m['inches'] != '1' else ' inch'}",
        ),
        Rule("ratio", r"(?<![\w.:])(?P<a>\d{1,4}):(?P<b>\d|[6-9]\d|\d{3,4})(?![\w:]|\.\d)", r"{a} to {b}"),
        Rule("fraction", rf"{_START}(?P<a>\d{{1,2}})/(?P<b>\d{{1,2}})(?![\w/-]|[.,]\d)", _fraction),
        Rule(
            "Roman numeral",
            r"\b(?P<of>War|Part|Phase|Type|Tier|Level|Volume|Chapter|Section) (?P<n>XII|XI|IX|VIII|VII|VI|IV|III|II)\b",
            lambda m: f"{m['of']} {_NUMERALS[m['n']]}",
        ),
        Rule("Roman numeral", "[Ⅰ-Ⅻⅰ-ⅻ]", lambda m: str(int(unicodedata.numeric(m[0])))),
        Rule(
            "power", r"(?<![\w.])(?P<a>\d+(?:\.\d+)?)[eE](?P<n>[-+]?\d{1,3})(?!\w)", lambda m: f"{m['a']} times 10 to the power of {_signed(m['n'])}"
        ),
        Rule("power", r"(?P<a>[0-9A-Za-z)])(?P<n>[⁻⁺]?[⁰¹²³⁴-⁹]+)", _superscript),
        Rule("power", r"(?<=[\w)])\^\(?(?P<n>[-+]?\w{1,10})\)?", lambda m: f" to the power of {_signed(m['n'])}"),
        Rule("unit", rf"(?<![\w.,])(?P<n>{_NUMBER}) ?(?P<unit>{_UNIT})(?![\w/²])", _unit),
        Rule(
            "resolution",
            r"(?<![\w.])(?P<n>[248])K(?= (?:video|screen|display|monitor|resolution|TV|stream|footage|image|content|camera)|[,.;!?]| or | and )",
            r"{n} K",
        ),
        Rule("abbreviation", r"\b(?:Mr|Mrs|Ms|Dr|Prof|Jan|Feb|Aug|Sept|Sep|Oct|Nov|Dec)\.(?= [A-Z0-9])", lambda m: _ABBREVIATED[m[0][:-1]]),
        Rule("abbreviation", r"(?<=[a-z] )(?:St|Ave|Rd|Blvd)\.(?! [A-Z])", lambda m: _ABBREVIATED[m[0][:-1]]),
        Rule("digits", r"\d{16,}", lambda m: " ".join(m[0])),
        Rule("number", r"(?<![\w.])\d{1,3}(?:_\d{3})+(?![\w])", lambda m: m[0].replace("_", ",")),
        Rule("comparison", r"(?<=[\w)\]\"]) (?P<sign><=|>=|[<>]) (?=[\w(])|(?<=(?<!\w)\w)(?P<tight><=|>=|[<>])(?=\w\b(?!>))", _comparison),
        Rule("minus", r"(?<![\w)\]-])[-−](?=\d)", "minus "),
        Rule("mark", rf"{_START}(?P<a>\d{{3}}|\d{{1,3}}\.\d{{1,2}})/(?P<b>\d{{3,4}}|\d{{1,3}}\.\d{{1,2}})(?![\w/]|[.,]\d)", "{a} out of {b}"),
        Rule("per", r"(?<=[a-z])/(?=(?:second|minute|hour|day|week|month|quarter|year|user|person)\b)", " per "),
        Rule("complexity", r"\b([OΘΩ]) ?\(((?:[^()\n]|\([^()\n]*\)){1,40})\)", _order),
        Rule("dotted number", r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]\w)|(?<![\w.])\d+(?:\.\d+){2,}", lambda m: " dot ".join(m[0].split("."))),
        Rule("version", rf"(?:{_VERSIONED})(\d+)\.(\d+)(?![\d.]\d|\d)", lambda m: f"{m[1]} point {m[2]}"),
        Rule("file", rf"\b([A-Za-z][\w-]{{0,63}})\.({_FILE_ENDINGS})\b(?!\.?\w)", _file),
        Rule("times", r"(?<![\w.])(\d+(?:\.\d+)?)[xX](?![\w])", lambda m: f"{m[1]} times"),
        Rule("thousands", r"(?<![\w.$£€¥₩])(\d+(?:\.\d+)?)([kKMB])(?=\s+[a-z]|[,.?!;:]|\s*$)", _thousands),
        Rule("sign", any_sign, lambda m: f" {_SIGNS[m[0]]} "),
        Rule("star", r"(?<=[\w)])\s\*\s(?=[\w(])|(?<=\d)\*(?=\d)", " times "),
        Rule("call", r"(?<=\w)\(\)", ""),
        Rule("number sign", r"\s?#\s(?=\S)", ", "),
        Rule("slash", r"\b([A-Z]{1,4})/(?=[A-Z]{1,4}\b)", lambda m: f"{m[1]}, "),
        Rule("pronoun", r"\bs/he\b", "he or she", re.I),
        Rule("Hangul", r"[가-힣]+", lambda m: romanize(m[0])),
        Rule("mark", r"[\[\]{}<>\\^~`|](?!\d)", " "),
    )


def _signed(digits: str) -> str:
    return digits.replace("-", "minus ").lstrip("+")


def _superscript(match: re.Match[str]) -> str:
    digits = "".join(str(unicodedata.digit(char)) for char in match["n"] if char not in "⁻⁺")
    if match["n"] in ("²", "³"):
        return f"{match['a']} {'squared' if digits == '2' else 'cubed'}"
    return f"{match['a']} to the power of {'minus ' if '⁻' in match['n'] else ''}{digits}"


def _date(match: re.Match[str]) -> str:
    return english_numbers.date(match["y"], int(match["m"]), int(match["d"]))


def _phone(match: re.Match[str]) -> str | None:
    groups = re.findall(r"\d+", match[0])
    if not 7 <= sum(map(len, groups)) <= 15:
        return None
    said = ", ".join(" ".join(group) for group in groups)
    return ("plus " if "+" in match[0] else "") + said


def _money(match: re.Match[str]) -> str:
    coin, number = _COINS[match["coin"]], match["n"]
    big = _BIG.get(match["big"] or "", match["big"] or "")
    whole, _, cents = number.partition(".")
    if not big and len(cents) == 2 and coin in ("dollar", "euro", "pound"):
        small = ("penny" if cents == "01" else "pence") if coin == "pound" else ("cent" if cents == "01" else "cents")
        said = f"{whole} {coin if whole == '1' else coin + 's'}"
        return said if cents == "00" else f"{said} and {int(cents)} {small}"
    plural = coin if coin in _ALIKE or (number == "1" and not big) else coin + "s"
    return f"{number} {big} {plural}" if big else f"{number} {plural}"


def _fraction(match: re.Match[str]) -> str:
    """2/3 is a number, 8/10 a mark; 7/15 and 24/7 are whatever the two numbers mean."""
    above, below = int(match["a"]), int(match["b"])
    if 0 < above <= below == 10:
        return f"{above} out of {below}"
    return english_numbers.fraction(above, below) if 0 < above < below < 10 else f"{above} {below}"


def _unit(match: re.Match[str]) -> str | None:
    if match["unit"] == "s" and match[0][-2].isdecimal() and "." not in match["n"]:
        return None  # people in their 20s, the iPhone 5s
    said = _UNITS[match["unit"]]
    if match["n"] == "1":
        first, _, rest = said.partition(" ")
        first = {"feet": "foot", "degrees": "degree"}.get(first, first.removesuffix("s") if first != "hertz" else first)
        said = f"{first} {rest}".strip()
    return f"{match['n']} {said}"


def _comparison(match: re.Match[str]) -> str:
    begins = match.string[: match.start()].endswith((" is", " are", " was", " were", " be"))
    return f" {'' if begins else 'is '}{_COMPARED[match['sign'] or match['tight']]} "


def _tex(formula: str) -> str | None:
    """A formula of LaTeX; None where it is none, as between two prices in dollars."""
    if not re.search(r"[\\^_{}=]", formula):
        return None
    return rewrite(plain_formula(formula, lambda a, b: f"{a} over {b}"), english_rules()).text


def _address(match: re.Match[str]) -> str:
    """The scheme is noise to a listener: https://example.com/docs -> example dot com slash docs."""
    address = re.sub(r"^(?:https?://)?(?:www\.)?", "", match[0])
    body = address.rstrip(".,;:!?)]'\"")
    said = re.sub(r"[?#&=%_-]+", " ", body.rstrip("/")).replace("/", " slash ").replace(".", " dot ").replace(":", " ")
    return said + address[len(body) :]


def _mail(match: re.Match[str]) -> str:
    return re.sub(r"[._+-]", lambda sign: {".": " dot ", "_": " underscore ", "+": " plus ", "-": " dash "}[sign[0]], match[0]).replace("@", " at ")


def _order(match: re.Match[str]) -> str:
    inside = re.sub(r"²|\^2\b", " squared", match[2])
    inside = re.sub(r"³|\^3\b", " cubed", inside)
    inside = re.sub(r"\^\(?(\w+)\)?", r" to the \1", inside)
    inside = inside.replace("!", " factorial").replace("*", " ").replace("+", " plus ").replace("√", "root ").replace("(", " ").replace(")", " ")
    name = {"O": "O", "Θ": "theta", "Ω": "omega"}[match[1]]
    return f"{name} of {inside}"


def _file(match: re.Match[str]) -> str | None:
    if match[1] in ("Node", "Next", "Vue", "React", "Nest", "Express", "Three", "D3"):  # product names; the voice knows the ending
        return f"{match[1]} {_SHORT_ENDINGS.get(match[2], match[2])}"
    return f"{match[1].replace('_', ' ')} dot {_SHORT_ENDINGS.get(match[2], match[2])}"


def _thousands(match: re.Match[str]) -> str:
    return f"{match[1]} {_TIMES[match[2]]}"
