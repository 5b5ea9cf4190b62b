"""Letters that a voice cannot read, in Latin ones: a Han character in an English question, Cyrillic in a Korean one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from anyascii import anyascii

from museserve.speech.text import language as languages

RULE = "other script"
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


class OtherScript:
    """A `Finder` of words in scripts that the voice of `language` cannot read. say: how the Latin letters are said."""

    name = RULE

    def __init__(self, language: str, say: Callable[[str], str] = str) -> None:
        self._reads = languages.scripts(language)
        self._say = say

    def find(self, text: str, pos: int) -> tuple[int, int, str] | None:
        while begin := _NOT_ASCII.search(text, pos):
            start = end = begin.start()
            while end < len(text) and (self._is_other(text[end]) or (end > start and unicodedata.category(text[end])[0] == "M")):
                end += 1
            if end > start:
                return start, end, " ".join(self._say(word.lower()) for word in re.findall("[A-Za-z0-9]+", anyascii(text[start:end])))
            pos = start + 1
        return None

    def _is_other(self, char: str) -> bool:
        return not char.isascii() and (found := script(char)) != "" and found not in self._reads


@lru_cache(8192)
def script(char: str) -> str:
    """The script of a letter, as its Unicode name begins; "" for what is no letter, or no sound of its own (the 々 of 人々)."""
    if not char.isalpha() or (unicodedata.category(char) == "Lm" and not is_styled(char)):
        return ""
    if char < "\u0250":  # º and µ, too
        return "LATIN"
    first, _, rest = unicodedata.name(char, "OTHER").partition(" ")
    return rest.partition(" ")[0] if first in ("HALFWIDTH", "FULLWIDTH") else first


def is_styled(text: str) -> bool:
    """Whether `text` is of Latin letters in a dress of their own: 𝐇𝐞𝐥𝐥𝐨."""
    return unicodedata.normalize("NFKC", text).isascii() and not text.isascii()


def is_unread(text: str) -> bool:
    """Whether all letters of `text` are of scripts that no voice reads."""
    letters = [char for char in text if char.isalpha()]
    return bool(letters) and not any(script(char) in languages.SCRIPTS or is_styled(char) for char in letters)
