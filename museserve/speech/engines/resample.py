"""Sample rate conversion of a whole clause at once, exact up to the lower Nyquist frequency and without delay."""

from __future__ import annotations

from math import gcd

import numpy as np

from museserve.messages import FloatArray
from museserve.timebase import SPEECH_RATE

_GUARD_S = 0.02  # silence between the end and the beginning, which a Fourier transform sees as neighbours
_SMOOTH = tuple(sorted(2**a * 3**b * 5**c for a in range(22) for b in range(4) for c in range(3)))


def resample(pcm: FloatArray, rate: int) -> FloatArray:
    """float32 (n,) at `rate` -> float32 (ceil(n * SPEECH_RATE / rate),); sample 0 stays at time 0."""
    if rate == SPEECH_RATE or not len(pcm):
        return pcm.astype(np.float32)
    divisor = gcd(rate, SPEECH_RATE)
    down, up = rate // divisor, SPEECH_RATE // divisor
    # A multiple of `down` makes the output a whole number of samples; a smooth one makes the transform fast.
    needed = -(-(len(pcm) + round(_GUARD_S * rate)) // down)
    blocks = next(size for size in _SMOOTH if size >= needed)
    spectrum = np.fft.rfft(pcm.astype(np.float32), blocks * down)
    bins = blocks * min(up, down) // 2 + 1
    wide = np.zeros(blocks * up // 2 + 1, spectrum.dtype)
    wide[:bins] = spectrum[:bins]
    out = np.fft.irfft(wide, blocks * up) * (up / down)
    return out[: -(-len(pcm) * up // down)].astype(np.float32)
