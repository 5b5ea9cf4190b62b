"""Japanese as it is pronounced, in katakana, the only letters of it that a voice reads: by haqumei, of the extra `ja`."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING

from museserve.speech.text.rewrite import Rule

if TYPE_CHECKING:
    from haqumei import Haqumei

KANJI = re.compile(r"[々\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
FURIGANA = Rule("furigana", r"(?<=[々\u3400-\u4dbf\u4e00-\u9fff])[(（][ぁ-ゖァ-ヺー]+[)）]", "")  # the reading of what stands before it
_LETTER = re.compile("[ァ-ヺ]")
_SILENT = re.compile(r"[^\w、。，．！？,.!?\s]")


def is_read() -> bool:
    """Whether kanji can be read here."""
    return find_spec("haqumei") is not None


def version() -> str:
    """Of the readings, behind a space; "" where there are none."""
    return f" haqumei-{metadata.version('haqumei')}" if is_read() else ""


class Reading:
    """A `Finder` of phrases, each in katakana: 今日は -> キョーワ."""

    name = "reading"

    def find(self, text: str, pos: int) -> tuple[int, int, str] | None:
        return next((found for found in _phrases(text) if found[0] >= pos), None)


@lru_cache(64)
def _phrases(text: str) -> list[tuple[int, int, str]]:
    """(first, last, katakana) of what is heard as one; signs are left out."""
    words = [word for word in _library().g2p_mapping(text) if word.word.strip()]
    features = _library().run_frontend(text)
    if len(words) != len(features):
        return [(0, len(text), _kana(_library().g2k(text)))]
    phrases: list[tuple[int, int, str]] = []
    for word, feature in zip(words, features, strict=True):
        first, last = word.char_span
        said = _kana(feature.pron)
        if not _LETTER.search(said):  # a sign, or a word of another script
            if last > first and word.word in "−ー―-":  # between the groups of a phone
                phrases.append((first, last, "、"))
            continue
        if phrases and (feature.chain_flag == 1 or first == last) and phrases[-1][1] == first and phrases[-1][2] != "、":
            phrases[-1] = (phrases[-1][0], last, phrases[-1][2] + said)
        elif last > first:
            phrases.append((first, last, f" {said}"))
    return phrases


def _kana(said: str) -> str:
    return _SILENT.sub("", said).replace("ヲ", "オ")


@lru_cache(1)
def _library() -> Haqumei:
    """A second and 150 MB, for whoever is asked for Japanese."""
    from haqumei import Haqumei

    return Haqumei()
