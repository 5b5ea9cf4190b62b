"""Phonemes as segments without a gap: diphthongs in two, gaps as pauses, p/b/m moved to where the sound is weakest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from museserve.messages import FloatArray, Phoneme
from museserve.timebase import SPEECH_RATE
from musetalk.speech_cues.loudness import LOUDNESS_RATE
from musetalk.speech_cues.visemes import PAUSE, Kind, Viseme, visemes_of

Times = NDArray[np.float64]  # (n,), seconds of the utterance

DIPHTHONG_FIRST = 0.6  # share of its time
MIN_GAP_S = 0.02  # shorter gaps between two sounds belong to the sounds
MIN_LENGTH_S = 1e-4
FAR_S = 1e4  # where the silence before and after everything ends

SLIDE_S = 0.05
# A dip must be worth the whole way to the left, to the right; more to the left, or two equal dips would be a draw.
SLIDE_DB = (6.3, 6.0)

VOWEL_ONSET_S = 0.12  # whose loudness counts
STRESS_GAIN = (0.9, 1.08, 1.0)  # none, primary, secondary
USUAL_DB, GAIN_PER_DB, GAIN_RANGE = -4.0, 0.035, (0.65, 1.12)  # of a vowel's peak


@dataclass(frozen=True)
class Segment:
    """One viseme from `start` to `end`, seconds of the utterance.

    stress: as in `Phoneme`; gain scales what it opens, pace the time in which lips meet and part; number: of its phoneme in the
    utterance, by which chance tells it from others: its time would not do, which a voice that is asked again gives some samples away.
    """

    viseme: Viseme
    start: float
    end: float
    stress: int = 0
    gain: float = 1.0
    pace: float = 1.0
    number: int = 0

    @property
    def length(self) -> float:
        return self.end - self.start


def segments_of(phonemes: Sequence[Phoneme], first: int = 0) -> list[Segment]:
    """Segments from -FAR_S to FAR_S: every instant between is covered once. first: number of the first phoneme in the utterance."""
    segments = [Segment(PAUSE, -FAR_S, 0.0)]
    for number, phoneme in enumerate(sorted(phonemes, key=lambda p: (p.start, p.end)), first):
        start, end = max(phoneme.start / SPEECH_RATE, segments[-1].start, -FAR_S), phoneme.end / SPEECH_RATE
        if end <= start:
            continue
        last = segments[-1]
        if last.viseme.kind is Kind.PAUSE or start - last.end < MIN_GAP_S:
            segments[-1] = replace(last, end=start)
        else:
            segments.append(Segment(PAUSE, last.end, start))
        visemes = visemes_of(phoneme.symbol)
        if visemes[0].kind is Kind.PAUSE and segments[-1].viseme.kind is Kind.PAUSE:
            segments[-1] = replace(segments[-1], end=end)
        elif len(visemes) == 1:
            segments.append(Segment(visemes[0], start, end, phoneme.stress, number=number))
        else:
            middle = start + DIPHTHONG_FIRST * (end - start)
            segments.append(Segment(visemes[0], start, middle, phoneme.stress, number=number))
            segments.append(Segment(visemes[1], middle, end, phoneme.stress, number=number))
    if segments[-1].viseme.kind is Kind.PAUSE:
        segments[-1] = replace(segments[-1], end=FAR_S)
    else:
        segments.append(Segment(PAUSE, segments[-1].end, FAR_S))
    return [segment for segment in segments if segment.length > MIN_LENGTH_S]


def aligned_segments(phonemes: Sequence[Phoneme], loudness_db: FloatArray, start: float, first: int = 0) -> list[Segment]:
    """`segments_of`, fitted to the sound.

    loudness_db: (n,) at `LOUDNESS_RATE`, relative to the loud level, beginning at second `start`. first: as in `segments_of`.
    """
    return with_gains(slide_closures(segments_of(phonemes, first), loudness_db, start), loudness_db, start)


def slide_closures(segments: Sequence[Segment], loudness_db: FloatArray, start: float) -> list[Segment]:
    """Move each p/b/m to the energy minimum within `SLIDE_S`: the labels are looser than the sound."""
    moved: list[Segment] = []
    reach = round(SLIDE_S * LOUDNESS_RATE)
    for segment in segments:
        middle = _index(0.5 * (segment.start + segment.end), start)
        if segment.viseme.kind is Kind.CLOSURE and reach <= middle < len(loudness_db) - reach:
            window = loudness_db[middle - reach : middle + reach + 1]
            steps = np.arange(-reach, reach + 1) / reach
            cost = window + np.where(steps < 0, -SLIDE_DB[0], SLIDE_DB[1]) * steps
            shift = (int(np.argmin(cost)) - reach) / LOUDNESS_RATE
            segment = replace(segment, start=segment.start + shift, end=segment.end + shift)
        moved.append(segment)
    return moved


def with_gains(segments: Sequence[Segment], loudness_db: FloatArray, start: float) -> list[Segment]:
    """Scale vowels by stress and by how loud they begin."""
    scaled: list[Segment] = []
    for segment in segments:
        if segment.viseme.kind is Kind.VOWEL:
            first = _index(segment.start, start)
            last = _index(min(segment.end, segment.start + VOWEL_ONSET_S), start)
            onset_db = loudness_db[max(first, 0) : max(last, 0) + 1]
            peak_db = float(onset_db.max()) if len(onset_db) else USUAL_DB
            stress = STRESS_GAIN[segment.stress if 0 <= segment.stress <= 2 else 0]
            loud = float(np.clip(1.0 + GAIN_PER_DB * (peak_db - USUAL_DB), *GAIN_RANGE))
            segment = replace(segment, gain=stress * loud)
        scaled.append(segment)
    return scaled


def _index(second: float, start: float) -> int:
    """Nearest point of the loudness' grid, which begins at second `start`.

    The utterance's time is what is rounded, so that a half never falls to either side.
    """
    return math.floor(second * LOUDNESS_RATE + 0.5 + 1e-6) - round(start * LOUDNESS_RATE)
