"""From segments to control curves: every sound pulls towards its target, as its dominance and its distance say.

Source: Cohen and Massaro, Modeling Coarticulation in Synthetic Visual Speech (1993).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from museserve.messages import FloatArray
from musetalk.speech_cues.controls import FTUCK, JAW, LIP_CLOSE, LOWER_DROP, N_CONTROLS, PRESS, ROUND, TONGUE, UPPER_RAISE, WIDE
from musetalk.speech_cues.segments import Segment, Times
from musetalk.speech_cues.visemes import Kind

# Nothing further ahead of an instant than this is looked at, so that a stretch of speech can be cut anywhere.
HORIZON_S = 0.22
REACH_S = (0.10, 0.16)  # a segment's dominance fades to nothing between these distances
NEAR_S = 0.3  # what is further away than this has none
MARGIN_SHARE, PAUSE_MARGIN_S = 0.25, 0.05  # ends of a segment, where dominance already falls; of a pause at most

# Time constants before and after a segment, s.
TAU_JAW = TAU_LIPS = (0.055, 0.050)
TAU_CORNERS = (0.085, 0.060)  # rounding is anticipated
DECAY_POWER = 1.25
VOWEL_LEAST, VOWEL_GROWS_S, VOWEL_MOST = 0.55, 0.110, 1.3  # dominance of a vowel; it gains 1 each so long
PAUSE_LENGTHS_S, PAUSE_DOMINANCE = (0.10, 0.14, 0.25, 0.35), (0.03, 0.5, 0.5, 2.0)  # short pauses are talked over

HOLD_SHARE, HOLD_S = 0.8, 0.055  # of a contact: at least so long that one frame of 40 ms shows it fully
CLOSURE_IN_S, TUCK_IN_S, CONTACT_OUT_S = 0.055, 0.060, 0.050
# What contacts take off the jaw and the corners: the jaw rises a little, lips do the rest, so the chin does not chew.
CLOSURE_JAW, TUCK_JAW, CLOSURE_CORNERS = 0.62, 0.55, 0.35
CLOSURE_PRESS = 0.75


def smoothstep(x: NDArray[np.floating[Any]]) -> FloatArray:
    """3x² - 2x³ of x clipped to 0..1, float32."""
    clipped = np.clip(x, 0.0, 1.0)
    return np.asarray(clipped * clipped * (3.0 - 2.0 * clipped), np.float32)


def coarticulate(segments: Sequence[Segment], times: Times) -> FloatArray:
    """Control curves (n, N_CONTROLS) at `times` (n,) in seconds, before smoothing and closures."""
    curves = np.zeros((len(times), N_CONTROLS), np.float32)
    near = [s for s in segments if s.end > times[0] - NEAR_S and s.start < times[-1] + NEAR_S]
    start = np.array([s.start for s in near])[:, None]
    end = np.array([s.end for s in near])[:, None]
    pause = np.array([s.viseme.kind is Kind.PAUSE for s in near])[:, None]
    vowel = np.array([s.viseme.kind is Kind.VOWEL for s in near])[:, None]
    end = np.where(pause, np.minimum(end, times + HORIZON_S), end)
    length = np.maximum(end - start, 0.0)
    margin = np.minimum(MARGIN_SHARE * length, np.where(pause, PAUSE_MARGIN_S, np.inf))
    first, last = start + margin, np.maximum(end - margin, start + margin)
    before, after = np.maximum(first - times, 0.0), np.maximum(times - last, 0.0)

    dominance = np.where(vowel, np.minimum(VOWEL_LEAST + length / VOWEL_GROWS_S, VOWEL_MOST), 1.0)
    dominance = np.where(pause, np.interp(length, PAUSE_LENGTHS_S, PAUSE_DOMINANCE), dominance)
    reach = 1.0 - smoothstep((before + after - REACH_S[0]) / (REACH_S[1] - REACH_S[0]))

    def weights(of: str, tau: tuple[float, float]) -> FloatArray:
        """(segments, n), of sum 1 at each time."""
        strength = np.array([getattr(s.viseme, of) for s in near])[:, None]
        decay = np.exp(-((before / tau[0] + after / tau[1]) ** DECAY_POWER))
        weight = strength * dominance * reach * decay + 1e-9
        return np.asarray(weight / weight.sum(axis=0), np.float32)

    def target(name: str, scaled: bool = False) -> FloatArray:
        return np.array([getattr(s.viseme, name) * (s.gain if scaled else 1.0) for s in near], np.float32)

    jaw, lips = weights("jaw_dominance", TAU_JAW), weights("lip_dominance", TAU_LIPS)
    corners = weights("corner_dominance", TAU_CORNERS)
    curves[:, JAW] = target("jaw", True) @ jaw
    curves[:, LOWER_DROP] = target("lower_drop", True) @ lips
    curves[:, UPPER_RAISE] = target("upper_raise", True) @ lips
    curves[:, WIDE] = target("wide") @ corners
    curves[:, ROUND] = target("round") @ corners
    curves[:, TONGUE] = target("tongue") @ jaw
    return curves


def contacts(segments: Sequence[Segment], times: Times) -> tuple[FloatArray, FloatArray]:
    """How far the lips are shut (p b m), and tucked under the teeth (f v), 0..1, at `times` (n,): (n,) each."""
    shut = np.zeros(len(times), np.float32)
    tuck = np.zeros(len(times), np.float32)
    for segment in segments:
        if segment.viseme.kind not in (Kind.CLOSURE, Kind.TUCK):
            continue
        closure = segment.viseme.kind is Kind.CLOSURE
        middle, hold = 0.5 * (segment.start + segment.end), max(HOLD_SHARE * segment.length, HOLD_S)
        ramp_in = CLOSURE_IN_S if closure else TUCK_IN_S
        inside = (times - (middle - hold / 2 - ramp_in)) / ramp_in
        outside = ((middle + hold / 2 + CONTACT_OUT_S) - times) / CONTACT_OUT_S
        envelope = 0.5 - 0.5 * np.cos(np.pi * np.clip(np.minimum(inside, outside), 0.0, 1.0))
        np.maximum(shut if closure else tuck, envelope, out=shut if closure else tuck)
    return shut, tuck


def apply_contacts(curves: FloatArray, shut: FloatArray, tuck: FloatArray) -> None:
    """Meet the lips in smoothed `curves` (n, N_CONTROLS), in place, by `contacts`."""
    curves[:, JAW] *= (1.0 - CLOSURE_JAW * shut) * (1.0 - TUCK_JAW * tuck)
    curves[:, [LOWER_DROP, UPPER_RAISE]] *= ((1.0 - shut) * (1.0 - tuck))[:, None]
    curves[:, [WIDE, ROUND]] *= (1.0 - CLOSURE_CORNERS * shut)[:, None]
    curves[:, TONGUE] *= 1.0 - shut
    curves[:, LIP_CLOSE] = curves[:, JAW] * shut
    curves[:, PRESS] = CLOSURE_PRESS * shut
    curves[:, FTUCK] = tuck * (1.0 - shut)
