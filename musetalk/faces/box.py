"""The face box: from landmarks to the rectangle that MuseTalk redraws, and its path through a clip.

The rule is the published one: the lower border is the chin, the middle is the third point of the nose bridge, so that the hidden lower half
begins there. Published boxes follow whole bins of the pose network from frame to frame; in a clip the path is smoothed instead.

Source: MuseTalk repository at 0a89dec, musetalk/utils/preprocessing.py (MIT), written anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[Any]
Boxes = NDArray[np.float64]

NOSE = 29  # of 68 in iBUG order: 0-16 jaw, 17-26 brows, 27-30 nose bridge, 31-35 nostrils, 36-47 eyes, 48-67 mouth
MARGIN_AT = 240.0  # height of the face box, pixels, at which a margin is meant as given: that of the published example
MEDIAN_FRAMES = 7  # a lone wrong landmark, or a few, leave no trace
SMOOTH_FRAMES = 3.0  # standard deviation of the Gaussian after it

# MediaPipe's landmarks that stand for the 68 points that decide. Against iBUG points of another landmarker, on the shipped portraits: the
# middle agrees within 1.7 % of the box's height, the chin within 1 %, the sides within 2 % of its width.
MP_LEFT, MP_RIGHT = (127, 234, 93, 132), (356, 454, 323, 361)
MP_CHIN = (152, 148, 377)
MP_NOSE = (195, 5)  # one above and one below point 29


@dataclass(frozen=True)
class BoxRule:
    """How a box is cut. version: "v1.5" adds a margin below the chin, "v1.0" moves the middle by `shift` pixels instead.

    margin: pixels below the chin at a box of 240 pixels' height; in proportion at other sizes when `scaled`, else as they are.
    """

    version: str = "v1.5"
    margin: float = 10.0
    shift: int = 0
    scaled: bool = True


def ibug_box(points: Points, shift: float = 0.0) -> Boxes:
    """The published rule before any rounding.

    Args:
        points: (68, 2) pixels, iBUG order. shift: moves the middle down, pixels (v1.0's bbox_shift).
    Returns:
        float64 (4,): x0, y0, x1, y1.
    """
    middle = float(points[NOSE, 1]) + shift
    bottom = float(points[:, 1].max())
    top = max(0.0, middle - (bottom - middle))
    return np.array([points[:, 0].min(), top, points[:, 0].max(), bottom], np.float64)


def mesh_box(landmarks: Points, shift: float = 0.0) -> Boxes:
    """The same rule for MediaPipe's 478 landmarks (478, 2 or 3): float64 (4,)."""
    middle = float(landmarks[list(MP_NOSE), 1].mean()) + shift
    bottom = float(landmarks[list(MP_CHIN), 1].max())
    left, right = float(landmarks[list(MP_LEFT), 0].min()), float(landmarks[list(MP_RIGHT), 0].max())
    return np.array([left, max(0.0, middle - (bottom - middle)), right, bottom], np.float64)


def is_usable(box: Points) -> bool:
    """Whether the published code would take this box: it has an area and does not begin left of the frame."""
    return bool(box[3] - box[1] > 0 and box[2] - box[0] > 0 and box[0] >= 0)


def whole_pixels(box: Boxes, rule: BoxRule, width: int, height: int) -> tuple[int, int, int, int]:
    """A box as it is cut: truncated, with v1.5's margin below, inside the frame of width x height pixels."""
    x0, y0, x1, y1 = (int(v) for v in box)
    if rule.version == "v1.5":
        margin = rule.margin * (y1 - y0) / MARGIN_AT if rule.scaled else rule.margin
        y1 += round(margin)
    return max(0, x0), max(0, y0), min(x1, width), min(y1, height)


def smooth_path(boxes: Boxes, *, loop: bool) -> Boxes:
    """A steady path through the boxes of consecutive frames, without lag: median, then Gaussian, over time.

    Args:
        boxes: float64 (n, 4), all known. loop: the frame after the last is the first; otherwise the clip is played forth and back.
    """
    reach = MEDIAN_FRAMES // 2
    padded = _extended(boxes, reach, loop)
    median = np.median(np.lib.stride_tricks.sliding_window_view(padded, MEDIAN_FRAMES, axis=0), axis=-1)
    taps = int(np.ceil(4 * SMOOTH_FRAMES))
    kernel = np.exp(-0.5 * (np.arange(-taps, taps + 1) / SMOOTH_FRAMES) ** 2)
    kernel /= kernel.sum()
    windows = np.lib.stride_tricks.sliding_window_view(_extended(median, taps, loop), len(kernel), axis=0)
    return np.asarray(windows @ kernel)


def _extended(path: Boxes, reach: int, loop: bool) -> Boxes:
    """`reach` more frames at both ends, as the player would show them."""
    n = len(path)
    index = np.arange(-reach, n + reach)
    if not loop and n > 1:
        period = 2 * n - 2
        index = index % period
        index = np.where(index < n, index, period - index)
    return path[index % n]


def bridge(boxes: Boxes) -> Boxes:
    """Boxes with gaps filled along a straight line between their neighbours; gaps at an end repeat the nearest box.

    boxes: float64 (n, 4), NaN in frames without a face, of which there must be others.
    """
    frames, known = np.arange(len(boxes)), np.flatnonzero(~np.isnan(boxes[:, 0]))
    after = known[np.minimum(np.searchsorted(known, frames), len(known) - 1)]
    before = known[np.maximum(np.searchsorted(known, frames, "right") - 1, 0)]
    share = (frames - before) / np.maximum(after - before, 1)
    return np.asarray(boxes[before] + (boxes[after] - boxes[before]) * share[:, None])


def jitter(boxes: Points) -> float:
    """How much a path shakes: root mean square of the second differences of the box's corners, pixels."""
    if len(boxes) < 3:
        return 0.0
    return float(np.sqrt(np.mean(np.square(np.diff(np.asarray(boxes, np.float64), n=2, axis=0)))))
