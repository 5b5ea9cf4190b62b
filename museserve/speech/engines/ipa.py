"""Phoneme signs of the voices in one spelling: bare IPA letters, stress apart."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

STRESS = {"ˈ": 1, "ˌ": 2}

# Signs that stand for other letters: ligatures, ASCII look-alikes, what Kokoro's alphabet and espeak-ng invented.
_SPELLINGS = {
    "g": "ɡ",
    "ʧ": "tʃ",
    "ʤ": "dʒ",
    "ʨ": "tɕ",
    "ʥ": "dʑ",
    "ʦ": "ts",
    "ʣ": "dz",
    "ᵊ": "ə",
    "ᵻ": "ɪ",
    "A": "eɪ",
    "I": "aɪ",
    "O": "oʊ",
    "Q": "əʊ",
    "W": "aʊ",
    "Y": "ɔɪ",
    "T": "ɾ",
}


@lru_cache(maxsize=4096)
def bare(symbol: str) -> tuple[str, int]:
    """Letters and stress of one sound: "ˈɑː" -> ("ɑ", 1), "t͡ʃʰ" -> ("tʃ", 0). Signs without a letter give ("", stress)."""
    stress = max((STRESS.get(char, 0) for char in symbol), key=lambda s: (s == 1, s), default=0)
    letters = []
    for char in unicodedata.normalize("NFC", symbol):
        if char in _SPELLINGS:
            letters.append(_SPELLINGS[char])
        elif unicodedata.category(char) in ("Ll", "Lo"):  # modifier letters, combining marks and punctuation fall away
            letters.append(char)
    return "".join(letters), stress


def is_letter(char: str) -> bool:
    """True for a sign that is a sound of its own, False for stress, length, blanks and punctuation."""
    return bool(bare(char)[0])
