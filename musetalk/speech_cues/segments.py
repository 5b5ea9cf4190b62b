"""Phonemes as an unbroken row of segments in seconds: diphthongs in two, gaps as pauses, p/b/m moved to where the sound is weakest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from museserve.messages import FloatArray, Phoneme
from museserve.timebase import SPEECH_RATE
from musetalk.speech_cues.visemes import PAUSE, Kind, Viseme, visemes_of

DIPHTHONG_FIRST = 0.6  # share of its time
MIN_GAP_S = 0.02  # shorter gaps between two sounds belong to the sounds
SLIDE_S = 0.05
FAR_S = 1e4  # where the silence before and after everything ends


@dataclass(frozen=True)
class Segment:
    """One viseme from `start` to `end` (seconds of the utterance). `gain` scales what it opens."""

    viseme: Viseme
    start: float
    end: float
    stress: int = 0
    gain: float = 1.0

    @property
    def length(self) -> float:
        return self.end - self.start


def segments_of(phonemes: Sequence[Phoneme]) -> list[Segment]:
    """Segments from long before to long after: between them every instant is covered once."""
    row = [Segment(PAUSE, -FAR_S, 0.0)]
    for phoneme in sorted(phonemes, key=lambda p: (p.start, p.end)):
        start, end = max(phoneme.start / SPEECH_RATE, row[-1].start, -FAR_S), phoneme.end / SPEECH_RATE
        if end <= start:
            continue
        last = row[-1]
        if last.viseme.kind is not Kind.PAUSE and 0 < start - last.end < MIN_GAP_S:
            row[-1] = _replaced(last, end=start)
        elif last.viseme.kind is Kind.PAUSE or start < last.end:
            row[-1] = _replaced(last, end=start)
        else:
            row.append(Segment(PAUSE, last.end, start))
        visemes = visemes_of(phoneme.symbol)
        if visemes[0].kind is Kind.PAUSE and row[-1].viseme.kind is Kind.PAUSE:
            row[-1] = _replaced(row[-1], end=end)
        elif len(visemes) == 1:
            row.append(Segment(visemes[0], start, end, phoneme.stress))
        else:
            middle = start + DIPHTHONG_FIRST * (end - start)
            row.append(Segment(visemes[0], start, middle, phoneme.stress))
            row.append(Segment(visemes[1], middle, end, phoneme.stress))
    if row[-1].viseme.kind is Kind.PAUSE:
        row[-1] = _replaced(row[-1], end=FAR_S)
    else:
        row.append(Segment(PAUSE, row[-1].end, FAR_S))
    return [segment for segment in row if segment.length > 1e-4]


def slide_closures(segments: Sequence[Segment], loudness: FloatArray, rate: float, start: float) -> list[Segment]:
    """Move each p/b/m to the energy minimum within `SLIDE_S`: the labels are looser than the sound.

    loudness: dB (n,) at `rate`, beginning at second `start`.
    """
    moved: list[Segment] = []
    reach = round(SLIDE_S * rate)
    for segment in segments:
        middle = _index(0.5 * (segment.start + segment.end), start, rate)
        if segment.viseme.kind is Kind.CLOSURE and reach <= middle < len(loudness) - reach:
            window = loudness[middle - reach : middle + reach + 1]
            # A dip must be worth the way: 6 dB for the whole distance. A little more to the left, or two equal dips would be a draw.
            steps = np.arange(-reach, reach + 1) / reach
            cost = window + np.where(steps < 0, -6.3, 6.0) * steps
            shift = (int(np.argmin(cost)) - reach) / rate
            segment = _replaced(segment, start=segment.start + shift, end=segment.end + shift)
        moved.append(segment)
    return moved


def with_gains(segments: Sequence[Segment], loudness: FloatArray, rate: float, start: float) -> list[Segment]:
    """Scale vowels by stress and by how loud their first 120 ms are. loudness: dB relative to the loud level, as in `slide_closures`."""
    scaled: list[Segment] = []
    for segment in segments:
        if segment.viseme.kind is Kind.VOWEL:
            first = _index(segment.start, start, rate)
            last = _index(min(segment.end, segment.start + 0.12), start, rate)
            heard = loudness[max(first, 0) : max(last, 0) + 1]
            peak = float(heard.max()) if len(heard) else -4.0
            stress = (0.9, 1.08, 1.0)[segment.stress if 0 <= segment.stress <= 2 else 0]
            segment = _replaced(segment, gain=stress * float(np.clip(1.0 + 0.035 * (peak + 4.0), 0.65, 1.12)))
        scaled.append(segment)
    return scaled


def _index(second: float, start: float, rate: float) -> int:
    """Nearest point of a grid that begins at second `start`. The utterance's time is what is rounded, so that a half never falls to either side."""
    return math.floor(second * rate + 0.5 + 1e-6) - round(start * rate)


def _replaced(segment: Segment, start: float | None = None, end: float | None = None, gain: float | None = None) -> Segment:
    return Segment(
        segment.viseme,
        segment.start if start is None else start,
        segment.end if end is None else end,
        segment.stress,
        segment.gain if gain is None else gain,
    )
