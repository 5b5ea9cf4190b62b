"""From durations of a network's input symbols to phonemes in time."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from museserve.messages import Phoneme
from museserve.speech.engines import ipa
from museserve.timebase import SPEECH_RATE

PAUSE_S = 0.12  # shorter blanks between words are no pauses

Span = tuple[int, int]


@dataclass
class _Sound:
    """The symbol numbered `number`, from `start` to `end` in samples."""

    number: int
    letters: str
    stress: int
    start: float
    end: float


def durations_to_phonemes(symbols: Sequence[str], durations: NDArray[np.floating]) -> tuple[list[Phoneme], list[Span | None]]:
    """Phonemes without gaps, and for each symbol its samples (start, end): None for what is no sound of its own.

    Neural voices give durations to signs that are no sounds. The time of a stress mark goes to the sound after it, that of a
    length mark to the sound before it; that of a run of blanks and punctuation is shared half and half by the sounds around it,
    unless it is long enough to be a pause.

    Args:
        symbols: n of the network's inputs, "" for padding.
        durations: (n,) samples at `SPEECH_RATE`.
    """
    sounds = _sounds(symbols, durations)
    for before, after in zip(sounds[:-1], sounds[1:], strict=True):
        if after.start - before.end < PAUSE_S * SPEECH_RATE:
            before.end = after.start = 0.5 * (before.end + after.start)
    row: list[Phoneme] = []
    spans: list[Span | None] = [None] * len(symbols)
    for sound in sounds:
        start, end = round(sound.start), round(sound.end)
        if row and row[-1].end < start:
            row.append(Phoneme("", row[-1].end, start))
        row.append(Phoneme(sound.letters, start, end, sound.stress))
        spans[sound.number] = (start, end)
    return row, spans


def _sounds(symbols: Sequence[str], durations: NDArray[np.floating]) -> list[_Sound]:
    """The symbols that sound, each with the time of its own marks."""
    ends = np.cumsum(np.asarray(durations, np.float64))
    sounds: list[_Sound] = []
    stress, marked_from = 0, None
    for number, symbol in enumerate(symbols):
        letters, own_stress = ipa.bare(symbol)
        start, end = float(ends[number] - durations[number]), float(ends[number])
        if letters:
            sounds.append(_Sound(number, letters, stress or own_stress, start if marked_from is None else marked_from, end))
            stress, marked_from = 0, None
        elif symbol in ipa.STRESS:
            stress, marked_from = ipa.STRESS[symbol], start
        elif symbol and sounds and unicodedata.category(symbol[0]) in ("Lm", "Mn"):
            sounds[-1].end = end
    return sounds
