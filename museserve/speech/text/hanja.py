"""Hanja as Korean reads them."""

from __future__ import annotations

import re
from functools import cache

from museserve.speech.text.hangul import CODAS, ONSETS, VOWELS, compose
from museserve.speech.text.tables import table

HANJA = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")


@cache
def _readings() -> dict[str, str]:
    return {char: reading for reading, chars in table("hanja").items() for char in chars}


def read_hanja(word: str) -> str | None:
    """`word`, of Hanja alone, in Hangul; None where one of them is not known."""
    readings = [_readings().get(char, "") for char in word]
    if not all(readings):
        return None
    return _initial(readings[0]) + "".join(_after(readings[i - 1], readings[i]) for i in range(1, len(readings)))


def _parts(syllable: str) -> tuple[str, str, str]:
    index = ord(syllable) - 0xAC00
    return ONSETS[index // 588], VOWELS[index // 28 % 21], CODAS[index % 28]


def _initial(syllable: str) -> str:
    """No word begins with a ㄹ, nor with a ㄴ before an i or a y: 女子 is 여자, 勞動 is 노동."""
    onset, vowel, coda = _parts(syllable)
    narrow = vowel in "ㅑㅕㅖㅛㅠㅣ"
    if onset == "ㄹ":
        onset = "ㅇ" if narrow else "ㄴ"
    elif onset == "ㄴ" and narrow:
        onset = "ㅇ"
    return compose(onset, vowel, coda)


def _after(before: str, syllable: str) -> str:
    """律 and 列 lose their ㄹ behind a vowel or ㄴ, too: 比率 is 비율, 先列 is 선열."""
    if syllable in "률렬" and _parts(before)[2] in " ㄴ":
        return _initial(syllable)
    return syllable
