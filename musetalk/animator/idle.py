"""The life of a face that says nothing: sway, breathing, blinks and small eye movements, exactly periodic over the idle loop.

Every motion is a whole harmonic of the loop, so the frame after the last is the first. Speech is added to it, never put in its place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from museserve.timebase import FPS, IDLE_FRAMES
from musetalk.animator.anatomy import Array, smoothstep
from musetalk.animator.fields import IDLE_FIELDS
from musetalk.speech_cues.blinks import blink_curve

RESTING_SMILE = 0.25  # neutral portraits look severe without it
SMILES_MM, SMILE_LEAST = (3.8, 4.8), 0.2  # corners that lie so far above the lip line's middle are neutral, smile; the share that is left then

# field: amplitudes of its harmonics of 1 / loop; degrees, mm
HARMONICS: dict[str, tuple[tuple[int, float], ...]] = {
    "yaw": ((1, 1.0), (2, 0.6), (4, 0.2)),
    "pitch": ((1, 0.6), (3, 0.35), (5, 0.12)),
    "roll": ((1, 0.45), (2, 0.3), (3, 0.15)),
    "shift_x": ((1, 0.5), (2, 0.3)),
    "shift_y": ((2, 0.25), (3, 0.15)),
}
LOOP_S = IDLE_FRAMES / FPS
BREATHS = 2  # a loop
# By chance turns and tilts may cancel, or add up to more than a calm listener does: phases are drawn until the eyes travel this far.
EYES_TRAVEL_MM = (5.0, 8.0)
EYES_BEFORE_AXIS_MM, EYES_ABOVE_PIVOT_MM = 60.0, 140.0

BLINK_GAP_S = (2.2, 4.8)
BLINK_PACE = (0.85, 1.4)  # times as slow as a usual one
HALF_SHARE, HALF_DEPTH = 0.15, (0.55, 0.75)  # of the blinks, but the first, do not shut the eye
DOUBLE_BLINK_SHARE = 0.03  # more would take a short film beyond 30 blinks a minute
DOUBLE_BLINK_S = 0.36

FIXATION_S = (0.45, 1.5)
GAZE_MM = (0.22, 0.12)  # standard deviation of where a fixation looks, horizontally and vertically
GLANCE_SHARE, GLANCE_MM = 0.12, 0.75
SACCADE_S = 0.045
EYE_RADIUS_MM = 11.5
STEADINESS = 0.85  # share of the head's turn that the eyes undo to stay on the viewer
LID_FOLLOWS = 0.09  # lid level per mm of downward gaze


@dataclass(frozen=True)
class IdleMotion:
    """weights: (IDLE_FRAMES, len(IDLE_FIELDS)); lids: (IDLE_FRAMES,) 0 open .. 1 shut; gaze: (IDLE_FRAMES, 2) mm right and down."""

    weights: Array
    lids: Array
    gaze: Array


def idle_motion(seed: int, smile: float = RESTING_SMILE) -> IdleMotion:
    """The motion of one avatar. Equal seeds give equal motion."""
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * np.arange(IDLE_FRAMES) / IDLE_FRAMES
    curves = {name: np.zeros(IDLE_FRAMES) for name in IDLE_FIELDS}
    curves["smile"] += smile
    sway = _sway(rng, phase)
    while not EYES_TRAVEL_MM[0] <= np.ptp(_eyes_sideways(sway)) <= EYES_TRAVEL_MM[1]:
        sway = _sway(rng, phase)
    curves |= sway
    curves["breath"] = np.sin(BREATHS * phase + rng.uniform(0, 2 * np.pi))
    gaze = _fixations(rng)
    for axis, turn in enumerate(("yaw", "pitch")):
        gaze[:, axis] -= STEADINESS * EYE_RADIUS_MM * np.sin(np.radians(curves[turn]))
    return IdleMotion(np.stack([curves[name] for name in IDLE_FIELDS], 1).astype(np.float32), _blinks(rng), gaze.astype(np.float32))


def resting_smile(corners_mm: float) -> float:
    """What is added to a portrait whose mouth's corners lie `corners_mm` above the middle of its lip line: less where it smiles already."""
    neutral, smiling = SMILES_MM
    already = min(max((corners_mm - neutral) / (smiling - neutral), 0.0), 1.0)
    return RESTING_SMILE * (1.0 - (1.0 - SMILE_LEAST) * already)


def _sway(rng: np.random.Generator, phase: Array) -> dict[str, Array]:
    """The head's curves with phases by chance."""
    return {
        name: np.sum([amplitude * np.sin(number * phase + rng.uniform(0, 2 * np.pi)) for number, amplitude in harmonics], axis=0)
        for name, harmonics in HARMONICS.items()
    }


def _eyes_sideways(sway: dict[str, Array]) -> Array:
    """How far to the side the motions together carry the eyes, mm."""
    shift: Array = sway["shift_x"] + np.radians(sway["yaw"]) * EYES_BEFORE_AXIS_MM + np.radians(sway["roll"]) * EYES_ABOVE_PIVOT_MM
    return shift


def _since(start: float) -> Array:
    """Seconds (IDLE_FRAMES,) since `start` at each frame, round the loop."""
    return np.mod(np.arange(IDLE_FRAMES) / FPS - start, LOOP_S)


def _partition(rng: np.random.Generator, shortest: float, longest: float) -> Array:
    """Starts in seconds of intervals, each about `shortest`..`longest` seconds, that fill the loop exactly."""
    count = max(1, round(LOOP_S / ((shortest + longest) / 2)))
    lengths = rng.uniform(shortest, longest, count)
    ends = np.cumsum(lengths * (LOOP_S / lengths.sum()))
    return np.mod(np.concatenate([[0.0], ends[:-1]]) + rng.uniform(0, LOOP_S), LOOP_S)


def _blinks(rng: np.random.Generator) -> Array:
    lids = np.zeros(IDLE_FRAMES)
    for number, start in enumerate(_partition(rng, *BLINK_GAP_S)):
        half = number > 0 and rng.random() < HALF_SHARE
        depth = rng.uniform(*HALF_DEPTH) if half else 1.0
        lids = np.maximum(lids, blink_curve(_since(start), rng.uniform(*BLINK_PACE), depth))
        if rng.random() < DOUBLE_BLINK_SHARE:
            lids = np.maximum(lids, blink_curve(_since(start + DOUBLE_BLINK_S)))
    return lids.astype(np.float32)


def _fixations(rng: np.random.Generator) -> Array:
    starts = np.sort(_partition(rng, *FIXATION_S))
    targets = rng.normal(0, 1, (len(starts), 2)) * GAZE_MM
    for target in targets:
        if rng.random() < GLANCE_SHARE:
            target[0] += GLANCE_MM * rng.choice((-1.0, 1.0))
    targets -= targets.mean(0)
    gaze = np.zeros((IDLE_FRAMES, 2))
    lengths = np.mod(np.roll(starts, -1) - starts, LOOP_S)
    for index, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        since = _since(start)
        here = since < length
        share = smoothstep(since[here] / SACCADE_S)[:, None]
        gaze[here] = targets[index - 1] * (1 - share) + targets[index] * share
    return gaze
