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
MARGINS_MM = (14.0, 12.0, 16.0)  # around the red of the lips, in which there is shading: beside, above, below


@dataclass(frozen=True)
class Spot:
    """A Gaussian of light or shadow. level: grey levels at full rounding. side, width: mm from the mouth's middle, mm.

    at, height: middle and width up or down from the lip line, as shares of the lip's height.
    """

    level: float
    side: float
    width: float
    at: float
    height: float


LOWER_GLEAM = Spot(17.0, 0.0, 7.5, 0.42, 0.24)
UPPER_GLEAM = Spot(9.0, 3.2, 2.6, 0.75, 0.3)  # on either side
BELOW_SHADOW = Spot(-15.0, 0.0, 10.0, 1.3, 0.32)  # on the skin below the lower lip
CORNER_SHADOW = Spot(-11.0, 1.5, 4.5, 0.0, 5.0)  # beyond either corner; height in mm


@dataclass(frozen=True)
class Relief:
    """levels: uint8 (h, w), `NEUTRAL` plus the grey levels to add, in texture pixels from (x, y)."""

    levels: ByteArray
    x: int
    y: int


def mouth_relief(anatomy: Anatomy, line: LipLine, texture_scale: int) -> Relief:
    """A gleam on each lip, a shadow below the lower one and at the corners. texture_scale: texture pixels per output pixel."""
    half, upper, lower = anatomy.half_width, anatomy.upper_lip, anatomy.lower_lip
    beside, above, below = MARGINS_MM
    corners = (anatomy.corners((-half - beside, -upper - above), (half + beside, lower + below)) + 0.5) * texture_scale
    (x0, y0), (x1, y1) = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    grid = np.stack(np.meshgrid(np.arange(x0, x1), np.arange(y0, y1)), -1)
    x, y = np.moveaxis(anatomy.from_texture(grid, texture_scale), -1, 0)

    def gauss(spot: Spot, side: float, distance: Array, lip: float) -> Array:
        off = (distance - spot.at * lip) / (spot.height * lip)
        bell: Array = np.exp(-(((x - side) / spot.width) ** 2) - off**2)
        return bell

    down, up = y - line.lower(x), line.upper(x) - y
    levels = LOWER_GLEAM.level * gauss(LOWER_GLEAM, 0.0, down, lower)
    levels += UPPER_GLEAM.level * sum(gauss(UPPER_GLEAM, side * UPPER_GLEAM.side, up, upper) for side in (-1, 1))
    levels += BELOW_SHADOW.level * gauss(BELOW_SHADOW, 0.0, down, lower)
    for side in (-1, 1):
        levels += CORNER_SHADOW.level * gauss(CORNER_SHADOW, side * (half + CORNER_SHADOW.side), y - line.mid(x), 1.0)
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
