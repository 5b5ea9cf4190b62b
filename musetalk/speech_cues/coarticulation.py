"""From segments to control curves: every sound pulls towards its target, as its dominance and its distance say.

Source: Cohen and Massaro, Modeling Coarticulation in Synthetic Visual Speech (1993).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from museserve.messages import FloatArray
from musetalk.speech_cues.controls import (
    FTUCK,
    JAW,
    JAW_MM,
    LIP_CLOSE,
    LOWER_DROP,
    LOWER_DROP_MM,
    N_CONTROLS,
    PRESS,
    ROUND,
    TONGUE,
    UPPER_RAISE,
    UPPER_RAISE_MM,
    WIDE,
)
from musetalk.speech_cues.segments import Segment, Times
from musetalk.speech_cues.visemes import Kind

# Nothing further ahead of an instant than this is looked at, so that a stretch of speech can be cut anywhere.
HORIZON_S = 0.22
REACH_S = (0.10, 0.16)  # a segment's dominance fades to nothing between these distances
NEAR_S = 0.3  # what is further away than this has none
MARGIN_SHARE, PAUSE_MARGIN_S = 0.25, 0.05  # ends of a segment, where dominance already falls; of a pause at most

# Time constants before and after a segment, s.
TAU_JAW = TAU_LIPS = (0.055, 0.050)
TAU_CORNERS = (0.100, 0.070)  # rounding is anticipated, and outlasts its vowel
DECAY_POWER = 1.25
VOWEL_LEAST, VOWEL_GROWS_S, VOWEL_MOST = 0.55, 0.110, 1.3  # dominance of a vowel; it gains 1 each so long
STRESS_DOMINANCE = (0.85, 1.2, 1.0)  # none, primary, secondary: stressed vowels keep their shape, others take their neighbours'
PAUSE_LENGTHS_S, PAUSE_DOMINANCE = (0.10, 0.14, 0.25, 0.35), (0.03, 0.5, 0.5, 2.0)  # short pauses are talked over

HOLD_SHARE, HOLD_S = 0.8, 0.055  # of a contact: at least so long that one frame of 40 ms shows it fully
CLOSURE_IN_S, TUCK_IN_S, CONTACT_OUT_S = 0.065, 0.065, 0.055
CONTACTS, STRAIGHT = (Kind.CLOSURE, Kind.TUCK), 0.5  # share of the time, where one follows another
# What contacts take off the jaw and the corners: the jaw rises, lips do the rest, so the chin does not chew.
CLOSURE_JAW, TUCK_JAW, CLOSURE_CORNERS = 0.80, 0.70, 0.35
CLOSURE_PRESS = 0.75

# How fast lips part and meet, mm/s. Measured: a lower lip that says "bob" 20 times, every 7 ms (data set `lip` of R's package fda, Ramsay, Hooker and
# Graves 2009; its unit is not told, but a lip's way of 18 is in mm). At their quickest, 40 ms carry it 9.3 mm down (11.9 at most) and 7.9 up (9.8),
# half of its way; peaks are 264 and 223 mm/s.
OPENING_MM_S, CLOSING_MM_S = 232.0, 198.0
PREPARES_S = 0.06  # before a contact, at most, that lips give up opening in order to meet in time, and after it


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

    care = np.array([STRESS_DOMINANCE[s.stress if 0 <= s.stress <= 2 else 0] for s in near])[:, None]
    dominance = np.where(vowel, care * np.minimum(VOWEL_LEAST + length / VOWEL_GROWS_S, VOWEL_MOST), 1.0)
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
    for number, segment in enumerate(segments):
        if segment.viseme.kind not in CONTACTS:
            continue
        closure = segment.viseme.kind is Kind.CLOSURE
        middle, hold = 0.5 * (segment.start + segment.end), max(HOLD_SHARE * segment.length, HOLD_S)
        ramp_in, ramp_out = segment.pace * (CLOSURE_IN_S if closure else TUCK_IN_S), segment.pace * CONTACT_OUT_S
        # From one contact to another lips go straight.
        ramp_in *= STRAIGHT if number > 0 and segments[number - 1].viseme.kind in CONTACTS else 1.0
        ramp_out *= STRAIGHT if number + 1 < len(segments) and segments[number + 1].viseme.kind in CONTACTS else 1.0
        inside = (times - (middle - hold / 2 - ramp_in)) / ramp_in
        outside = ((middle + hold / 2 + ramp_out) - times) / ramp_out
        envelope = 0.5 - 0.5 * np.cos(np.pi * np.clip(np.minimum(inside, outside), 0.0, 1.0))
        np.maximum(shut if closure else tuck, envelope, out=shut if closure else tuck)
    return shut, tuck


def apply_contacts(curves: FloatArray, shut: FloatArray, tuck: FloatArray, step_s: float) -> None:
    """Meet the lips in smoothed `curves` (n, N_CONTROLS) every `step_s`, in place, by `contacts`; no faster than lips move."""
    curves[:, JAW] *= 1.0 - TUCK_JAW * tuck
    curves[:, [LOWER_DROP, UPPER_RAISE]] *= (1.0 - tuck)[:, None]
    jaw, lips = JAW_MM * curves[:, JAW], LOWER_DROP_MM * curves[:, LOWER_DROP] + UPPER_RAISE_MM * curves[:, UPPER_RAISE]
    wanted = within_speed((jaw * (1.0 - CLOSURE_JAW * shut) + lips) * (1.0 - shut), step_s)
    # How shut lips are that are `wanted` mm apart: of (jaw (1 - CLOSURE_JAW x) + lips) (1 - x) = wanted the root within 0..1.
    square, linear = CLOSURE_JAW * np.maximum(jaw, 1e-3), (1.0 + CLOSURE_JAW) * np.maximum(jaw, 1e-3) + lips
    root = np.sqrt(np.maximum(linear**2 - 4.0 * square * (jaw + lips - wanted), 0.0))
    near = np.clip((linear - root) / (2.0 * square), shut, 1.0)
    curves[:, JAW] *= 1.0 - CLOSURE_JAW * near
    curves[:, [LOWER_DROP, UPPER_RAISE]] *= (1.0 - near)[:, None]
    curves[:, [WIDE, ROUND]] *= (1.0 - CLOSURE_CORNERS * shut)[:, None]
    curves[:, TONGUE] *= 1.0 - shut
    curves[:, LIP_CLOSE] = curves[:, JAW] * near
    curves[:, PRESS] = CLOSURE_PRESS * shut
    curves[:, FTUCK] = tuck * (1.0 - shut)


def within_speed(gap: FloatArray, step_s: float) -> FloatArray:
    """`gap` (n,) in mm every `step_s`, lowered where lips would part or meet faster than they can.

    It looks `PREPARES_S` to either side: a contact stays where it is, what is open around it gives way.
    """
    limited = gap.copy()
    for steps in range(1, round(PREPARES_S / step_s) + 1):
        seconds = steps * step_s
        np.minimum(limited[steps:], gap[:-steps] + OPENING_MM_S * seconds, out=limited[steps:])
        np.minimum(limited[:-steps], gap[steps:] + CLOSING_MM_S * seconds, out=limited[:-steps])
    return limited
