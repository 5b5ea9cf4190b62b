"""From a row of segments to opening curves: every sound pulls towards its target, as hard as it insists and as near as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from museserve.messages import FloatArray
from musetalk.speech_cues.controls import FTUCK, JAW, LIP_CLOSE, LOWER_DROP, N_CONTROLS, PRESS, ROUND, TONGUE, UPPER_RAISE, WIDE
from musetalk.speech_cues.segments import Segment
from musetalk.speech_cues.visemes import Kind

Seconds = NDArray[np.float64]

# Nothing further ahead of an instant than this is looked at, so that a stretch of speech can be cut anywhere.
HORIZON_S = 0.22
REACH_S = (0.10, 0.16)  # a segment's pull fades to nothing between these distances

_TAU_JAW = (0.055, 0.050)  # seconds before, after
_TAU_LIPS = (0.055, 0.050)
_TAU_CORNERS = (0.085, 0.060)  # rounding is anticipated


def smoothstep(x: NDArray[np.floating[Any]]) -> FloatArray:
    clipped = np.clip(x, 0.0, 1.0)
    return np.asarray(clipped * clipped * (3.0 - 2.0 * clipped), np.float32)


def blend(segments: Sequence[Segment], times: Seconds) -> FloatArray:
    """Control curves (n, N_CONTROLS) at `times` (n,) in seconds, before smoothing and closures."""
    curves = np.zeros((len(times), N_CONTROLS), np.float32)
    near = [s for s in segments if s.end > times[0] - 0.3 and s.start < times[-1] + 0.3]
    start = np.array([s.start for s in near])[:, None]
    end = np.array([s.end for s in near])[:, None]
    pause = np.array([s.viseme.kind is Kind.PAUSE for s in near])[:, None]
    vowel = np.array([s.viseme.kind is Kind.VOWEL for s in near])[:, None]
    end = np.where(pause, np.minimum(end, times + HORIZON_S), end)
    length = np.maximum(end - start, 0.0)
    margin = np.minimum(length / 4.0, np.where(pause, 0.05, np.inf))
    first, last = start + margin, np.maximum(end - margin, start + margin)
    before, after = np.maximum(first - times, 0.0), np.maximum(times - last, 0.0)

    insist = np.where(vowel, np.minimum(0.55 + length / 0.110, 1.3), 1.0)
    insist = np.where(pause, np.interp(length, (0.10, 0.14, 0.25, 0.35), (0.03, 0.5, 0.5, 2.0)), insist)
    reach = 1.0 - smoothstep((before + after - REACH_S[0]) / (REACH_S[1] - REACH_S[0]))

    def pull(by: str, tau: tuple[float, float]) -> FloatArray:
        strength = np.array([getattr(s.viseme, by) for s in near])[:, None]
        weight = strength * insist * reach * np.exp(-((before / tau[0] + after / tau[1]) ** 1.25)) + 1e-9
        return np.asarray(weight / weight.sum(axis=0), np.float32)

    def target(name: str, scaled: bool = False) -> FloatArray:
        return np.array([getattr(s.viseme, name) * (s.gain if scaled else 1.0) for s in near], np.float32)

    jaw, lips, corners = pull("by_jaw", _TAU_JAW), pull("by_lips", _TAU_LIPS), pull("by_corners", _TAU_CORNERS)
    curves[:, JAW] = target("jaw", True) @ jaw
    curves[:, LOWER_DROP] = target("lower_drop", True) @ lips
    curves[:, UPPER_RAISE] = target("upper_raise", True) @ lips
    curves[:, WIDE] = target("wide") @ corners
    curves[:, ROUND] = target("round") @ corners
    curves[:, TONGUE] = target("tongue") @ jaw
    return curves


def contacts(segments: Sequence[Segment], times: Seconds) -> tuple[FloatArray, FloatArray]:
    """How far the lips are shut (p b m), and tucked under the teeth (f v), 0..1, at `times`.

    Held long enough, 55 ms, that at least one frame of 40 ms shows them fully.
    """
    shut = np.zeros(len(times), np.float32)
    tuck = np.zeros(len(times), np.float32)
    for segment in segments:
        if segment.viseme.kind not in (Kind.CLOSURE, Kind.TUCK):
            continue
        closure = segment.viseme.kind is Kind.CLOSURE
        middle, hold = 0.5 * (segment.start + segment.end), max(0.8 * segment.length, 0.055)
        ramp_in = 0.055 if closure else 0.060
        inside = (times - (middle - hold / 2 - ramp_in)) / ramp_in
        outside = ((middle + hold / 2 + 0.050) - times) / 0.050
        envelope = 0.5 - 0.5 * np.cos(np.pi * np.clip(np.minimum(inside, outside), 0.0, 1.0))
        np.maximum(shut if closure else tuck, envelope, out=shut if closure else tuck)
    return shut, tuck


def apply_contacts(curves: FloatArray, shut: FloatArray, tuck: FloatArray) -> None:
    """Meet the lips in smoothed `curves`, in place: the jaw rises a little, the lips do the rest, so the chin does not chew."""
    curves[:, JAW] *= (1.0 - 0.62 * shut) * (1.0 - 0.55 * tuck)
    curves[:, [LOWER_DROP, UPPER_RAISE]] *= ((1.0 - shut) * (1.0 - tuck))[:, None]
    curves[:, [WIDE, ROUND]] *= (1.0 - 0.35 * shut)[:, None]
    curves[:, TONGUE] *= 1.0 - shut
    curves[:, LIP_CLOSE] = curves[:, JAW] * shut
    curves[:, PRESS] = 0.75 * shut
    curves[:, FTUCK] = tuck * (1.0 - shut)
