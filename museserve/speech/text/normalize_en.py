"""What an English voice reads wrong by itself, or another one than the next: dates, ranges, money, units, fractions, formulas. Plain numbers stay."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

from museserve.speech.text import english_numbers
from museserve.speech.text.hangul import romanize
from museserve.speech.text.latex import plain_formula
from museserve.speech.text.rewrite import Finder, Rule, rewrite
from museserve.speech.text.tables import table

_SAID: dict[str, dict[str, str]] = table("normalize_en")
_SIGNS, _UNITS, _ABBREVIATED, _PER = _SAID["signs"], _SAID["units"], _SAID["abbreviations"], _SAID["per"]
_WEEKDAYS, _COINS, _CODES = _SAID["weekdays"], _SAID["coins"], _SAID["codes"]
_SHORT_ENDINGS = {"py": "pie", "js": "J S", "ts": "T S", "md": "M D", "sh": "S H", "yml": "yammel", "yaml": "yammel", "cpp": "C P P", "rs": "R S"}
_FILE_ENDINGS = "py|js|ts|tsx|jsx|md|sh|yml|yaml|json|html|css|cpp|rs|go|java|txt|csv|xml|sql|toml|ini|exe|png|jpg|pdf"
_TIMES = {"k": "thousand", "K": "thousand", "M": "million", "B": "billion"}
_BIG = {
    **dict.fromkeys(("k", "K"), "thousand"),
    **dict.fromkeys(("m", "M", "mn", "MM"), "million"),
    **dict.fromkeys(("b", "B", "bn"), "billion"),
    **dict.fromkeys(("T", "tn"), "trillion"),
}
_ALIKE = ("wahn", "yen", "yuan", "baht", "rand")  # in singular and plural
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_START = r"(?<![\w.,$€£¥₩/:-])"
_END = r"(?![\w/]|[.,:-]\d)"


def _any(names: Iterable[str]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


_UNIT, _COIN, _CODE, _WEEKDAY = _any(_UNITS), _any(_COINS), _any(_CODES), _any(_WEEKDAYS)
_PER_UNIT = rf"(?:/ ?(?P<per>(?:{_any(_PER)})(?![A-Za-z0-9])|[a-z]{{3,12}}\b))?"
_MUCH = r"(?:(?:bn|tn|mn|MM|[kKmMbBT])(?![A-Za-z])|(?:thousand|million|billion|trillion)\b)"
_TO = r"\s?[-–—~～]\s?"
_NOW = r"[Pp]resent|[Nn]ow|[Cc]urrent|[Tt]oday"
_SHORT_MONTHS = {name[:3]: name for name in english_numbers.MONTHS} | {"Sept": "September"}
_MONTH_NAME = _any({*_SHORT_MONTHS, *english_numbers.MONTHS})
_SHORT_MONTH = _any(_SHORT_MONTHS.keys() - {"May"})
_CLOCK = r"\d{1,2}(?::[0-5]\d)?(?: ?[apAP]\.?[mM]\b\.?)?"
# Behind "a 10 kg": what does not make the measure an adjective of what follows.
_ARTICLE = re.compile(r"\b[Aa]n? $")
_NOUN = re.compile(r" (?!(?:a|an|per|each|every|in|for|to|and|or|on|at|of|is|was|are|from|by|with|than|if|when|but|while|so)\b)[a-z]")
_PLACE = re.compile(
    r"\b(?:Apt|Apartment|Room|Rm|Unit|Suite|Gate|Seat|Block|Bldg|Building|Floor|Hall|Group|Class|Form|Flight|Terminal|Section|Exhibit)\.? $"
)
_MANY = re.compile(" (?:users?|people|downloads|customers|rows|records|requests|dollars?|views|parameters?|tokens?)")
_LONG = re.compile(r" \(|[,.;!?]|$| (?:tall|long|high|wide|deep|away|above|below)")
_PARTS = {"½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅛": (1, 8)}
_LETTERED = r"SHA|RAM|LAN|WAN|ROM|LED|CAD|ISO|MAC|PIN|SIM|BIO|LAB|TOP|MAX|DAY|WEB|APP|NET|BAC"  # said as words before a digit, too
_NUMERALS = {"II": 2, "III": 3, "IV": 4, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "I": 1, "V": 5, "X": 10, "XI": 11, "XII": 12}
_ABOUT = {"<": "less than ", ">": "more than ", "<=": "at most ", ">=": "at least ", "~": "about ", "≈": "about "}
_COMPARED = {"<": "less than", ">": "greater than", "<=": "less than or equal to", ">=": "greater than or equal to"}
_MONTH, _DAY = r"(?P<m>0?[1-9]|1[0-2])", r"(?P<d>[12]\d|3[01]|0?[1-9])"
_VERSIONED = r"(?<=\bv)|(?<=\bversion )|(?<=\bVersion )|(?<=\bPython )|(?<=\bJava )|(?<=\bNode )|(?<=\bRuby )|(?<=\bGo )|(?<=\bTLS )|(?<=\bPHP )"


@cache
def english_rules() -> tuple[Finder, ...]:
    any_sign = "|".join(re.escape(sign) for sign in sorted(_SIGNS, key=len, reverse=True))
    return (
        Rule("address", r"(?:https?://|www\.)[^\s<>\"]+", _address),
        Rule("mail", r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,4}\.[A-Za-z][\w-]{0,62}", _mail),
        Rule("formula", r"\$(?=\S)(?P<tex>[^$\n]{1,120})(?<=\S)\$(?!\d)", lambda m: _tex(m["tex"])),
        Rule("formula", r"\\(?:frac|sqrt|times|cdot|leq?|geq?|neq?)\b\S*", lambda m: _tex(m[0])),
        Rule("date", rf"{_START}(?P<y>(?:19|20)\d\d)(?P<sign>[-./]){_MONTH}(?P=sign){_DAY}(?![\w/-]|[.,:]\d)", _date),
        Rule("date", rf"{_START}(?P<a>\d{{1,2}})/(?P<b>\d{{1,2}})/(?P<y>(?:19|20)?\d\d)(?![\w/-]|[.,:]\d)", _slashed),
        Rule(
            "date",
            r"\b(?P<of>[Oo]n|[Bb]y|[Bb]efore|[Uu]ntil|[Aa]fter|[Dd]ue|[Ss]ince) (?!9/11)(?P<m>0?[1-9]|1[0-2])/(?P<d>[12]\d|3[01])(?![\w/-]|[.,]\d)",
            _short_date,
        ),
        Rule(
            "date",
            rf"(?<![\w.,/:-])(?P<d>[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)? (?P<month>{_MONTH_NAME})\b\.?(?:,? (?P<y>(?:19|20)\d\d)\b)?(?! \d)",
            _day_first,
        ),
        Rule(
            "months",
            rf"\b(?P<a>{_MONTH_NAME})\b\.?(?P<y> (?:19|20)\d\d| ?['’]\d\d)?"
            rf"{_TO}(?P<b>{_MONTH_NAME}|{_NOW})\b\.?(?P<y2> (?:19|20)\d\d\b| ?['’]\d\d\b)?",
            _months,
        ),
        Rule(
            "months",
            rf"{_START}{_MONTH}/(?P<y>(?:19|20)\d\d)(?:{_TO}(?:(?P<m2>0?[1-9]|1[0-2])/(?P<y2>(?:19|20)\d\d)|(?P<now>{_NOW})))?(?![\w/])",
            _numbered_months,
        ),
        Rule("month", rf"\b(?P<a>{_SHORT_MONTH})\b\.?(?P<y> (?:19|20)\d\d\b)?(?=(?P<day> \d)?)", _short_month),
        Rule("range", rf"(?<![\w.,/:-])(?P<y>(?:19|20)\d\d){_TO}(?P<now>{_NOW})\b", lambda m: f"{english_numbers.year(m['y'])} to {m['now']}"),
        Rule(
            "year",
            r"\b(?P<of>[Ii]n|[Ss]ince|[Uu]ntil|[Dd]uring|[Ff]rom|[Bb]efore|[Aa]fter|to|[Bb]etween|(?<=\d{4} )(?:and|or))"
            r" (?P<y>1[5-9]\d\d)(?![\w%/,.:-]\w|\w| (?:hours|users|rpm|people|employees|requests))",
            _year,
        ),
        Rule("year", r"(?<![\w.,])(?P<y>1\d\d\d)(?= (?:BC|AD|BCE|CE)\b)", lambda m: english_numbers.year(m["y"])),
        Rule("weekdays", rf"\b(?:{_WEEKDAY})\b(?:(?: ?[-–~/] ?|, )(?:{_WEEKDAY})\b)+", _weekdays),
        Rule(
            "weekday",
            rf"(?<=\()(?P<a>{_WEEKDAY})(?=\))|(?<=\b[Oo]n )(?P<b>{_WEEKDAY})\b\.?|\b(?P<c>{_WEEKDAY})\b\.?(?=,? (?:(?:{_MONTH_NAME})\b|\d))",
            lambda m: _WEEKDAYS[m["a"] or m["b"] or m["c"]],
        ),
        Rule("time", r"(?<![\w:.,])(?P<h>[01]?\d|2[0-3]):0(?P<m>\d)(?![\d:])(?=(?P<half> ?[apAP]\.?[mM])?)", _full_hour),
        Rule("times", rf"(?<![\w:$€£.,-])(?P<a>{_CLOCK}){_TO}(?P<b>{_CLOCK})(?![\w:-]|\.\d)", _times),
        Rule(
            "phone",
            r"(?<![\w+])(?:(?:\+\d{1,3}|1)[- ])?\(?0?\d{2,4}\)?[- ]\d{3,4}[- ]\d{4}(?![\w-])"
            r"|(?<![\w+])\+\d{1,3}(?:[- ]\(?\d{1,4}\)?){2,5}(?![\w-])",
            _phone,
        ),
        Rule(
            "range",
            rf"{_START}(?P<a>(?:19|20)\d\d)\s?[-–~]\s?(?P<b>(?:19|20)\d\d){_END}",
            lambda m: f"{english_numbers.year(m['a'])} to {english_numbers.year(m['b'])}",
        ),
        Rule(
            "range with unit",
            rf"{_START}(?P<a>{_NUMBER})\s?[-–~～∼]\s?(?P<n>{_NUMBER})(?P<more>\+?) ?(?P<unit>(?![mstgA-Z](?![A-Za-z]))(?:{_UNIT})){_PER_UNIT}"
            r"(?![\w²·]|/\D)(?P<dot>\.(?= [a-z]))?(?P<next>/)?",
            lambda m: f"{m['a']} to {said}" if (said := _unit(m)) else None,
        ),
        Rule("range", rf"{_START}(?P<a>{_NUMBER})\s?[~～∼–]\s?(?P<b>{_NUMBER}){_END}", r"{a} to {b}"),
        Rule("range", rf"{_START}(?P<a>\d{{1,3}}(?:\.\d+)?)-(?P<b>\d{{1,3}}(?:\.\d+)?)(?= ?[A-Za-z%&]|[,.;:!?)]|\s*$)", _hyphened),
        Rule("decade", r"(?<!\w)['’](?P<y>[2-9]0)s\b", lambda m: english_numbers.decade("19" + m["y"]).removeprefix("nineteen ")),
        Rule("decade", r"(?<![\w.])(?P<y>1[5-9]\d0|20\d0)s\b", lambda m: english_numbers.decade(m["y"])),
        Rule(
            "money",
            rf"(?<!\w)(?P<coin>{_COIN}) ?(?P<a>{_NUMBER})(?: ?(?P<big_a>{_MUCH}))?{_TO}"
            rf"(?P<again>{_COIN})? ?(?P<n>{_NUMBER})(?: ?(?P<big>{_MUCH}))?{_PER_UNIT}{_END}",
            _money_range,
        ),
        Rule("money", rf"(?<!\w)(?P<coin>{_COIN}) ?(?P<n>{_NUMBER})(?: ?(?P<big>{_MUCH}))?{_PER_UNIT}{_END}", _money),
        Rule("money", rf"{_START}(?P<n>{_NUMBER})(?: ?(?P<big>{_MUCH}))? ?(?P<coin>{_CODE})\b{_PER_UNIT}", _money),
        Rule("money", rf"\b(?P<coin>{_CODE}) ?(?P<n>{_NUMBER})(?: ?(?P<big>{_MUCH}))?{_PER_UNIT}{_END}", _money),
        Rule("money", r"(?<=\d{3} )won\b(?! \d)|(?<=sand )won\b|(?<=llion )won\b", "wahn"),  # not the past of win
        Rule(
            "height",
            r"(?<![\w.])(?P<feet>\d)['′’](?P<inches>\d{1,2})(?:[\"″”]|'')",
            lambda m: f"{m['feet']} feet {m['inches']}{' inches' if m['inches'] != '1' else ' inch'}",
        ),
        Rule("ratio", r"(?<![\w.:])(?P<a>\d{1,4}):(?P<b>\d|[6-9]\d|\d{3,4})(?![\w:]|\.\d)", r"{a} to {b}"),
        Rule("ratio", r"(?<![\w.:])(?P<a>[3-9]\d):(?P<b>\d\d)(?![\w:]|\.\d)", r"{a} to {b}"),
        Rule("fraction", rf"{_START}(?P<whole>\d{{1,3}}) (?P<a>[1-7])/(?P<b>[2-8])(?![\w/-]|[.,]\d)", _mixed),
        Rule("fraction", r"(?<![\w.,])(?P<whole>\d{1,3}) ?(?P<part>[½⅓⅔¼¾⅛])", lambda m: _and_part(m["whole"], *_PARTS[m["part"]])),
        Rule("mark", rf"{_START}(?P<a>\d{{2,3}}|\d{{1,3}}\.\d{{1,2}})/(?P<b>\d{{1,4}}(?:\.\d{{1,2}})?)(?![\w/-]|[.,]\d)", _mark),
        Rule("fraction", rf"{_START}(?P<a>\d{{1,2}})/(?P<b>\d{{1,2}})(?![\w/-]|[.,]\d)", _fraction),
        Rule(
            "Roman numeral",
            r"\b(?P<of>War|Part|Phase|Type|Tier|Level|Volume|Chapter|Section) (?P<n>XII|XI|IX|VIII|VII|VI|IV|III|II)\b",
            lambda m: f"{m['of']} {_NUMERALS[m['n']]}",
        ),
        Rule(
            "Roman numeral",
            r"\b(?P<of>Elizabeth|Henry|George|Edward|Charles|James|William|Richard|Louis|Napoleon|Philip|Catherine|Nicholas|Alexander|Peter"
            r"|John Paul|Benedict|Pius|Frederick|Francis) (?P<n>XII|XI|IX|VIII|VII|VI|IV|III|II)\b",
            lambda m: f"{m['of']} the {english_numbers.ordinal(_NUMERALS[m['n']])}",
        ),
        Rule(
            "Roman numeral",
            r"\b(?P<of>Part|Phase|Type|Tier|Level|Volume|Chapter|Section|Act|Scene|Title|Article|Stage|Schedule|Appendix|Book|Category)"
            r" (?P<n>IV|VI|IX|XI|I|V|X)\b(?! [a-z]+ that)",
            lambda m: f"{m['of']} {_NUMERALS[m['n']]}",
        ),
        Rule(
            "letters",
            r"(?<![A-Za-z] )\bI\.?V\.?(?= )|(?<=\ban )IV\b|(?<=\b[Tt]he )IV\b"
            r"|\bIV(?= (?:fluid|line|drip|push|access|antibiotic|bag|pump|therap|medic))",
            "I V",
        ),
        Rule("ordinal", r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?=(?:st|nd|rd|th)\b)", lambda m: m[0].replace(",", "")),
        Rule("Roman numeral", r"(?<=[a-z] )(?P<n>VIII|VII|III|II|XII)\b(?!\.\w)", lambda m: str(_NUMERALS[m["n"]])),
        Rule("Roman numeral", "[Ⅰ-Ⅻⅰ-ⅻ]", lambda m: str(int(unicodedata.numeric(m[0])))),
        Rule(
            "power", r"(?<![\w.])(?P<a>\d+(?:\.\d+)?)[eE](?P<n>[-+]?\d{1,3})(?!\w)", lambda m: f"{m['a']} times 10 to the power of {_signed(m['n'])}"
        ),
        Rule("power", r"(?P<a>[0-9A-Za-z)])(?P<n>[⁻⁺]?[⁰¹²³⁴-⁹]+)", _superscript),
        Rule("power", r"(?<=[\w)])\^\(?(?P<n>[-+]?\w{1,10})\)?", lambda m: f" to the power of {_signed(m['n'])}"),
        Rule("power", r"(?<=[\w)])\*\*(?P<n>-?\d{1,3})", lambda m: f" to the power of {_signed(m['n'])}"),
        Rule(
            "size",
            rf"(?<![\w.,])(?P<a>{_NUMBER}) ?[×x✕] ?(?P<b>{_NUMBER})(?: ?[×x✕] ?(?P<c>{_NUMBER}))?(?: ?(?P<unit>{_UNIT})(?!\w))?(?!\w|\.\d)",
            _size,
        ),
        Rule(
            "unit", rf"(?<![\w.,])(?P<n>{_NUMBER})(?P<more>\+?) ?(?P<unit>{_UNIT}){_PER_UNIT}(?![\w²·]|/\D)(?P<dot>\.(?= [a-z]))?(?P<next>/)?", _unit
        ),
        Rule(
            "unit",
            rf"(?<![\w.,])(?P<n>{_NUMBER})-(?P<unit>(?=[A-Za-z][A-Za-z])(?:{_UNIT}))\b(?!-)",
            lambda m: f"{m['n']} {_singular(_UNITS[m['unit']])}",
        ),
        Rule(
            "resolution",
            r"(?<![\w.])(?P<n>[248]|5|10)K(?= (?:run|race|walk|video|screen|display|monitor|resolution|TV|stream|"
            r"footage|image|content|camera)|[,.;!?]| or | and )",
            r"{n} K",
        ),
        Rule("abbreviation", r"\b(?:Mr|Mrs|Ms|Dr|Prof)\.(?= [A-Z0-9])", lambda m: _ABBREVIATED[m[0][:-1]]),
        Rule("abbreviation", r"(?<=[a-z] )(?:(?:St|Ave|Rd)\.(?! [A-Z])|Blvd\b\.?)", lambda m: _ABBREVIATED[m[0].rstrip(".")]),
        Rule(
            "abbreviation",
            rf"(?<!\bis )(?<!\bsaid )(?<!\bwas )\b(?P<of>{_any(_SAID['before_numbers'])})"
            r"(?:\.|(?<=Fig|Vol|Ext|Apt|ext|vol)|(?<=No)) ?(?=\d)(?<=[. ])",
            lambda m: _SAID["before_numbers"][m["of"]] + " ",
        ),
        Rule(
            "abbreviation",
            rf"\b(?P<of>{_any(_SAID['anywhere'])})\.(?!\w)(?P<end>\s*$)?",
            lambda m: _SAID["anywhere"][m["of"]] + ("." if m["end"] is not None else ""),
        ),
        Rule("abbreviation", r"(?<=\w) v\.? (?=[A-Z][a-z])", " versus "),
        Rule("abbreviation", r"\bw/in\b", "within"),
        Rule("abbreviation", r"\bp\. ?(?=\d)", "page "),
        Rule("abbreviation", r"(?<![\w.])(?:[A-Z][a-z]{0,2}\.){2,5}(?P<end>\s*$)?(?![\w.])", _titles),
        Rule("letters", rf"(?<![\w-])(?!(?:{_LETTERED})\d)(?P<a>[A-Z]{{2,3}})(?P<n>\d{{1,2}})(?![\w-])", lambda m: f"{' '.join(m['a'])} {m['n']}"),
        Rule("color", r"#(?P<n>(?=[0-9A-Fa-f]*[A-Fa-f])[0-9A-Fa-f]{6}|[A-F]{3})\b", lambda m: f"hash {' '.join(m['n'].upper())}"),
        Rule("less", r"(?<![\w)\]\"])(?P<sign>[<>]=?|~|≈) ?(?=[$€£₩]?\d)", lambda m: _ABOUT[m["sign"]]),
        Rule("ratio", r"\b(?P<a>[A-Z]):(?P<b>[A-Z])\b(?!:)", "{a} to {b}"),
        Rule("function", r"(?<![\w(])(?P<f>[fghFGH])\((?P<x>\w{1,3})\)", "{f} of {x}"),
        Rule("factorial", r"(?<!\w)(?P<n>[a-z]|\d{1,2})!(?= ?[a-z=<>+*/-])", "{n} factorial"),
        Rule("every", r"\b[qQ](?P<n>\d{1,2})[hH]\b", "every {n} hours"),
        Rule(
            "digits",
            r"(?<!\d)\d{5}-\d{4}(?![\d-])|(?<=\b[Zz][Ii][Pp] code )\d{5}\b|(?<=\b[Cc]all )\d{3}\b(?![-,.]\d)|(?<=\b[Dd]ial )\d{3}\b(?![-,.]\d)",
            _spaced,
        ),
        Rule("pronoun", r"\b(?P<a>[Hh]e|[Hh]is|[Hh]im|[Ss]he|[Hh]er)/(?P<b>she|he|hers|her|him|his)\b", "{a} or {b}"),
        Rule("not", r"(?<![\w!])!(?=[A-Za-z(])", "not "),
        Rule("digits", r"\d{16,}", lambda m: " ".join(m[0])),
        Rule("number", r"(?<![\w.])\d{1,3}(?:_\d{3})+(?![\w])", lambda m: m[0].replace("_", ",")),
        Rule("comparison", r"(?<=[\w)\]\"]) (?P<sign><=|>=|[<>]) (?=[\w(])|(?<=(?<!\w)\w)(?P<tight><=|>=|[<>])(?=\w\b(?!>))", _comparison),
        Rule("minus", r"(?<![\w)\]-])[-−](?=[$€£₩]?\d)", "minus "),
        Rule("per", r"(?<=[a-z])/(?=(?:second|minute|hour|day|week|month|quarter|year|user|person)\b)", " per "),
        Rule("complexity", r"\b([OΘΩ]) ?\(((?:[^()\n]|\([^()\n]*\)){1,40})\)", _order),
        Rule("version", r"\b[vV](?P<n>\d+(?:\.\d+){2,})", lambda m: "v" + " point ".join(m["n"].split("."))),
        Rule("dotted number", r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]\w)|(?<![\w.])\d+(?:\.\d+){2,}", lambda m: " dot ".join(m[0].split("."))),
        Rule("version", rf"(?:{_VERSIONED})(\d+)\.(\d+)(?![\d.]\d|\d)", lambda m: f"{m[1]} point {m[2]}"),
        Rule("decimal", r"(?<![\w.,])(\d+)\.(\d*0)(?![\w.]\d|\d)", lambda m: f"{m[1]} point {' '.join(m[2])}"),
        Rule("file", rf"\b([A-Za-z][\w-]{{0,63}})\.({_FILE_ENDINGS})\b(?!\.?\w)", _file),
        Rule("times", r"(?<![\w.])(\d+(?:\.\d+)?)[xX](?!\w| ?[-+−=*/^²³])", lambda m: f"{m[1]} times"),
        Rule("thousands", r"(?<![\w.$£€¥₩])(\d+(?:\.\d+)?)([kKMB])(?=\s+[a-z]|[,.?!;:]|\s*$)", _thousands),
        Rule("sign", any_sign, lambda m: f" {_SIGNS[m[0]]} "),
        Rule("star", r"(?<=[\w)])\s\*\s(?=[\w(])|(?<=\d)\*(?=\d)", " times "),
        Rule("call", r"(?<=\w)\(\)", ""),
        Rule("number sign", r"\s?#\s(?=\S)", ", "),
        Rule("number sign", r"(?<!\w)#(?=\d)", "number "),
        Rule("slash", r"(?<=\b[Aa]nd)/(?=or\b)", " "),
        Rule("slash", r"\b([A-Z]{1,4})/(?=[A-Z]{1,4}\b)", lambda m: f"{m[1]}, "),
        Rule("pronoun", r"\bs/he\b", "he or she", re.I),
        Rule("Hangul", r"[가-힣]+", lambda m: romanize(m[0])),
        Rule("mark", r"[\[\]{}<>\\^~`|](?!\d)", " "),
    )


def _spaced(match: re.Match[str]) -> str:
    return ", ".join(" ".join(group) for group in match[0].split("-"))


def _signed(digits: str) -> str:
    return digits.replace("-", "minus ").lstrip("+")


def _superscript(match: re.Match[str]) -> str:
    digits = "".join(str(unicodedata.digit(char)) for char in match["n"] if char not in "⁻⁺")
    if match["n"] in ("²", "³"):
        return f"{match['a']} {'squared' if digits == '2' else 'cubed'}"
    return f"{match['a']} to the power of {'minus ' if '⁻' in match['n'] else ''}{digits}"


def _hyphened(match: re.Match[str]) -> str | None:
    return None if _is_place(match) else f"{match['a']} to {match['b']}"


def _is_place(match: re.Match[str]) -> bool:
    """Room 3-204, Apt. 4B."""
    return _PLACE.search(match.string[max(0, match.start() - 12) : match.start()]) is not None


def _date(match: re.Match[str]) -> str:
    return english_numbers.date(match["y"], int(match["m"]), int(match["d"]))


def _phone(match: re.Match[str]) -> str | None:
    groups = re.findall(r"\d+", match[0])
    if not 7 <= sum(map(len, groups)) <= 15:
        return None
    said = ", ".join(" ".join(group) for group in groups)
    return ("plus " if "+" in match[0] else "") + said


def _slashed(match: re.Match[str]) -> str | None:
    """Month first, as Americans write it, unless that is no month."""
    first, second = int(match["a"]), int(match["b"])
    month, day = (first, second) if first <= 12 else (second, first)
    year = match["y"] if len(match["y"]) == 4 else ("20" if match["y"] < "50" else "19") + match["y"]
    return english_numbers.date(year, month, day) if 1 <= month <= 12 and 1 <= day <= 31 else None


def _short_date(match: re.Match[str]) -> str:
    return f"{match['of']} {english_numbers.MONTHS[int(match['m']) - 1]} {english_numbers.ordinal(int(match['d']))}"


def _full(month: str) -> str:
    return _SHORT_MONTHS.get(month, month)


def _of(year: str | None) -> str:
    """2021 and '21 behind a month."""
    digits = (year or "").strip(" '’")
    if len(digits) == 2:
        return f" {'oh ' if digits[0] == '0' else ''}{english_numbers.below_hundred(int(digits))}"
    return f" {english_numbers.year(digits)}" if digits else ""


def _day_first(match: re.Match[str]) -> str:
    article = "" if match.string[max(0, match.start() - 4) : match.start()] in ("the ", "The ") else "the "
    return f"{article}{english_numbers.ordinal(int(match['d']))} of {_full(match['month'])}{',' if match['y'] else ''}{_of(match['y'])}"


def _months(match: re.Match[str]) -> str:
    return f"{_full(match['a'])}{_of(match['y'])} to {_full(match['b'])}{_of(match['y2'])}"


def _numbered_months(match: re.Match[str]) -> str:
    said = english_numbers.MONTHS[int(match["m"]) - 1] + _of(match["y"])
    if match["now"]:
        return f"{said} to {match['now']}"
    return f"{said} to {english_numbers.MONTHS[int(match['m2']) - 1]}{_of(match['y2'])}" if match["m2"] else said


def _short_month(match: re.Match[str]) -> str | None:
    """Mar of Mar 2021, but not of Mar, who may be a person."""
    if not match["y"] and not match["day"] and match[0][-1] != ".":
        return None
    return _full(match["a"]) + _of(match["y"])


def _year(match: re.Match[str]) -> str:
    return f"{match['of']} {english_numbers.year(match['y'])}"


def _weekdays(match: re.Match[str]) -> str:
    said = re.sub(r" ?[-–~] ?", " to ", match[0])
    return re.sub(rf"\b(?:{_WEEKDAY})\b", lambda day: _WEEKDAYS[day[0]], re.sub(" ?/ ?", ", ", said))


def _times(match: re.Match[str]) -> str | None:
    """9-5 is more often a score than a time."""
    return f"{match['a']} to {match['b']}" if re.search("[:mM]", match["a"] + match["b"]) else None


def _full_hour(match: re.Match[str]) -> str:
    """8:00 and 12:01, whose zeros an espeak-ng voice would count."""
    hour = str(int(match["h"]))
    if match["m"] != "0":
        return f"{hour} oh {match['m']}"
    return hour if match["half"] else f"{hour} o'clock" if int(hour) <= 12 else f"{hour} hundred"


def _is_adjective(match: re.Match[str]) -> bool:
    """Of a measure: a 10 kilogram box, but 10 kilograms."""
    return _ARTICLE.search(match.string[max(0, match.start() - 4) : match.start()]) is not None and _NOUN.match(match.string, match.end()) is not None


def _money(match: re.Match[str]) -> str:
    return _amount(match["coin"], match["n"], match["big"], _is_adjective(match)) + _per(match)


def _per(match: re.Match[str]) -> str:
    return f" per {_PER.get(match['per'], match['per'])}" if match["per"] else ""


def _money_range(match: re.Match[str]) -> str:
    """$5-10M is all millions, $800K-$1M is not."""
    after = _amount(match["coin"], match["n"], match["big"], _is_adjective(match)) + _per(match)
    if match["again"] or (match["big_a"] and match["big_a"] != match["big"]):
        return f"{_amount(match['coin'], match['a'], match['big_a'])} to {after}"
    return f"{match['a']} to {after}"


def _amount(sign: str, number: str, big: str | None, adjective: bool = False) -> str:
    coin = _COINS.get(sign) or _CODES[sign]
    big = _BIG.get(big or "", big or "")
    whole, _, cents = number.partition(".")
    plural = coin if adjective or coin in _ALIKE else coin + "s"
    if not big and len(cents) == 2 and coin.split()[-1] in ("dollar", "euro", "pound"):
        penny, pennies = ("penny", "pence") if coin == "pound" else ("cent", "cents")
        small = f"{int(cents)} {penny if adjective or cents == '01' else pennies}"
        if cents != "00" and whole == "0":
            return small
        said = f"{whole} {coin if whole == '1' else plural}"
        return said if cents == "00" else f"{said} and {small}"
    return f"{number} {big} {plural}" if big else f"{number} {coin if number == '1' else plural}"


def _and_part(whole: str, above: int, below: int) -> str:
    part = english_numbers.fraction(above, below)
    return f"{whole} and {'a ' + part.removeprefix('one ') if above == 1 else part}"


def _mixed(match: re.Match[str]) -> str | None:
    above, below = int(match["a"]), int(match["b"])
    return _and_part(match["whole"], above, below) if above < below else None


def _mark(match: re.Match[str]) -> str | None:
    """4.5/5 and 34/36 are out of the best; 120/80 is a blood pressure; 50/50 and 9/11 are neither."""
    above, below = float(match["a"]), float(match["b"])
    if "." in match["a"] or (12 < above < below and above + below != 100) or above == below >= 100:
        return f"{match['a']} out of {match['b']}"
    return f"{match['a']} over {match['b']}" if 70 <= above <= 260 and 30 <= below <= 160 and below < above else None


def _size(match: re.Match[str]) -> str | None:
    """100×80 mm, 1920x1080; 3 × 4 is left to be multiplied."""
    sides = [match["a"], match["b"], *([match["c"]] if match["c"] else [])]
    if not match["unit"] and len(sides) == 2 and min(len(side) for side in sides) < 3 and not re.search(r"\dx\d", match[0]):
        return None
    unit = _UNITS[match["unit"]] if match["unit"] else ""
    return " by ".join(sides) + f" {_singular(unit) if _is_adjective(match) else unit}".rstrip()


def _titles(match: re.Match[str]) -> str | None:
    """Ph.D. and M.Sc. letter by letter; U.S. is read well by itself."""
    letters = re.findall("[A-Za-z]", match[0])
    if not any(letter.islower() for letter in letters):
        return None
    return " ".join(letters).upper() + ("." if match["end"] is not None else "")


def _fraction(match: re.Match[str]) -> str:
    """2/3 is a number, 8/10 a mark; 7/15 and 24/7 are whatever the two numbers mean."""
    above, below = int(match["a"]), int(match["b"])
    if 0 < above <= below == 10:
        return f"{above} out of {below}"
    return english_numbers.fraction(above, below) if 0 < above < below < 10 else f"{above} {below}"


def _singular(said: str) -> str:
    first, _, rest = said.partition(" ")
    if first in ("square", "cubic", "newton", "basis", "percentage", "milliamp", "amp", "kilowatt", "megawatt", "watt"):
        return f"{first} {_singular(rest)}"
    first = {"feet": "foot", "inches": "inch"}.get(first, first.removesuffix("s") if first != "hertz" else first)
    return f"{first} {rest}".strip()


def _unit(match: re.Match[str]) -> str | None:
    number, unit = match["n"], match["unit"]
    if unit == "s" and match[0][-2].isdecimal() and "." not in number:
        return None  # people in their 20s, the iPhone 5s
    if unit == "in" and f"{number}in" not in match[0]:
        return None  # 3 in 2024
    if unit in ("g", "V") and match[0] in ("3g", "4g", "5g", "6g"):
        return None
    is_tight = match[0] == number + unit or "," in number
    if (
        unit == "m"
        and is_tight
        and not _LONG.match(match.string, match.end())
        and not (_is_adjective(match) and not _MANY.match(match.string, match.end()))
    ):
        return None  # 3m users are millions
    if unit == "bps" and ("," in number or float(number) > 300):
        return None  # 9600 of them are bits a second
    said = _UNITS[unit]
    if number == "1" and not match["more"] or _is_adjective(match):
        said = _singular(said)
    if "." in number and number[-1] == "0":
        number = f"{number.partition('.')[0]} point {' '.join(number.partition('.')[2])}"
    return f"{number}{' plus' if match['more'] else ''} {said}{_per(match)}{', ' if match['next'] else ''}"


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


def _thousands(match: re.Match[str]) -> str | None:
    return None if _is_place(match) else f"{match[1]} {_TIMES[match[2]]}"
