"""How English words sound, from the pronunciation list that comes with the hibari voice."""

from __future__ import annotations

import gzip
import json
import re
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

MIN_PART = 3  # letters of the shorter half of a compound
MAX_LETTERS = 24  # longer ones are no words
_ENTRY = re.compile(r"[A-Za-z]+")


@lru_cache(4096)
def pronounce(word: str) -> str | None:
    """American pronunciation of a lower-case word in hibari's phoneme letters (A is the vowel of "day"), without stress,
    "-" between the halves of a compound; None when unknown.

    Inflected forms and compounds (timeouts, autoscaling) are put together from what is listed.
    """
    if len(word) > MAX_LETTERS:
        return None
    if said := _listed(word):
        return said
    for ending, sounds in (("s", "z"), ("es", "ɪz"), ("ing", "ɪŋ"), ("ed", "d"), ("er", "əɹ"), ("ers", "əɹz"), ("able", "əbᵊl")):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= MIN_PART:
            for base in (stem, stem + "e", stem[:-1] if stem[-1] == stem[-2] else stem):
                if said := _listed(base):
                    return said + _after(said, ending, sounds)
    for cut in range(len(word) - MIN_PART, MIN_PART - 1, -1):
        first, second = _listed(word[:cut]), _listed(word[cut:])
        if first and second:
            return f"{first}-{second}"
    return None


def _after(said: str, ending: str, sounds: str) -> str:
    if ending == "s" and said[-1] in "ptkfθ":
        return "s"
    if ending == "ed":
        return "ɪd" if said[-1] in "td" else "t" if said[-1] in "pkfsʃʧ" else "d"
    return sounds


def _listed(word: str) -> str | None:
    words = _words()
    at = words.find(f"\n{word}\t")
    if at < 0:
        return None
    start = at + len(word) + 2
    return words[start : words.index("\n", start)]


@cache
def _words() -> str:
    """The list as one text of "word<tab>phonemes" lines: 3 MB, a tenth of what a dict of it takes. Empty without hibari."""
    spec = find_spec("hibari")
    path = Path(spec.origin).with_name("assets") / "lexicon_us_gold.json.gz" if spec and spec.origin else None
    if path is None or not path.exists():
        return "\n"
    lines: dict[str, str] = {}
    for word, said in json.loads(gzip.decompress(path.read_bytes())).items():
        if isinstance(said, dict):  # by part of speech
            said = said.get("DEFAULT")
        if said and _ENTRY.fullmatch(word) and (word.islower() or (word.istitle() and word.lower() not in lines)):
            lines[word.lower()] = re.sub("[ˈˌː]", "", said)
    return "\n" + "".join(f"{word}\t{said}\n" for word, said in lines.items())
