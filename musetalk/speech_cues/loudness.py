"""Speech as curves of loudness and as log-mel features, on a grid that does not depend on where the speech was cut."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from museserve.messages import FloatArray
from museserve.timebase import SPEECH_RATE

LOUDNESS_RATE = 200  # Hz
FEATURE_RATE = 100  # Hz
N_BANDS = 24

_LOUD_HOP = SPEECH_RATE // LOUDNESS_RATE
_HOP = SPEECH_RATE // FEATURE_RATE
_WINDOW = round(0.025 * SPEECH_RATE)
_TAPER_POWER = 0.14  # the square of a Hann window's mean square
_FFT = 1024
_BAND_HZ = (80.0, 7_600.0)
_QUIET_LEVEL = 0.004  # a voice below -48 dBFS is not turned up any further: it may be the room
_FLOOR_DB = -60.0


def loud_level(pcm: FloatArray) -> float:
    """The level that loud speech in `pcm` (n,) has: 95th percentile of 25 ms RMS, linear; 0.0 for silence."""
    if len(pcm) == 0:
        return 0.0
    n = max(len(pcm) // _WINDOW, 1)
    power = np.square(pcm[: n * _WINDOW], dtype=np.float32).reshape(n, -1).mean(axis=1)
    return float(np.sqrt(np.percentile(power, 95)))


def usable_level(level: float, pcm: FloatArray) -> float:
    """`level` where it is known, else that of `pcm` (n,); linear, never so low that a room would be turned up."""
    return max(level if level > 0 else loud_level(pcm), _QUIET_LEVEL)


def loudness(pcm: FloatArray, level: float, width_s: float = 0.02) -> FloatArray:
    """dB relative to `level` at `LOUDNESS_RATE`, value k centred on sample 120 k; not below -60. pcm (n,) -> (n // 120 + 1,)."""
    half = round(width_s * SPEECH_RATE / 2)
    n = len(pcm) // _LOUD_HOP + 1
    total = np.concatenate([[0.0], np.cumsum(np.square(pcm, dtype=np.float64))])
    centre = np.arange(n) * _LOUD_HOP
    power = (total[np.minimum(centre + half, len(pcm))] - total[np.maximum(centre - half, 0)]) / (2 * half)
    decibels = 10.0 * np.log10(np.maximum(power, 1e-12) / level**2)
    return np.asarray(np.maximum(decibels, _FLOOR_DB), np.float32)


def feature_loudness(pcm: FloatArray, level: float, width_s: float) -> FloatArray:
    """`loudness` at `FEATURE_RATE`."""
    return loudness(pcm, level, width_s)[:: LOUDNESS_RATE // FEATURE_RATE]


def log_mel(pcm: FloatArray, level: float) -> FloatArray:
    """Log-mel bands (n // 240 + 1, N_BANDS), in units of 20 dB relative to `level`; row k is centred on sample 240 k."""
    n = len(pcm) // _HOP + 1
    padded = np.zeros((n - 1) * _HOP + _WINDOW, np.float32)
    take = min(len(pcm), len(padded) - _WINDOW // 2)
    padded[_WINDOW // 2 : _WINDOW // 2 + take] = pcm[:take]
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    spectrum = np.fft.rfft(frames * _taper(), _FFT)
    power = np.square(np.abs(spectrum)) / (_WINDOW * _WINDOW * _TAPER_POWER)
    bands = np.asarray(power, np.float32) @ _filters()
    return np.asarray(np.maximum(np.log10(np.maximum(bands, 1e-14) / level**2), _FLOOR_DB / 10.0) / 2.0, np.float32)


@lru_cache(maxsize=1)
def _taper() -> FloatArray:
    return np.hanning(_WINDOW).astype(np.float32)


@lru_cache(maxsize=1)
def _filters() -> FloatArray:
    """Triangles (513, N_BANDS), each of sum of its bins."""
    low, high = map(_mel, _BAND_HZ)
    edges = 700.0 * (10.0 ** (np.linspace(low, high, N_BANDS + 2) / 2595.0) - 1.0)
    hertz = np.arange(_FFT // 2 + 1) * SPEECH_RATE / _FFT
    rising = (hertz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz[:, None]) / (edges[2:] - edges[1:-1])
    return np.asarray(np.clip(np.minimum(rising, falling), 0.0, None), np.float32)


def _mel(hertz: float) -> float:
    """The mel scale of O'Shaughnessy, as in HTK."""
    return float(2595.0 * np.log10(1.0 + hertz / 700.0))
