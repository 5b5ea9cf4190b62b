"""What the mouth does for each sound of the International Phonetic Alphabet.

A viseme is a target (amounts of opening, spreading, rounding) and its dominance over each of them: a `p` insists on
shut lips and hardly cares for the jaw, a `k` takes whatever its vowels leave.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache

logger = logging.getLogger(__name__)


class Kind(Enum):
    VOWEL = "vowel"
    GLIDE = "glide"
    CONSONANT = "consonant"
    CLOSURE = "closure"  # both lips meet: p b m
    TUCK = "tuck"  # lower lip meets the upper teeth: f v
    PAUSE = "pause"


@dataclass(frozen=True)
class Viseme:
    """Targets 0..1, and dominance over the jaw, over the lips up and down, and over their corners (1: a vowel's)."""

    kind: Kind
    jaw: float = 0.0
    lower_drop: float = 0.0
    upper_raise: float = 0.0
    wide: float = 0.0
    round: float = 0.0
    tongue: float = 0.0
    jaw_dominance: float = 1.0
    lip_dominance: float = 1.0
    corner_dominance: float = 1.0


# kind, jaw, lower_drop, upper_raise, wide, round, tongue; then the dominance over jaw, lips and corners
PAUSE = Viseme(Kind.PAUSE)

_OPEN = Viseme(Kind.VOWEL, 0.64, 0.15, 0.25, 0.10, 0.0)
_ASH = Viseme(Kind.VOWEL, 0.58, 0.25, 0.35, 0.40, 0.0)
_CUP = Viseme(Kind.VOWEL, 0.38, 0.15, 0.20, 0.05, 0.10)
_SCHWA = replace(Viseme(Kind.VOWEL, 0.19, 0.18, 0.18, 0.08, 0.05), jaw_dominance=0.6, lip_dominance=0.6, corner_dominance=0.5)
_DRESS = Viseme(Kind.VOWEL, 0.40, 0.25, 0.30, 0.40, 0.0)
_FLEECE = Viseme(Kind.VOWEL, 0.18, 0.45, 0.32, 0.65, 0.0)
_KIT = Viseme(Kind.VOWEL, 0.24, 0.35, 0.28, 0.45, 0.0)
_THOUGHT = Viseme(Kind.VOWEL, 0.48, 0.10, 0.15, 0.0, 0.60)
_GOOSE = Viseme(Kind.VOWEL, 0.18, 0.15, 0.10, 0.0, 0.90)
_FOOT = Viseme(Kind.VOWEL, 0.24, 0.18, 0.15, 0.0, 0.60)
_BARRED = Viseme(Kind.VOWEL, 0.18, 0.35, 0.22, 0.35, 0.0)

_LIPS = Viseme(Kind.CLOSURE, jaw_dominance=0.8, lip_dominance=3.0, corner_dominance=0.25)
_TEETH = Viseme(Kind.TUCK, jaw=0.07, wide=0.10, jaw_dominance=1.2, lip_dominance=3.0, corner_dominance=0.4)
_HISS = Viseme(Kind.CONSONANT, 0.05, 0.42, 0.32, 0.28, 0.0, 0.0, 2.2, 1.3, 0.5)
_HUSH = Viseme(Kind.CONSONANT, 0.07, 0.42, 0.38, 0.0, 0.55, 0.0, 2.2, 1.3, 1.2)
_TIP = Viseme(Kind.CONSONANT, 0.13, 0.22, 0.18, 0.10, 0.0, 0.8, 0.7, 0.35, 0.15)
_LATERAL = Viseme(Kind.CONSONANT, 0.20, 0.22, 0.18, 0.08, 0.0, 0.95, 0.5, 0.35, 0.15)
_DENTAL = Viseme(Kind.CONSONANT, 0.17, 0.25, 0.25, 0.10, 0.0, 1.0, 1.0, 0.8, 0.3)
_BACK = Viseme(Kind.CONSONANT, 0.22, 0.18, 0.15, 0.05, 0.0, 0.0, 0.45, 0.25, 0.12)
_BREATH = Viseme(Kind.CONSONANT, 0.25, 0.15, 0.15, 0.0, 0.0, 0.0, 0.12, 0.1, 0.05)
_YOD = Viseme(Kind.GLIDE, 0.13, 0.35, 0.25, 0.5, 0.0)
_WAW = Viseme(Kind.GLIDE, 0.10, 0.05, 0.02, 0.0, 1.0, jaw_dominance=1.8, corner_dominance=2.0)
_RHOTIC = Viseme(Kind.GLIDE, 0.17, 0.25, 0.20, 0.0, 0.42)

_GROUPS: tuple[tuple[str, Viseme], ...] = (
    ("a ɑ ɐ ɒ ɶ", _OPEN),
    ("æ", _ASH),
    ("ʌ ɜ ɞ ɘ", _CUP),
    ("ə ɚ ɝ ᵊ ᵻ", _SCHWA),
    ("ɛ e œ ø", _DRESS),
    ("i", _FLEECE),
    ("ɪ", _KIT),
    ("ɔ o", _THOUGHT),
    ("u y", _GOOSE),
    ("ʊ ʏ ɵ ʉ", _FOOT),
    ("ɯ ɨ ɤ", _BARRED),
    ("p b m ɓ ɸ β ʙ", _LIPS),
    ("f v ɱ ʋ ⱱ", _TEETH),
    ("s z ts dz ʦ ʣ", _HISS),
    ("ʃ ʒ tʃ dʒ tɕ dʑ ɕ ʑ ʂ ʐ tʂ dʐ ʧ ʤ ʨ ʥ ꭧ", _HUSH),
    ("t d n ɾ r ɗ ʈ ɖ ɳ ɽ T", _TIP),
    ("l ɫ ɭ ɬ ɮ ɺ", _LATERAL),
    ("θ ð", _DENTAL),
    ("k g ɡ ŋ ɠ q ɢ ɴ x ɣ χ ʁ ʀ ɲ ɟ c ç ʝ ʎ", _BACK),
    ("h ɦ ʔ ħ ʕ", _BREATH),
    ("j ɥ", _YOD),
    ("w ʍ ɰ", _WAW),
    ("ɹ ɻ", _RHOTIC),
)
TABLE: dict[str, Viseme] = {symbol: viseme for symbols, viseme in _GROUPS for symbol in symbols.split()}
# Front rounded vowels and glides keep their opening and round the lips; Korean's velar glide spreads them.
TABLE |= {
    "œ": replace(_DRESS, wide=0.0, round=0.55),
    "ø": replace(_DRESS, jaw=0.30, wide=0.0, round=0.65),
    "ɥ": replace(_YOD, wide=0.0, round=0.7),
    "ɰ": replace(_YOD, wide=0.35),
    "ɒ": replace(_OPEN, jaw=0.56, round=0.25, wide=0.0),
    "ɝ": replace(_CUP, round=0.30),
    "ɚ": replace(_SCHWA, round=0.25),
}
_SOUND = re.compile("|".join(sorted(TABLE, key=len, reverse=True)))
# Some alphabets write one letter for a whole diphthong (the one of Kokoro and misaki does).
_LETTERS = {"A": ("e", "ɪ"), "I": ("a", "ɪ"), "O": ("o", "ʊ"), "Q": ("ə", "ʊ"), "W": ("a", "ʊ"), "Y": ("ɔ", "ɪ")}


@lru_cache(maxsize=1024)
def visemes_of(symbol: str) -> tuple[Viseme, ...]:
    """The one or two visemes of a sound: two for a diphthong ("aɪ") or a syllable in one sign ("əl"). Pauses ("") give `(PAUSE,)`.

    Length, stress, aspiration and other marks are ignored; a sound that is not in the table falls back on what it is made of.
    """
    if not symbol.strip():
        return (PAUSE,)
    if symbol in _LETTERS:
        first, second = _LETTERS[symbol]
        return TABLE[first], TABLE[second]
    bare = _bare(symbol)
    if bare in TABLE:
        return (TABLE[bare],)
    parts = [TABLE[sound] for sound in _SOUND.findall(bare)]
    if not parts:
        fallback = _SCHWA if any(c in "aeiouy" for c in unicodedata.normalize("NFKD", symbol).lower()) else _BACK
        logger.debug("unknown sound %r: taken for a %s", symbol, fallback.kind.value)
        return (fallback,)
    vowels = [part for part in parts if part.kind is Kind.VOWEL]
    if len(vowels) >= 2:
        return vowels[0], vowels[-1]
    if vowels and len(parts) >= 2:
        return parts[0], parts[-1]
    return (parts[0],)


def _bare(symbol: str) -> str:
    """Letters alone: "tɕʰ" -> "tɕ", "ɑ̃" -> "ɑ", "aː" -> "a"; "ç" stays one letter."""
    composed = unicodedata.normalize("NFC", symbol)
    return "".join(c for c in composed if c in TABLE or (unicodedata.category(c)[0] == "L" and unicodedata.category(c) != "Lm"))
