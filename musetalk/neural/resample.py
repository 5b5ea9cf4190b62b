"""Speech at 24 kHz to the 16 kHz that Whisper hears: two outputs for three inputs, without delay."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from museserve.messages import FloatArray
from museserve.timebase import SPEECH_RATE, WHISPER_RATE

HALF_TAPS = 96  # input samples on each side: 4 ms
KAISER_BETA = 9.0  # stop band below -85 dB
CUTOFF_HZ = 7_650.0  # half way down; whole up to 7.3 kHz, gone from 8 kHz on


def to_whisper_rate(pcm: FloatArray) -> FloatArray:
    """float32 (n,) at 24 kHz -> float32 (ceil(2 n / 3),) at 16 kHz; sample 0 stays at time 0, and around `pcm` there is silence."""
    n_out = -(-len(pcm) * WHISPER_RATE // SPEECH_RATE)
    if n_out == 0:
        return np.zeros(0, np.float32)
    padded = np.zeros(3 * (n_out // 2 + 1) + 2 * HALF_TAPS + 2, np.float32)
    padded[HALF_TAPS : HALF_TAPS + len(pcm)] = pcm
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * HALF_TAPS + 1)
    out = np.empty(2 * (n_out // 2 + 1), np.float32)
    on_sample, between = _kernels()
    out[0::2] = windows[0::3][: len(out) // 2] @ on_sample
    out[1::2] = windows[1::3][: len(out) // 2] @ between
    return out[:n_out]


@lru_cache(maxsize=1)
def _kernels() -> tuple[FloatArray, FloatArray]:
    """Weights (193,) of the inputs around an output that falls on an input, and around one half an input later; each of sum 1."""

    def kernel(shift: float) -> FloatArray:
        distance = np.arange(-HALF_TAPS, HALF_TAPS + 1) - shift
        inside = np.clip(1.0 - (distance / (HALF_TAPS + 0.5)) ** 2, 0.0, None)
        weights = np.sinc(2.0 * CUTOFF_HZ / SPEECH_RATE * distance) * np.i0(KAISER_BETA * np.sqrt(inside))
        return np.asarray(weights / weights.sum(), np.float32)

    return kernel(0.0), kernel(0.5)
