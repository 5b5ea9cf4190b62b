"""How loud speech is, by ITU-R BS.1770 as EBU R 128 uses it, and the limiter that keeps its peaks in bounds."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

from museserve.messages import FloatArray
from museserve.timebase import SPEECH_RATE

TARGET_LUFS = -16.0  # of every voice, over its sentences
CEILING_DBTP = -1.0  # no peak between or on samples is higher
# The limiter turns down `_HOLD` samples to either side of a peak, more than a glottal period, and moves over `_SMOOTH` more: so it shapes no waves.
_HOLD, _SMOOTH = round(0.008 * SPEECH_RATE), round(0.004 * SPEECH_RATE)
_CEILING = 10 ** ((CEILING_DBTP - 0.5) / 20)  # meters that resample read up to 0.5 dB more than there is
_PHASES, _REACH = 4, 8  # of the interpolation that finds peaks between samples: points for each, samples to either side
_SILENT_LUFS = -69.0
AROUND = _HOLD + _SMOOTH + _REACH + 1  # samples to either side that a sample's gain depends on
_WORTH_A_LOOK = 0.6  # times the ceiling: no peak between lower samples reaches it in speech


@dataclass(frozen=True)
class Loudness:
    """lufs: integrated, gated, -70 or less for silence. true_peak_db: dB of full scale, four times oversampled."""

    lufs: float
    true_peak_db: float


def measure(pcm: FloatArray) -> Loudness:
    """Of float32 (n,) at `SPEECH_RATE`, by FFmpeg's ebur128; what is shorter than its window of 0.4 s is heard with silence after it."""
    import av  # FFmpeg is not loaded into a process that only speaks

    heard = np.pad(pcm, (0, max(0, round(0.5 * SPEECH_RATE) - len(pcm)))).astype(np.float32)
    graph = av.filter.Graph()
    base = Fraction(1, SPEECH_RATE)
    source = graph.add_abuffer(sample_rate=SPEECH_RATE, format="flt", layout="mono", time_base=base)
    meter, sink = graph.add("ebur128", "metadata=1:peak=true:framelog=quiet"), graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(heard[None], format="flt", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SPEECH_RATE, 0, base
    graph.push(frame)
    graph.push(None)
    told: dict[str, str] = {}
    with suppress(av.BlockingIOError, av.EOFError):
        while True:
            told.update(graph.pull().metadata)
    peak = max(float(told["lavfi.r128.true_peak"]), 1e-6)
    return Loudness(float(told["lavfi.r128.I"]), 20 * float(np.log10(peak)))


def limited(pcm: FloatArray, gain: float) -> FloatArray:
    """float32 (n,) at `SPEECH_RATE` times the linear `gain`, turned down around what would pass `CEILING_DBTP`.

    It keeps no state: a sample depends on `AROUND` samples to either side and nothing else, so pieces that are given those join without a step.
    """
    loud = pcm * np.float32(gain)
    if not len(loud) or np.abs(loud).max() < _WORTH_A_LOOK * _CEILING:
        return loud
    needed = _CEILING / np.maximum(_peaks(loud), _CEILING)
    if needed.min() == 1.0:
        return loud
    held = _lowest(np.pad(needed, _HOLD + _SMOOTH, constant_values=1.0), 2 * _HOLD + 1)
    half = _SMOOTH // 2
    turned = _mean(_mean(held, 2 * half + 1), 2 * (_SMOOTH - half) + 1)
    return loud * turned


def gain_for(pcm: FloatArray) -> float | None:
    """The gain that brings speech in float32 (n,) at `SPEECH_RATE` to `TARGET_LUFS` behind the limiter; None for silence."""
    gain = 1.0
    for _ in range(3):
        lufs = measure(limited(pcm, gain)).lufs
        if lufs <= _SILENT_LUFS:
            return None
        gain *= 10 ** ((TARGET_LUFS - lufs) / 20)
    return gain


def _peaks(pcm: FloatArray) -> FloatArray:
    """The highest that the wave gets between a sample's neighbours, (n,); lower samples than are worth a look as they are."""
    highest = np.abs(pcm)
    high = np.flatnonzero(highest > _WORTH_A_LOOK * _CEILING)
    before = np.unique(np.concatenate([high - 1, high]))  # of each gap beside a high sample, the sample before it
    around = np.pad(pcm, _REACH + 1)[before[:, None] + np.arange(1, 2 * _REACH + 2)]
    between = np.abs(around @ _taps()).max(1)
    for place in (before, before + 1):
        inside = (place >= 0) & (place < len(pcm))
        np.maximum.at(highest, place[inside], between[inside])
    return highest


@cache
def _taps() -> FloatArray:
    """What makes the points after a sample of its surroundings, (2 * `_REACH` + 1, `_PHASES` - 1)."""
    at = np.arange(-_REACH, _REACH + 1)[:, None] - np.arange(1, _PHASES) / _PHASES
    taps: FloatArray = (np.sinc(at) * np.cos(0.5 * np.pi * at / (_REACH + 1)) ** 2).astype(np.float32)
    return taps


def _lowest(values: FloatArray, width: int) -> FloatArray:
    """The minimum of each run of `width` values, (n - width + 1,)."""
    have = 1
    while have < width:
        step = min(have, width - have)
        values = np.minimum(values[step:], values[:-step])
        have += step
    return values


def _mean(values: FloatArray, width: int) -> FloatArray:
    """The mean of each run of `width` values, (n - width + 1,)."""
    sums = np.cumsum(np.concatenate([[0.0], values]), dtype=np.float64)
    return ((sums[width:] - sums[:-width]) / width).astype(np.float32)
