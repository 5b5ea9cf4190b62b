"""How a head moves: whether it shakes, jumps, freezes, sways enough, and how often it blinks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]

SHUT_SHARE = 0.55  # of the usual eye opening: below is a blink
SHUT_SCORE, SHUT_ABOVE_USUAL = 0.5, 0.3  # the landmarker's own opinion of a shut eye
FROZEN = 0.03  # grey levels of mean difference: below, two frames are the same picture


@dataclass(frozen=True)
class HeadMotion:
    """All in per cent of the eye span. jitter: second difference of points that move with the skull, median and 95th percentile over
    frames; jump: the largest step from one frame to the next; reach: how far the head gets, the larger of the two directions.
    """

    jitter_median: float
    jitter_p95: float
    jump: float
    reach: float


def head_motion(skull: Curve) -> HeadMotion:
    """From points (n, k, 2) in eye spans, NaN where no face was found; only neighbouring frames are compared.

    Raises:
        ValueError: fewer than three frames in a row have a face.
    """
    bend = np.linalg.norm(skull[2:] - 2 * skull[1:-1] + skull[:-2], axis=2).mean(axis=1)
    step = np.linalg.norm(np.diff(skull, axis=0), axis=2).mean(axis=1)
    bend, step = bend[np.isfinite(bend)], step[np.isfinite(step)]
    if not len(bend):
        raise ValueError("no three frames in a row show a face")
    center = skull.mean(axis=1)
    reach = np.nanmax(center, axis=0) - np.nanmin(center, axis=0)
    return HeadMotion(*(100 * float(v) for v in (np.median(bend), np.percentile(bend, 95), step.max(), reach.max())))


def count_blinks(eye_opening: Curve, blink_score: Curve) -> int:
    """Times that the eyes go shut. Both curves (n,), NaN where no face was found."""
    usual = float(np.nanmedian(eye_opening))
    surely = max(SHUT_SCORE, float(np.nanmedian(blink_score)) + SHUT_ABOVE_USUAL)
    shut = (eye_opening < SHUT_SHARE * usual) | (blink_score > surely)
    return int(np.count_nonzero(shut[1:] & ~shut[:-1])) + int(shut[0])


def longest_freeze_s(changes: Curve, frame_s: float, which: NDArray[np.bool_]) -> float:
    """Longest run of frames among `which` that show the picture before them. changes: (n,) grey levels."""
    longest = run = 0
    for same in (changes < FROZEN) & which:
        run = run + 1 if same else 0
        longest = max(longest, run)
    return longest * frame_s
