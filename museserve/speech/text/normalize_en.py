"""What the English voice reads wrong by itself. Numbers, dates, times, money, units, fractions and ranges it knows; those stay as written."""

from __future__ import annotations

import re
from functools import cache

from museserve.speech.text.hangul import romanize
from museserve.speech.text.rewrite import Finder, Rule
from museserve.speech.text.tables import table

_SIGNS: dict[str, str] = table("normalize_en")
_SHORT_ENDINGS = {"py": "pie", "js": "J S", "ts": "T S", "md": "M D", "sh": "S H", "yml": "yammel", "yaml": "yammel", "cpp": "C P P", "rs": "R S"}
_FILE_ENDINGS = "py|js|ts|tsx|jsx|md|sh|yml|yaml|json|html|css|cpp|rs|go|java|txt|csv|xml|sql|toml|ini|exe|png|jpg|pdf"
_TIMES = {"k": "thousand", "K": "thousand", "M": "million", "B": "billion"}
_VERSIONED = r"(?<=\bv)|(?<=\bversion )|(?<=\bVersion )|(?<=\bPython )|(?<=\bJava )|(?<=\bNode )|(?<=\bRuby )|(?<=\bGo )|(?<=\bTLS )|(?<=\bPHP )"


@cache
def english_rules() -> tuple[Finder, ...]:
    any_sign = "|".join(re.escape(sign) for sign in sorted(_SIGNS, key=len, reverse=True))
    return (
        Rule("address", r"(?:https?://|www\.)[^\s<>\"]+", _address),
        Rule("mail", r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+", _mail),
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
