"""When the mouth moves against when it is heard: the offset of two curves that resemble each other only roughly.

The lips' gap is compared with how loud the speech is. Both lose their slow parts, for the resting shape of a mouth says nothing about
time, and only speech and its surroundings count. Positive offset = the sound comes late (the mouth moves first).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]

RATE = 100  # of all curves here, Hz
WINDOW_S = 0.025
BAND_HZ = (120.0, 4000.0)
DEPTH_DB = 40.0  # below the loud level; quieter counts as nothing
ENVELOPE_S = 0.020  # standard deviation of the smoothing
MOUTH_S = 0.015
DRIFT_S = 0.40  # slower than this is taken out
SPEECH_DB = -32.0
SILENT_LEVEL = 1e-2  # of a window's spectrum, about -80 dBFS: sound that is nowhere louder is silence
SURROUNDINGS_S = 0.3  # a mouth may prepare, and come to rest
REACH_S = 0.6
PEAK_S = 0.03  # the parabola through the peak uses this much on either side


@dataclass(frozen=True)
class Loudness:
    """envelope: (n,) 0..1 on a logarithmic scale, smoothed; db: (n,) relative to the loud level. Point k belongs to second start_s + k / RATE."""

    envelope: Curve
    db: Curve
    start_s: float

    @property
    def times(self) -> Curve:
        return self.start_s + np.arange(len(self.db)) / RATE

    @property
    def speech(self) -> NDArray[np.bool_]:
        """Where it is louder than `SPEECH_DB`, holes of a few hundredths closed."""
        return gaussian((self.db > SPEECH_DB).astype(float), 0.03 * RATE) > 0.3

    @property
    def surroundings(self) -> NDArray[np.bool_]:
        """Speech and `SURROUNDINGS_S` on either side of it."""
        reach = round(SURROUNDINGS_S * RATE)
        return np.convolve(self.speech.astype(float), np.ones(2 * reach + 1), "same") > 0.5


@dataclass(frozen=True)
class Offset:
    """seconds: positive = sound late. correlation: at that offset. second: the best one further than 0.15 s away."""

    seconds: float
    correlation: float
    second: float

    @property
    def is_reliable(self) -> bool:
        return self.correlation >= 0.25 and self.correlation - self.second >= 0.04


def loudness(pcm: NDArray[np.float32], rate: int, start_s: float = 0.0) -> Loudness:
    """How loud the speech band is, from short-time spectra whose windows are centred on the points.

    Raises:
        ValueError: shorter than 0.2 s.
    """
    if len(pcm) < 0.2 * rate:
        raise ValueError(f"{len(pcm) / rate:.2f} s of sound, at least 0.2 s are needed")
    size, hop = round(WINDOW_S * rate) // 2 * 2, rate // RATE
    padded = np.pad(pcm.astype(np.float64), (size // 2, size // 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * np.hanning(size)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    hertz = np.fft.rfftfreq(size, 1 / rate)
    band = power[:, (hertz >= BAND_HZ[0]) & (hertz <= BAND_HZ[1])].sum(axis=1)
    level = np.sqrt(np.maximum(band, 1e-12))
    db = 20 * np.log10(level / max(float(np.percentile(level, 95)), SILENT_LEVEL))
    envelope = gaussian(np.maximum(db + DEPTH_DB, 0.0) / DEPTH_DB, ENVELOPE_S * RATE)
    return Loudness(envelope, db, start_s)


def mouth_offset(times: Curve, gap: Curve, sound: Loudness) -> Offset:
    """Offset of the sound against the lips' gap (n,) at frame `times` (n,) in seconds; frames with no face are bridged.

    Raises:
        ValueError: the mouth does not move, or there is too little speech to say.
    """
    known = np.isfinite(gap)
    if known.sum() < RATE // 4 or np.std(gap[known]) < 1e-3:
        raise ValueError("the mouth does not move")
    grid = np.arange(times[known][0], times[known][-1], 1 / RATE)
    mouth = without_drift(gaussian(np.interp(grid, times[known], gap[known]), MOUTH_S * RATE))
    voice = without_drift(sound.envelope)
    weight = gaussian(sound.surroundings.astype(float), 0.05 * RATE)
    lags = np.arange(-round(REACH_S * RATE), round(REACH_S * RATE) + 1)
    found = np.full(len(lags), np.nan)
    shift = (grid[0] - sound.start_s) * RATE  # of the mouth's first point on the sound's clock, in points
    whole = round(shift)
    for i, lag in enumerate(lags):
        first = max(whole + lag, 0)
        last = min(whole + lag + len(mouth), len(voice))
        if last - first >= max(0.8 * RATE, 0.5 * min(len(mouth), len(voice))) and weight[first:last].sum() >= 0.6 * RATE:
            heard = slice(first, last)
            shown = slice(first - whole - lag, last - whole - lag)
            found[i] = weighted_correlation(voice[heard], mouth[shown], weight[heard])
    if np.isnan(found).all():
        raise ValueError("too little speech for an offset")
    best = int(np.nanargmax(found))
    far = np.abs(lags - lags[best]) > 0.15 * RATE
    second = float(np.nanmax(found[far])) if np.isfinite(found[far]).any() else -1.0
    points = float(lags[best]) + _vertex(found, best) - (shift - whole)
    return Offset(float(points) / RATE, float(found[best]), second)


def sound_delay(reference: NDArray[np.float32], heard: NDArray[np.float32], reach: int) -> int:
    """Samples by which `heard` lags behind `reference` (same rate, same length), by the peak of their correlation within ±reach."""
    n = len(reference) + len(heard)
    spectrum = np.fft.rfft(heard, n) * np.conj(np.fft.rfft(reference, n))
    correlation = np.fft.irfft(spectrum, n)
    return int(np.argmax(np.concatenate([correlation[-reach:], correlation[: reach + 1]]))) - reach


def weighted_correlation(a: Curve, b: Curve, weight: Curve) -> float:
    """Pearson's r with a weight for each point; 0 when either does not vary."""
    a, b = a - np.average(a, weights=weight), b - np.average(b, weights=weight)
    spread = float(np.sum(weight * a * a) * np.sum(weight * b * b))
    return float(np.sum(weight * a * b)) / spread**0.5 if spread > 1e-18 else 0.0


def without_drift(curve: Curve) -> Curve:
    return curve - gaussian(curve, DRIFT_S * RATE)


def gaussian(curve: Curve, sigma: float) -> Curve:
    """Smooth with a standard deviation of `sigma` points, ends held."""
    reach = int(np.ceil(4 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.convolve(np.pad(curve, reach, mode="edge"), kernel / kernel.sum(), "valid")


def _vertex(values: Curve, peak: int) -> float:
    """Where between the points the maximum lies, by a parabola round `peak`; the peak is broad."""
    reach = min(round(PEAK_S * RATE), peak, len(values) - 1 - peak)
    around = values[peak - reach : peak + reach + 1]
    if reach < 1 or not np.isfinite(around).all():
        return 0.0
    bend, slope, _ = np.polyfit(np.arange(-reach, reach + 1), around, 2)
    return float(np.clip(-slope / (2 * bend), -reach, reach)) if bend < 0 else 0.0
