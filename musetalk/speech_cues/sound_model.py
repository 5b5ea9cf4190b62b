"""What the sound alone tells about the mouth: a small network from log-mel features to the channels of `CHANNELS`.

It is trained on synthetic voices whose phoneme times are known (`python -m tools.train_sound`), sees 120 ms to either
side, and costs a few milliseconds per second of speech. Bilabials are only partly audible, so with phonemes at hand
they decide about contact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from museserve.messages import BoolArray, FloatArray
from museserve.timebase import SPEECH_RATE
from musetalk.speech_cues.loudness import FEATURE_RATE, N_BANDS, feature_loudness, log_mel
from musetalk.speech_cues.segments import FAR_S, Segment, Times
from musetalk.speech_cues.visemes import PAUSE

# What comes out, in this order.
CHANNELS = ("jaw", "lower_drop", "upper_raise", "wide", "round", "tongue", "shut", "tuck")
OFFSETS = tuple(round(x) for x in np.linspace(-12, 12, 11))  # feature frames of 10 ms
N_FEATURES = N_BANDS + 2

MODEL_PATH = Path(__file__).parent.parent / "data" / "sound_drive.npz"

_HOP = SPEECH_RATE // FEATURE_RATE
_MARGIN_S = 0.15

# The silence gate, in dB relative to the loud level.
GATE_BEHIND_S, GATE_AHEAD_S = 1.0, 0.03
GATE_AROUND_S = (0.4, 0.24)  # how far around an instant pauses matter
GATE_ABOVE_FLOOR_DB = 7.0
GATE_RANGE_DB = (-33.0, -14.0)
MIN_VOICED_S, HANG_S = 0.03, 0.035
GATE_WIDTH_S = 0.04  # of the loudness that is compared
MEMORY_S, MEMORY_AHEAD_S = 1.1, 0.2  # around an instant, for whether there has been a sound of late

# Syllables that may carry an accent.
PEAK_WIDTH_S, PEAK_REACH_S = 0.10, 0.10  # of the loudness, and of its maxima
PEAK_DB, PEAK_WEIGHT_PER_DB, PEAK_WEIGHTS = -5.0, 0.05, (0.6, 1.0)
PEAK_DELAY_S = 0.06  # from the vowel's onset to where it is loudest


@dataclass(frozen=True)
class SoundModel:
    """Standardised features -> two layers of ReLU -> channels."""

    mean: FloatArray  # (286,)
    scale: FloatArray  # (286,)
    first: FloatArray  # (287, a); the last row of each layer is its bias
    second: FloatArray  # (a + 1, b)
    last: FloatArray  # (b + 1, 8)

    def predict(self, features: FloatArray) -> FloatArray:
        """features (n, 286) -> (n, 8), not clipped."""
        x = self.standardised(features)
        for layer in (self.first, self.second):
            x = np.maximum(x @ layer[:-1] + layer[-1], 0.0)
        return np.asarray(x @ self.last[:-1] + self.last[-1], np.float32)

    def standardised(self, features: FloatArray) -> FloatArray:
        return np.asarray(np.clip((features - self.mean) * self.scale, -5.0, 5.0), np.float32)


@lru_cache(maxsize=1)
def load_model() -> SoundModel:
    """The shipped model. Raises OSError, KeyError or ValueError: its file is missing or damaged."""
    with np.load(MODEL_PATH) as stored:
        return SoundModel(**{name: stored[name].astype(np.float32) for name in SoundModel.__dataclass_fields__})


def features_of(pcm: FloatArray, level: float) -> FloatArray:
    """(n, 286) at `FEATURE_RATE`: 24 log-mel bands, loudness and tilt at 11 offsets; outside `pcm` (samples at 24 kHz) is silence."""
    mel = log_mel(pcm, level)
    frames = np.empty((len(mel), N_FEATURES), np.float32)
    frames[:, :N_BANDS] = mel
    frames[:, N_BANDS] = feature_loudness(pcm, level, 0.025) / 20.0
    frames[:, N_BANDS + 1] = mel[:, N_BANDS // 2 :].mean(axis=1) - mel[:, : N_BANDS // 2].mean(axis=1)
    reach = OFFSETS[-1]
    quiet = np.full((reach, N_FEATURES), -3.0, np.float32)
    quiet[:, -1] = 0.0
    padded = np.concatenate([quiet, frames, quiet])
    return np.concatenate([padded[reach + o : reach + o + len(mel)] for o in OFFSETS], axis=1)


def mouth_from_sound(pcm: FloatArray, start: float, level: float, grid: Times) -> FloatArray:
    """Channels (len(grid), 8), clipped to 0..1, at the seconds `grid`; pcm begins at second `start`."""
    first = max(round((grid[0] - start - _MARGIN_S) * FEATURE_RATE), 0) * _HOP
    last = round((grid[-1] - start + _MARGIN_S) * FEATURE_RATE) * _HOP
    predicted = load_model().predict(features_of(pcm[first:last], level))
    at = start + first / SPEECH_RATE + np.arange(len(predicted)) / FEATURE_RATE
    curves = np.stack([np.interp(grid, at, channel) for channel in predicted.T], axis=1)
    return np.asarray(np.clip(curves, 0.0, 1.0), np.float32)


def pauses_in(pcm: FloatArray, start: float, level: float, grid: Times) -> list[Segment]:
    """The audible pauses around the seconds `grid`, as segments; those that go on past what was looked at reach far out.

    A gate above the noise floor, which is the quietest tenth of the last second: uploads come with rooms, fans and hiss.
    """
    decibels = feature_loudness(pcm, level, GATE_WIDTH_S)
    first = max(round((grid[0] - start - GATE_AROUND_S[0]) * FEATURE_RATE), 0)
    last = min(round((grid[-1] - start + GATE_AROUND_S[1]) * FEATURE_RATE), len(decibels) - 1) + 1
    if first >= last:  # everything asked for lies behind the end of the speech
        return [Segment(PAUSE, -FAR_S, FAR_S)]
    voiced = decibels[first:last] > gate_threshold(decibels, first, last)
    voiced = _without_short(voiced, round(MIN_VOICED_S * FEATURE_RATE))
    hang = round(HANG_S * FEATURE_RATE)
    spread = np.convolve(voiced, np.ones(2 * hang + 1), mode="full")[hang : hang + len(voiced)] > 0
    pauses = [Segment(PAUSE, -FAR_S, 0.0)]
    for begin, end in _runs(~spread):
        begins = start + (first + begin) / FEATURE_RATE if begin > 0 else -FAR_S
        ends = start + (first + end) / FEATURE_RATE if end < len(spread) else FAR_S
        pauses.append(Segment(PAUSE, begins, ends))
    return pauses


def gate_threshold(decibels: FloatArray, first: int = 0, last: int | None = None) -> FloatArray:
    """dB above which `first`..`last` are sound: relative to the floor of the second before, within `GATE_RANGE_DB`.

    decibels: (n,) at `FEATURE_RATE`, relative to the loud level.
    """
    ends = np.arange(first, len(decibels) if last is None else last)
    behind, ahead = round(GATE_BEHIND_S * FEATURE_RATE), round(GATE_AHEAD_S * FEATURE_RATE)
    padded = np.pad(decibels, (behind, ahead), constant_values=np.inf)
    around = np.sort(np.lib.stride_tricks.sliding_window_view(padded, behind + ahead + 1)[ends], axis=1)
    known = np.minimum(ends + ahead, len(decibels) - 1) - np.maximum(ends - behind, 0)
    floor = np.take_along_axis(around, (known // 10)[:, None], axis=1)[:, 0]
    return np.asarray(np.clip(floor + GATE_ABOVE_FLOOR_DB, *GATE_RANGE_DB), np.float32)


def silence_duration(pcm: FloatArray, start: float, level: float, times: Times) -> FloatArray:
    """Seconds since the last sound (n,) at `times` (n,), `MEMORY_S` if that is longer ago; 0 while there is one.

    Sound is what rises above the quietest tenth of what is known around an instant, so that it does not matter where the speech was cut.
    """
    decibels = feature_loudness(pcm, level, GATE_WIDTH_S)
    behind, ahead = round(MEMORY_S * FEATURE_RATE), round(MEMORY_AHEAD_S * FEATURE_RATE)
    padded = np.pad(decibels, (behind, behind + ahead), constant_values=np.inf)
    at = np.clip(np.rint((times - start) * FEATURE_RATE).astype(int), 0, len(decibels) - 1 + behind)
    around = np.lib.stride_tricks.sliding_window_view(padded, behind + 1 + ahead)[at]
    tenth = (np.isfinite(around).sum(axis=1) // 10)[:, None]
    floor = np.take_along_axis(np.sort(around, axis=1), tenth, axis=1)
    past = around[:, : behind + 1]
    voiced = (past > np.clip(floor + GATE_ABOVE_FLOOR_DB, *GATE_RANGE_DB)) & np.isfinite(past)
    lasting = voiced[:, 2:] & voiced[:, 1:-1] & voiced[:, :-2]  # a click is no speech
    return np.where(lasting.any(axis=1), lasting[:, ::-1].argmax(axis=1) / FEATURE_RATE, MEMORY_S).astype(np.float32)


def loudness_peaks(pcm: FloatArray, start: float, level: float) -> list[tuple[float, float]]:
    """(second, weight 0..1) of the onsets of syllables loud enough to carry an accent."""
    decibels = feature_loudness(pcm, level, PEAK_WIDTH_S)
    reach = round(PEAK_REACH_S * FEATURE_RATE)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(decibels, reach, mode="edge"), 2 * reach + 1)
    peaks = np.flatnonzero((decibels >= around.max(axis=1)) & (decibels > PEAK_DB))
    weights = np.clip(1.0 + PEAK_WEIGHT_PER_DB * decibels[peaks], *PEAK_WEIGHTS)
    # Rounded, because an instant on the border of two cells must not fall to either side.
    onsets = [round(start + int(k) / FEATURE_RATE - PEAK_DELAY_S, 4) for k in peaks]
    return list(zip(onsets, weights.tolist(), strict=True))


def _runs(mask: BoolArray) -> list[tuple[int, int]]:
    """First and last + 1 of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8))).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _without_short(voiced: BoolArray, shortest: int) -> BoolArray:
    """Without runs of less than `shortest`; those at either end may go on."""
    kept = voiced.copy()
    for first, last in _runs(voiced):
        if last - first < shortest and first > 0 and last < len(voiced):
            kept[first:last] = False
    return kept
