"""Light and shadow of lips that protrude: a flat warp narrows the mouth of an o or u, but only shading brings it forward."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from museserve.messages import Box, ByteArray, FloatArray
from musetalk.animator.anatomy import Anatomy, Array
from musetalk.animator.lipline import LipLine
from musetalk.animator.sampling import moved_by, sample

NEUTRAL = 128
LEAST_ROUNDING = 0.04  # below it nothing is drawn
REACH_MM = 9.0  # the mouth moves at most so far
LOWER_GLEAM, UPPER_GLEAM, BELOW_SHADOW, CORNER_SHADOW = 17.0, 9.0, -15.0, -11.0  # grey levels at full rounding


@dataclass(frozen=True)
class Relief:
    """levels: uint8 (h, w), `NEUTRAL` plus the grey levels to add, in texture pixels from (x, y)."""

    levels: ByteArray
    x: int
    y: int


def mouth_relief(anatomy: Anatomy, line: LipLine, texture_scale: int) -> Relief:
    """A gleam on each lip, a shadow below the lower one and at the corners. texture_scale: texture pixels per output pixel."""
    half, upper, lower = anatomy.half_width, anatomy.upper_lip, anatomy.lower_lip
    corners = (anatomy.corners((-half - 14, -upper - 12), (half + 14, lower + 16)) + 0.5) * texture_scale
    (x0, y0), (x1, y1) = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    grid = np.stack(np.meshgrid(np.arange(x0, x1), np.arange(y0, y1)), -1)
    x, y = np.moveaxis(anatomy.from_texture(grid, texture_scale), -1, 0)

    def spot(center_x: float, width_x: float, distance: Array, width_y: float) -> Array:
        gauss: Array = np.exp(-(((x - center_x) / width_x) ** 2) - (distance / width_y) ** 2)
        return gauss

    down, up = y - line.lower(x), line.upper(x) - y
    levels = LOWER_GLEAM * spot(0.0, 7.5, down - 0.42 * lower, 0.24 * lower)
    levels += UPPER_GLEAM * (spot(-3.2, 2.6, up - 0.75 * upper, 0.3 * upper) + spot(3.2, 2.6, up - 0.75 * upper, 0.3 * upper))
    levels += BELOW_SHADOW * spot(0.0, 10.0, down - 1.3 * lower, 0.32 * lower)
    for side in (-1.0, 1.0):
        levels += CORNER_SHADOW * spot(side * (half + 1.5), 4.5, y - line.mid(x), 5.0)
    return Relief(np.rint(levels + NEUTRAL).astype(np.uint8), int(x0), int(y0))


def draw_relief(luma: ByteArray, luma_map: FloatArray, relief: Relief, rounding: float, box: Box, scale: float, texture_scale: int) -> None:
    """Shade a crop's luma in place. scale: output pixels per mm; luma_map: where each of its pixels comes from in the texture."""
    if rounding < LEAST_ROUNDING:
        return
    reach = int(REACH_MM * scale)
    height, width = relief.levels.shape
    x0, y0 = max(relief.x // texture_scale - box.x - reach, 0), max(relief.y // texture_scale - box.y - reach, 0)
    x1, y1 = (relief.x + width) // texture_scale - box.x + reach, (relief.y + height) // texture_scale - box.y + reach
    part = luma[y0:y1, x0:x1]
    levels = sample(relief.levels, moved_by(luma_map[y0:y1, x0:x1], -relief.x, -relief.y))
    part[:] = cv2.addWeighted(part, 1.0, levels, rounding, -NEUTRAL * rounding)
