"""When a face that speaks blinks: where a phrase ends, and now and then with a word. No two blinks are alike.

Like all gestures a function of the utterance's time and of what lies near, never of how the speech was cut (`accents`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from museserve.messages import FloatArray
from musetalk.speech_cues.coarticulation import smoothstep
from musetalk.speech_cues.segments import Times
from musetalk.speech_cues.variety import chance

CLOSE_S, HOLD_S, OPEN_S = 0.075, 0.030, 0.150

CELL_S = 3.2  # a stretch of time has one blink, mostly
WAIT_S, WAIT_VARIES_S, WINDOW_S = 0.3, 1.2, 1.0  # from its beginning: there a window opens in which phrases end with a blink
LATE_S = 0.45  # after the window one comes with a sound, within so long
APART_S = 0.85  # unless a phrase ended with one since; phrases that end so soon after another do so without
EARLY_S = (0.10, 0.02)  # before the end of a phrase a blink begins
SLOWEST, QUICKEST = 1.3, 0.85  # of the times above
HALF_SHARE, HALF_DEPTH = 0.2, (0.5, 0.75)  # of those with a word do not shut the eye


def blink_curve(seconds: Times, pace: float = 1.0, depth: float = 1.0) -> FloatArray:
    """Lid level 0 open .. `depth` at `seconds` (n,) since the blink's beginning; pace: times as slow."""
    closing = smoothstep(seconds / (pace * CLOSE_S))
    opening = smoothstep((seconds - pace * (CLOSE_S + HOLD_S)) / (pace * OPEN_S))
    return np.asarray(np.where(seconds < 0, 0.0, depth * (closing - opening)), np.float32)


def blinks(ends: Sequence[float], onsets: Sequence[float], times: Times, phase: int = 0) -> FloatArray:
    """Lid level (n,) 0..1 at `times` (n,). ends: seconds at which phrases end; onsets: of sounds, s, with which a blink may begin."""
    lids = np.zeros(len(times), np.float32)

    def blink(begin: float, number: int, depth: float) -> None:
        pace = QUICKEST + (SLOWEST - QUICKEST) * chance(number, phase, 21)
        np.maximum(lids, blink_curve(times - begin, pace, depth), out=lids)

    def window(second: float) -> float:
        """Seconds since the window of its cell opened."""
        cell = int(second // CELL_S)
        return second - cell * CELL_S - WAIT_S - WAIT_VARIES_S * chance(cell, phase, 24)

    blinking = [end for end in ends if 0.0 <= window(end) <= WINDOW_S]
    for end in blinking:
        if not any(end - APART_S < other < end for other in blinking):
            early, late = EARLY_S
            blink(end - early + (early - late) * chance(_number(end), phase, 23), _number(end), 1.0)
    taken: set[int] = set()
    for onset in onsets:
        cell = int(onset // CELL_S)
        if cell in taken or not WINDOW_S < window(onset) <= WINDOW_S + LATE_S:
            continue
        taken.add(cell)
        if not any(onset - APART_S < end <= onset for end in blinking):
            low, high = HALF_DEPTH
            half = chance(_number(onset), phase, 27) < HALF_SHARE
            blink(onset, _number(onset), low + (high - low) * chance(_number(onset), phase, 26) if half else 1.0)
    return lids


def _number(second: float) -> int:
    """By which chance tells an instant from others."""
    return int(second * 1_000 + 0.5)
