"""Phoneme and word times for a sound that comes without any: another voice says the same text with known times, and is stretched onto it.

Both sounds become rows of cepstra, and the cheapest way through all pairs of rows (dynamic time warping) says which moment of one is which of the
other. Voices differ more than the sounds of one, so the mean of each is taken away.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from museserve.messages import FloatArray, Phoneme
from museserve.speech.engines.voice_engine import SpeechMark, Synthesis
from museserve.timebase import SPEECH_RATE

HOP = SPEECH_RATE // 100  # 10 ms
_WINDOW, _POINTS = SPEECH_RATE // 40, 1_024
_BANDS, _LOW_HZ, _HIGH_HZ = 24, 80.0, 8_000.0
_CEPSTRA = 13
_FLOOR = 1e-6  # of the loud level, power; what is quieter is silence
_SOUNDS = 1e-3  # of the loud level; what is quieter is not part of the mean
LATE_S = 0.005  # by which the found times come before the sound, over voices whose times are known

Rows = NDArray[np.float64]


def align(pcm: FloatArray, known: Synthesis) -> tuple[list[Phoneme], list[SpeechMark]]:
    """The phonemes and marks of `known`, in samples of `pcm`.

    Args:
        pcm: float32 (n,) at `SPEECH_RATE`, the same text as `known`, with about as much silence around it.
    """
    if not len(pcm) or not len(known.pcm):
        return [], []
    moments = warp(cepstra(known.pcm), cepstra(pcm))
    end = len(pcm)

    def at(sample: int) -> int:
        there = float(np.interp(sample / HOP, np.arange(len(moments)), moments))
        return min(max(round(there * HOP + LATE_S * SPEECH_RATE), 0), end)

    phonemes = [Phoneme(p.symbol, at(p.start), at(p.end), p.stress) for p in known.phonemes]
    marks = [SpeechMark(m.first, m.last, at(m.start), at(m.end)) for m in known.marks]
    return phonemes, marks


def warp(rows: Rows, others: Rows) -> NDArray[np.float64]:
    """Where in `others` each of `rows` is: float (n,), never falling. The first rows meet, and so do the last.

    rows, others: (n, d), (m, d). Takes memory for n * m numbers.
    """
    n, m = len(rows), len(others)
    apart = (rows**2).sum(1)[:, None] + (others**2).sum(1) - 2 * rows @ others.T
    apart = np.sqrt(np.maximum(apart, 0.0))
    cost = np.full((n + 1, m + 1), np.inf)
    cost[0, 0] = 0.0
    for diagonal in range(2, n + m + 1):  # all cells of one need only those of the two before it
        i = np.arange(max(1, diagonal - m), min(n, diagonal - 1) + 1)
        j = diagonal - i
        cheapest = np.minimum(cost[i - 1, j - 1], np.minimum(cost[i - 1, j], cost[i, j - 1]))
        cost[i, j] = cheapest + apart[i - 1, j - 1]
    sums, counts = np.zeros(n), np.zeros(n)
    row, column = n, m
    while row and column:
        sums[row - 1] += column - 1
        counts[row - 1] += 1
        both, above, left = cost[row - 1, column - 1], cost[row - 1, column], cost[row, column - 1]
        row, column = row - (min(both, above) <= left), column - (min(both, left) <= above)
    return sums / counts


def cepstra(pcm: FloatArray) -> Rows:
    """Mel cepstra and how they change, (n, 2 * `_CEPSTRA`), row i about sample i * `HOP`."""
    n = -(-len(pcm) // HOP) + 1
    padded = np.pad(pcm.astype(np.float64), (_WINDOW // 2, _WINDOW + HOP))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::HOP][:n] * np.hanning(_WINDOW)
    bands, cosines = _filters()
    power = np.square(np.abs(np.fft.rfft(windows, _POINTS))) @ bands
    power = np.maximum(power / max(np.percentile(power.sum(1), 95), 1e-12), _FLOOR)
    rows = np.log(power) @ cosines
    sounding = power.sum(1) > _SOUNDS
    if sounding.any():
        rows -= rows[sounding].mean(0)
    changes = np.zeros_like(rows)
    changes[1:-1] = rows[2:] - rows[:-2]
    return np.concatenate([rows, changes], 1)


@cache
def _filters() -> tuple[Rows, Rows]:
    """Triangles on the mel scale, (points, bands), and the cosines of the cepstrum, (bands, `_CEPSTRA`)."""
    lowest, highest = (2_595 * np.log10(1 + hertz / 700) for hertz in (_LOW_HZ, _HIGH_HZ))
    edges = 700 * (10 ** (np.linspace(lowest, highest, _BANDS + 2) / 2_595) - 1)
    points = np.fft.rfftfreq(_POINTS, 1 / SPEECH_RATE)[:, None]
    up = (points - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - points) / (edges[2:] - edges[1:-1])
    cosines = np.cos(np.pi / _BANDS * (np.arange(_BANDS)[:, None] + 0.5) * np.arange(_CEPSTRA)) * np.sqrt(2 / _BANDS)
    return np.maximum(0.0, np.minimum(up, down)), cosines
