"""From durations of a network's input symbols to phonemes in time."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contracts import Phoneme
from speech import ipa
from timeline import SPEECH_RATE

PAUSE_S = 0.12  # shorter blanks between words are no pauses

Span = tuple[int, int]


def durations_to_phonemes(symbols: Sequence[str], samples: NDArray[np.floating]) -> tuple[list[Phoneme], list[Span | None]]:
    """Phonemes without gaps, and for each symbol the samples it sounds (None for blanks, marks and punctuation).

    Neural voices give durations to signs that are no sounds. The time of a stress mark goes to the sound after it, that of a
    length mark to the sound before it; that of a run of blanks and punctuation is shared half and half by the sounds around it,
    unless it is long enough to be a pause.

    Args:
        symbols: one sign each, "" for padding.
        samples: duration of each, same length.
    """
    ends = np.cumsum(np.asarray(samples, np.float64))
    starts = ends - samples
    spans: list[Span | None] = [None] * len(symbols)
    sounds: list[tuple[int, float, float, str, int]] = []  # symbol number, start, end, letters, stress
    stress, opened = 0, -1.0
    for number, symbol in enumerate(symbols):
        letters, own = ipa.bare(symbol)
        if letters:
            sounds.append((number, opened if opened >= 0 else float(starts[number]), float(ends[number]), letters, max(stress, own)))
            stress, opened = 0, -1.0
        elif symbol in ipa.STRESS:
            stress = ipa.STRESS[symbol]
            opened = float(starts[number]) if opened < 0 else opened
        elif symbol and sounds and unicodedata.category(symbol[0]) in ("Lm", "Mn"):
            last = sounds[-1]
            sounds[-1] = (last[0], last[1], float(ends[number]), last[3], last[4])
    row: list[Phoneme] = []
    before = 0.0
    for index, (number, start, end, letters, accent) in enumerate(sounds):
        following = sounds[index + 1][1] if index + 1 < len(sounds) else end
        start = max(start, before)
        blank = following - end
        stop = end + (0.0 if blank >= PAUSE_S * SPEECH_RATE else blank / 2)
        span = (round(start), round(stop))
        if row and round(before) == row[-1].end < span[0]:
            row.append(Phoneme("", row[-1].end, span[0]))
        row.append(Phoneme(letters, *span, accent))
        spans[number] = span
        before = stop if blank < PAUSE_S * SPEECH_RATE else end
        if index + 1 < len(sounds) and blank < PAUSE_S * SPEECH_RATE:
            nxt = sounds[index + 1]
            sounds[index + 1] = (nxt[0], stop, nxt[2], nxt[3], nxt[4])
    return row, spans
