"""Speech at 24 kHz to output audio at 48 kHz: exactly twice the samples, in a stream, with no drift and no delay."""

from __future__ import annotations

import numpy as np

from museserve.messages import FloatArray

HALF_TAPS = 32  # input samples on each side of an interpolated one: 1.3 ms
KAISER_BETA = 8.0  # stop band below -80 dB


def _kernel() -> FloatArray:
    """Weights (64,) of the inputs around a point half-way between two of them: a windowed sinc, sum 1."""
    distance = np.arange(2 * HALF_TAPS) - HALF_TAPS + 0.5
    window = np.i0(KAISER_BETA * np.sqrt(1 - (distance / HALF_TAPS) ** 2)) / np.i0(KAISER_BETA)
    weights = np.sinc(distance) * window
    return np.asarray(weights / weights.sum(), np.float32)


KERNEL = _kernel()


class Doubler:
    """Half-band interpolation by two. Input sample n comes out unchanged as output sample 2n; the odd ones lie between.

    `push` holds back the last 32 input samples, because the filter looks at what follows; `finish` gives them.
    """

    def __init__(self) -> None:
        self._pending = np.zeros(HALF_TAPS - 1, np.float32)  # silence before the first sample

    def push(self, pcm: FloatArray) -> FloatArray:
        """float32 (n,) -> float32 (2m,): what can be said for certain so far; m <= n, and n from the second call on."""
        if pcm.ndim != 1:
            raise ValueError(f"speech must be mono, float32 (n,), got an array of shape {pcm.shape}")
        known = np.concatenate([self._pending, pcm.astype(np.float32, copy=False)])
        n = len(known) - (2 * HALF_TAPS - 1)
        if n <= 0:
            self._pending = known
            return np.zeros(0, np.float32)
        out = np.empty(2 * n, np.float32)
        out[0::2] = known[HALF_TAPS - 1 : HALF_TAPS - 1 + n]
        out[1::2] = np.convolve(known, KERNEL, "valid")
        self._pending = known[n:]
        return out

    def finish(self) -> FloatArray:
        """The samples held back, as if silence followed. Afterwards 2 samples have come out for each that went in."""
        return self.push(np.zeros(HALF_TAPS, np.float32))
