"""Drop what nobody speaks (emoji, control characters, Markdown) and remember where the rest was."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_KEPT_SYMBOLS = "°℃℉№©®™"  # of category So, where the emoji are
_SILENT = {"Cc": " ", "Cn": "", "Co": "", "Cs": "", "Cf": "", "So": " ", "Me": "", "Zl": "\n", "Zp": "\n", "Zs": " "}
_PLAIN = re.compile(r"""[\w \n.,?!:;'"()\-%/+&@=$’“”]*""", re.ASCII)

# Markdown. Each group "drop" goes; the rest of the match stays.
_MARKDOWN = (
    re.compile(r"(?m)^[ \t]*(?P<drop>(?:>[ \t]?)*(?:#{1,6}[ \t]+|[-*+•‣▪·][ \t]+|(?:>[ \t]?)+|(?:[-*_=][ \t]?){3,}$|`{3,}[^\n`]*$|~{3,}[^\n~]*$))"),
    re.compile(r"!?\[(?=[^\[\]\n]*\w[^\[\]\n]*\]\()[^\[\]\n]*(?P<drop>\]\([^()\s]*\))"),
    re.compile(r"(?P<drop>`+|\*{2,}|~~)"),
    re.compile(r"(?P<drop>(?<![\w)\s])\*|\*(?![\w(\s])|(?<!\S)\*(?=\S)|(?<=\S)\*(?!\S)|(?<=[^\W\d])\*(?=[^\W\d]))"),
    re.compile(r"(?P<drop>(?<!\w)_+|_+(?!\w))"),
    re.compile(r"(?P<drop>\|)"),
)


@dataclass(frozen=True)
class Cleaned:
    """`text[i]` came from `source[starts[i]:ends[i]]`."""

    text: str
    starts: list[int]
    ends: list[int]


def clean(source: str) -> Cleaned:
    drops = bytearray(len(source))  # 1 = this character goes
    ends_at: dict[int, int] = {}
    for pattern in _MARKDOWN if not _PLAIN.fullmatch(source) or "\n" in source or "_" in source or "-" in source or "+" in source else ():
        for match in pattern.finditer(source):
            a, b = match.span("drop")
            drops[a:b] = b"\1" * (b - a)
            if match.re is _MARKDOWN[1]:
                drops[match.start() : match.start() + (2 if source[match.start()] == "!" else 1)] = b"\1\1"[
                    : 2 if source[match.start()] == "!" else 1
                ]
                ends_at[a - 1] = b  # a link's target belongs to its text
    text: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for i, char in enumerate(source):
        if drops[i]:
            if char != "|":
                continue
            char = " "
        elif not char.isascii() or char < " ":
            char = _spoken_char(char)
            if not char:
                continue
        text.append(char)
        starts.append(i)
        ends.append(ends_at.get(i, i + 1))
    return Cleaned("".join(text), starts, ends)


@lru_cache(8192)
def _spoken_char(char: str) -> str:
    """The character itself, a space or line break in its place, or nothing."""
    if char in "\n\t\r":
        return "\n" if char == "\n" else " "
    if char in _KEPT_SYMBOLS:
        return char
    if "\uff01" <= char <= "\uff5e":  # full width forms of ASCII
        plain = chr(ord(char) - 0xFEE0)
        return char if plain in "!?,.:;" else plain
    if "\U0001f3fb" <= char <= "\U0001f3ff" or "\ufe00" <= char <= "\ufe0f":
        return ""
    return _SILENT.get(unicodedata.category(char), char)


def is_speakable(text: str) -> bool:
    """Whether anything in `text` can be heard: a letter or a digit."""
    return any(char.isalnum() for char in text)
