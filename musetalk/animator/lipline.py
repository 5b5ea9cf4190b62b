"""The line where the lips meet.

Landmarks are one or two pixels off, and the dark line between the lips gives every error away: it is searched in the picture itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from musetalk.animator.anatomy import Anatomy, Array
from musetalk.animator.lines import shortest_path
from musetalk.animator.sampling import sample

INNER_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)

OPEN_GAP_MM = 3.2  # above it the photograph shows teeth, and the two contours are kept apart
SEARCH_MM = 2.6
STEP_MM = 0.05
COLUMNS = 61
BLUR_MM = 0.35
DEGREE, OPEN_DEGREE = 8, 6
FIT_SHARE = 0.93  # of the half width: nearer to the corners a gap says nothing about its shape
GAP_POWER = 0.6  # of the arc that a gap is a polynomial of
END_WEIGHT, OPEN_END_WEIGHT = 0.02, 0.05  # of the corners in the fit of the line
OFFSET_COST, OFFSET_POWER, STEP_COST = 4.0, 1.5, 0.6  # grey levels: per mm^power off the landmarks, per step up or down
MOST_STEPS = 2  # from one column to the next
MAX_SLOPE, SLOPE_FROM = 0.3, 0.8  # of the ends; they are measured from this part of the half width on
RAY_MM = 25.0  # beyond the corners the line goes on with its slope, which dies out over this distance


@dataclass(frozen=True)
class LipLine:
    """The contours of the two lips over x in mm; one and the same line in a picture of closed lips.

    middle: polynomial (np.polyval) in s = x / half_width. gap: polynomial g so that the photographed gap is g(s)·(1 - s²)^0.6, or None.
    """

    half_width: float
    middle: Array
    slopes: Array
    gap: Array | None

    @property
    def is_open(self) -> bool:
        return self.gap is not None

    def mid(self, x: Array) -> Array:
        s = np.clip(x / self.half_width, -1.0, 1.0)
        beyond = np.abs(x) - self.half_width
        slope = np.where(x < 0, self.slopes[0], self.slopes[1])
        line: Array = np.polyval(self.middle, s) + np.where(beyond > 0, slope * RAY_MM * (1 - np.exp(-np.maximum(beyond, 0) / RAY_MM)), 0.0)
        return line

    def opening(self, x: Array) -> Array:
        """The gap that the photograph shows, mm."""
        if self.gap is None:
            return np.zeros_like(x)
        s = np.clip(x / self.half_width, -1.0, 1.0)
        gap: Array = np.maximum(np.polyval(self.gap, s), 0.0) * (1 - s * s) ** GAP_POWER
        return gap

    def upper(self, x: Array) -> Array:
        return self.mid(x) - self.opening(x) / 2

    def lower(self, x: Array) -> Array:
        return self.mid(x) + self.opening(x) / 2


def find_lip_line(anatomy: Anatomy, luma: Array, texture_scale: float) -> LipLine:
    """Trace the lip line.

    Args:
        luma: grey texture, `texture_scale` times the output picture's size.
    """
    upper, lower = anatomy.at(*INNER_UPPER), anatomy.at(*INNER_LOWER)
    half = anatomy.half_width
    x = np.linspace(-half, half, COLUMNS)
    s = x / half
    top, bottom = (np.interp(x, points[:, 0], points[:, 1]) for points in (upper, lower))
    weights = 1 - s**4
    if float((bottom - top).max()) > OPEN_GAP_MM:
        middle = np.polyfit(s, (top + bottom) / 2, OPEN_DEGREE, w=weights + OPEN_END_WEIGHT)
        inside = np.abs(s) < FIT_SHARE
        shape = (1 - s[inside] ** 2) ** GAP_POWER
        gap = np.polyfit(s[inside], (bottom - top)[inside] / shape, OPEN_DEGREE - 2, w=shape)
        return LipLine(half, middle, _end_slopes(middle, half), gap)

    blurred = cv2.GaussianBlur(luma.astype(np.float32), (0, 0), BLUR_MM * anatomy.scale * texture_scale)
    offsets = np.arange(-SEARCH_MM, SEARCH_MM + STEP_MM / 2, STEP_MM)
    start = (top + bottom) / 2
    points = np.stack(np.broadcast_arrays(x[None, :], start[None, :] + offsets[:, None]), -1)
    grey = sample(blurred, anatomy.to_texture(points, texture_scale).astype(np.float32))
    cost = grey + OFFSET_COST * np.abs(offsets[:, None]) ** OFFSET_POWER
    y = start + offsets[shortest_path(cost, STEP_COST, MOST_STEPS)]
    middle = np.polyfit(s, y, DEGREE, w=weights + END_WEIGHT)
    return LipLine(half, middle, _end_slopes(middle, half), None)


def _end_slopes(middle: Array, half: float) -> Array:
    """Outward slopes (dy per mm away from the mouth) at the two corners, from the last fifth of the line."""
    ends, before = (np.polyval(middle, share * np.array([-1.0, 1.0])) for share in (1.0, SLOPE_FROM))
    slopes: Array = np.clip((ends - before) / (0.2 * half), -MAX_SLOPE, MAX_SLOPE)
    return slopes
