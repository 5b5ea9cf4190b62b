"""Drop what nobody speaks (emoji, control characters, Markdown, tags of HTML and SSML) and remember where the rest was."""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import NewType

# Text as `canonical` gives it, of which `is_heard` is true.
Speakable = NewType("Speakable", str)

MARKS = 30  # combining marks in a row
_KEPT_SYMBOLS = "°℃℉№©®™△▽▼"  # of category So, where the emoji are
_KEPT_SQUARES = ("\u3200", "\u33ff")  # ㈜ and ㎡, too
_SILENT = {"Cc": " ", "Cn": "", "Co": "", "Cs": "", "Cf": "", "So": " ", "Me": "", "Zl": "\n", "Zp": "\n", "Zs": " "}
_MAYBE_MARKDOWN = re.compile(r"[*`~_|#>&\[•‣▪·]|(?:^|\n)[ \t]*[-+=]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")

# Markdown. The group "drop" goes, the rest of the match stays.
_LINK = re.compile(
    r"(?P<open>!?\[)(?=[^\w\[\]\n]*\w[^\[\]\n]*\]\()[^\[\]\n]*(?P<drop>\]\((?:[^()\s]|\([^()\s]*\))*(?:[ \t]+(?:\"[^\"\n]*\"|'[^'\n]*'))?\))"
)
# HTML and SSML, by name: List<String> is neither. Where a tag parts words, a space stays.
_TAG = re.compile(
    r"<!--.{0,1000}?-->|<(?:/?(?:abbr|audio|big|body|cite|code|del|em|emphasis|figure|font|head|html|ins|kbd|lang|main|mark|phoneme|pre|prosody|samp|say-as|small|span|"
    r"speak|strike|strong|sub|summary|sup|token|tt|var|voice)|/(?:[abiqsuw])|(?<![A-Za-z0-9_]<)[abiqsuw])(?:\s[^<>]*)?/?>"
    r"|(?P<parts></?(?:blockquote|br|break|dd|div|dl|dt|footer|h[1-6]|header|hr|img|li|nav|ol|p|section|table|tbody|td|th|thead|title|tr|ul)(?:\s[^<>]*)?/?>)",
    re.I | re.S,
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_MARKDOWN = (
    # the start of a heading, list item or quotation; a ruler, a fence
    re.compile(r"(?m)^[ \t]*(?P<drop>(?:>[ \t]?)*(?:#{1,6}[ \t]+|[-*+•‣▪·][ \t]+|(?:>[ \t]?)+|(?:[-*_=][ \t]?){3,}$|`{3,}[^\n`]*$|~{3,}[^\n~]*$))"),
    re.compile(r"(?P<drop>`+|(?<![0-9*])\*{2,}|(?<=[0-9])\*\*(?![0-9])|(?<=[0-9])\*{3,}|~~)"),  # 2**10 keeps its stars
    # one star as emphasis; "a * b" and "3*4" keep theirs
    re.compile(r"(?P<drop>(?<![\w)\s*])\*|\*(?![\w(\s*])|(?<!\S)\*(?=\S)|(?<=\S)\*(?!\S)|(?<=[^\W\d])\*(?=[^\W\d]))"),
    re.compile(r"(?P<drop>(?<!\w)_+|(?<!_)_+(?!\w))"),
    re.compile(r"(?P<drop>\|)"),
)


@dataclass(frozen=True)
class Cleaned:
    """`text[i]` came from `source[starts[i]:ends[i]]`."""

    text: str
    starts: list[int]
    ends: list[int]


def clean(source: str) -> Cleaned:
    dropped, ends_at, instead = _markup(source) if _MAYBE_MARKDOWN.search(source) else (bytearray(len(source)), {}, {})
    text: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for i, char in enumerate(source):
        if i in instead:
            said = "".join(char if char.isascii() and char >= " " else _spoken_char(char) for char in instead[i])
            text.extend(said)
            starts.extend([i] * len(said))
            ends.extend([ends_at[i]] * len(said))
            continue
        if dropped[i]:
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


def _markup(source: str) -> tuple[bytearray, dict[int, int], dict[int, str]]:
    """A flag for each character that goes, where single characters end that stand for more, and what stands in the place of some.

    A link's target belongs to its text.
    """
    dropped = bytearray(len(source))
    ends_at: dict[int, int] = {}
    instead: dict[int, str] = {}
    for match in _TAG.finditer(source):
        a, b = match.span()
        dropped[a:b] = b"\1" * (b - a)
        if match["parts"]:
            instead[a], ends_at[a] = " ", b
    for match in _ENTITY.finditer(source):
        a, b = match.span()
        if (meant := html.unescape(match[0])) != match[0] and not dropped[a]:
            dropped[a:b] = b"\1" * (b - a)
            instead[a], ends_at[a] = meant, b
    for match in _LINK.finditer(source):
        ends_at[match.start("drop") - 1] = match.end()
        for group in ("open", "drop"):
            a, b = match.span(group)
            dropped[a:b] = b"\1" * (b - a)
    for pattern in _MARKDOWN:
        for match in pattern.finditer(source):
            a, b = match.span("drop")
            dropped[a:b] = b"\1" * (b - a)
    return dropped, ends_at, instead


@lru_cache(8192)
def _spoken_char(char: str) -> str:
    """The character itself, a space or line break in its place, or nothing."""
    if char in "\n\t\r":
        return "\n" if char == "\n" else " "
    if char in _KEPT_SYMBOLS or _KEPT_SQUARES[0] <= char <= _KEPT_SQUARES[1]:
        return char
    if "\uff01" <= char <= "\uff5e":  # full width forms of ASCII
        plain = chr(ord(char) - 0xFEE0)
        return char if plain in "!?,.:;" else plain
    if "\U0001f3fb" <= char <= "\U0001f3ff" or "\ufe00" <= char <= "\ufe0f":
        return ""
    return _SILENT.get(unicodedata.category(char), char)


def canonical(text: str) -> str:
    """`text` in NFC, without halves of surrogate pairs and, after any character, without more marks than `MARKS`."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _stream_safe(_SURROGATES.sub("", text)))


def _stream_safe(text: str) -> str:
    """Unicode's Stream-Safe Text (UAX 15, 13): to put marks in order takes time that grows with the square of their run."""
    kept, run = [], 0
    for char in text:
        run = run + 1 if unicodedata.combining(char) else 0
        if run <= MARKS:
            kept.append(char)
    return "".join(kept)


def is_heard(text: str) -> bool:
    """Whether anything in `text`, as somebody wrote it, can be heard."""
    return is_speakable(clean(text.strip()).text)


def is_speakable(text: str) -> bool:
    """Whether anything in `text`, cleaned, can be heard: a letter or a digit."""
    return any(char.isalnum() for char in text)
