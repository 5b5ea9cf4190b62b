"""What a face does while somebody else speaks, and while it thinks: gestures at fixed places of the idle loop, added to its motion.

A lap is the loop with the gestures of one state in it. Each begins and ends on the loop's own pictures, so a player may show any of them in place
of the loop, or none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from museserve.timebase import FPS, IDLE_FRAMES, SEGMENT_FRAMES
from musetalk.animator.anatomy import Array, smoothstep
from musetalk.animator.fields import IDLE_FIELDS
from musetalk.animator.idle import IdleMotion
from musetalk.speech_cues.blinks import blink_curve

# Head, degrees and mm; eyes, mm; brows, of their way.
NOD_PITCH, NOD_DROP_MM = 2.6, 0.5
TILT_ROLL, TILT_YAW = 2.4, 0.8
BROW, BROW_PITCH = 0.75, -0.7
AWAY_YAW, AWAY_PITCH, AWAY_ROLL = 1.9, -0.9, 0.7
AWAY_GAZE_MM = (2.5, -1.0)
DOWN = 1.6  # who looks down goes so much further than who looks up
FOLLOWS_MM = 0.19  # that the eyes go the other way for each degree of the head, so that they stay on the viewer
VARIES = 0.2  # of a size, at most


@dataclass(frozen=True)
class Span:
    """Segments [first, first + n) of a lap, in which a gesture is."""

    first: int
    n: int

    @property
    def frames(self) -> range:
        return range(self.first * SEGMENT_FRAMES, (self.first + self.n) * SEGMENT_FRAMES)


@dataclass(frozen=True)
class Lap:
    """motion: over the loop, as in `IdleMotion`. brows: (IDLE_FRAMES,) 0..1, how far they are raised. spans: where it is not the loop's own."""

    motion: IdleMotion
    brows: Array
    spans: tuple[Span, ...]


@dataclass
class Curves:
    """What a gesture adds at `seconds` (n,) since its beginning."""

    seconds: Array
    fields: dict[str, Array]
    brows: Array
    gaze: Array
    blink_s: float | None = None

    @classmethod
    def still(cls, n: int) -> Curves:
        return cls(np.arange(n) / FPS, {}, np.zeros(n), np.zeros((n, 2)))


def bump(seconds: Array, begin: float, rise: float, hold: float, fall: float) -> Array:
    """0 .. 1 .. 0: up from `begin` on over `rise` seconds, there for `hold`, down over `fall`."""
    return smoothstep((seconds - begin) / rise) - smoothstep((seconds - begin - rise - hold) / fall)


def _nod(curves: Curves, size: float, side: float) -> None:
    down = bump(curves.seconds, 0.04, 0.22, 0.02, 0.40)
    back = bump(curves.seconds, 0.44, 0.20, 0.0, 0.26)  # a little beyond where it began
    _head(curves, pitch=size * NOD_PITCH * (down - 0.12 * back), shift_y=size * NOD_DROP_MM * down)


def _double_nod(curves: Curves, size: float, side: float) -> None:
    first, second = bump(curves.seconds, 0.04, 0.19, 0.0, 0.26), bump(curves.seconds, 0.46, 0.20, 0.0, 0.42)
    both = 0.85 * first + 0.6 * second
    _head(curves, pitch=size * NOD_PITCH * both, shift_y=size * NOD_DROP_MM * both)


def _slow_nod(curves: Curves, size: float, side: float) -> None:
    down = bump(curves.seconds, 0.05, 0.36, 0.08, 0.66)
    _head(
        curves, pitch=0.9 * size * NOD_PITCH * down, shift_y=size * NOD_DROP_MM * down, smile=0.22 * size * bump(curves.seconds, 0.1, 0.4, 0.1, 0.6)
    )


def _tilt(curves: Curves, size: float, side: float) -> None:
    lean = bump(curves.seconds, 0.05, 0.5, 0.36, 0.6)
    _head(curves, roll=side * size * TILT_ROLL * lean, yaw=-side * size * TILT_YAW * lean, pitch=0.3 * size * lean)
    curves.brows += 0.25 * size * bump(curves.seconds, 0.1, 0.3, 0.3, 0.5)


def _brows(curves: Curves, size: float, side: float) -> None:
    up = bump(curves.seconds, 0.04, 0.16, 0.14, 0.42)
    _head(curves, pitch=size * BROW_PITCH * up)
    curves.brows += size * BROW * up


def _away(curves: Curves, size: float, side: float, up: float = 1.0) -> None:
    """Eyes first, with a blink, and the head a little after them; the eyes are back before the head."""
    end = float(curves.seconds[-1])
    eyes = bump(curves.seconds, 0.05, 0.06, end - 0.75, 0.07)
    head = bump(curves.seconds, 0.08, 0.42, end - 1.18, 0.5)
    _turn(curves, yaw=side * size * AWAY_YAW * head, pitch=up * size * AWAY_PITCH * head, roll=-side * size * AWAY_ROLL * head)
    curves.gaze += size * eyes[:, None] * np.array([side * AWAY_GAZE_MM[0], up * AWAY_GAZE_MM[1]])
    curves.brows += 0.2 * size * max(up, 0.0) * head
    curves.blink_s = 0.0


def _down(curves: Curves, size: float, side: float) -> None:
    """As who looks at the notes of what was said."""
    _away(curves, size, 0.35 * side, -DOWN)


def _turn(curves: Curves, **fields: Array) -> None:
    for name, curve in fields.items():
        curves.fields[name] = curves.fields.get(name, np.zeros(len(curve))) + curve


def _head(curves: Curves, **fields: Array) -> None:
    """The head moves, and the eyes stay on the viewer."""
    _turn(curves, **fields)
    for axis, turn in enumerate(("yaw", "pitch")):
        if turn in fields:
            curves.gaze[:, axis] -= FOLLOWS_MM * fields[turn]


Draw = Callable[[Curves, float, float], None]
# First segment, how many, and what. The loop's first segment stays its own: a player may have to begin anew there. A gesture follows another
# after a pause; who thinks has not long to wait for the next.
LAPS: Mapping[str, tuple[tuple[int, int, Draw], ...]] = {
    "listening": ((2, 3, _nod), (7, 5, _tilt), (14, 3, _brows), (19, 4, _slow_nod), (26, 4, _double_nod)),
    "thinking": ((1, 6, _away), (9, 6, _down), (17, 6, _away), (25, 6, _away)),
}


def lap(motion: IdleMotion, state: str, seed: int, amount: float = 1.0) -> Lap:
    """The loop with the gestures of a state in it. Equal seeds give equal gestures; amount: 1 = as people do."""
    rng = np.random.default_rng([seed, sorted(LAPS).index(state)])
    weights, lids, gaze = (array.copy() for array in (motion.weights, motion.lids, motion.gaze))
    brows = np.zeros(IDLE_FRAMES)
    side = float(rng.choice((-1.0, 1.0)))
    spans = []
    for first, n, draw in LAPS[state]:
        span = Span(first, n)
        curves = Curves.still(n * SEGMENT_FRAMES)
        draw(curves, amount * (1.0 + VARIES * float(rng.uniform(-1, 1))), side)
        side = -side
        for name, curve in curves.fields.items():
            weights[span.frames, IDLE_FIELDS.index(name)] += curve
        brows[span.frames] += curves.brows
        gaze[span.frames] += curves.gaze
        if curves.blink_s is not None:
            lids[span.frames] = np.maximum(lids[span.frames], blink_curve(curves.seconds - curves.blink_s))
        spans.append(span)
    return Lap(replace(motion, weights=weights, lids=lids, gaze=gaze), brows, tuple(spans))
