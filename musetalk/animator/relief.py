"""Light and shadow that a flat warp lacks.

Lips that protrude: a warp narrows the mouth of an o or u, but only shading brings it forward. Folds of a photographed smile: a warp takes the
corners down, but what the smile has folded stays dark beside a mouth that says something else.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from museserve.messages import Box, ByteArray
from musetalk.animator.anatomy import Anatomy, Array, ramp
from musetalk.animator.lipline import LipLine
from musetalk.animator.sampling import Places, sample_at

NEUTRAL = 128
LEAST_AMOUNT = 0.04  # below it nothing is drawn
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

# From the wing of the nose round the mouth's corner; what is finer than the first blur is skin, what is wider than the second the face's own light.
FOLDS = ((129, 216, 212, 202), (358, 436, 432, 422))
FOLD_FINE_MM, FOLD_WIDE_MM = 0.6, 5.0
FOLD_MM, FOLD_REACH = 5.0, 1.9  # half width of the skin beside a fold; of it, what is seen to
FOLD_SOFTENS, FOLD_LEVELS = 0.6, 30.0  # share, grey levels at most
FOLD_CLEAR_MM = 3.0  # from the corner of the lips, which stay


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


def smile_folds(anatomy: Anatomy, line: LipLine, luma: ByteArray, texture_scale: int) -> tuple[Relief, ...]:
    """What smooths the folds beside a mouth that is photographed in an open smile; none beside other mouths. luma: the texture's."""
    if not line.is_open:
        return ()
    scale = anatomy.scale * texture_scale
    reliefs = []
    for numbers in FOLDS:
        fold = anatomy.at(*numbers)
        margin = FOLD_REACH * FOLD_MM
        corners = (anatomy.corners(tuple(fold.min(0) - margin), tuple(fold.max(0) + margin)) + 0.5) * texture_scale
        (x0, y0), (x1, y1) = np.clip(np.floor(corners.min(0)), 0, None).astype(int), np.ceil(corners.max(0)).astype(int)
        part = luma[y0:y1, x0:x1].astype(np.float32)
        fine, wide = (cv2.GaussianBlur(part, (0, 0), width * scale) for width in (FOLD_FINE_MM, FOLD_WIDE_MM))
        grid = np.stack(np.meshgrid(np.arange(x0, x0 + part.shape[1]), np.arange(y0, y0 + part.shape[0])), -1)
        at = anatomy.from_texture(grid, texture_scale)
        beside = np.exp(-((_distance(at, fold) / FOLD_MM) ** 2))
        side = np.sign(fold[:, 0].mean())
        corner = np.array([side * anatomy.half_width, float(line.mid(np.array([side * anatomy.half_width]))[0])])
        clear = ramp(np.hypot(*np.moveaxis(at - corner, -1, 0)), FOLD_CLEAR_MM / 2, FOLD_CLEAR_MM) * (np.abs(at[..., 0]) > 0.8 * anatomy.half_width)
        levels = FOLD_SOFTENS * np.clip(wide - fine, -FOLD_LEVELS, FOLD_LEVELS) * beside * clear
        reliefs.append(Relief(np.rint(levels + NEUTRAL).astype(np.uint8), int(x0), int(y0)))
    return tuple(reliefs)


def _distance(points: Array, path: Array) -> Array:
    """(h, w) of points (h, w, 2) from the nearest place on a path (n, 2)."""
    nearest: Array = np.full(points.shape[:2], np.inf)
    for start, end in zip(path[:-1], path[1:], strict=True):
        way = end - start
        share = np.clip((points - start) @ way / (way @ way), 0, 1)
        nearest = np.minimum(nearest, np.hypot(*np.moveaxis(points - start - share[..., None] * way, -1, 0)))
    return nearest


def draw_relief(luma: ByteArray, places: Places, relief: Relief, amount: float, box: Box, scale: float, texture_scale: int) -> None:
    """Shade a crop's luma in place, 0..1 of the relief.

    Args:
        places: x and y (box.h / 2, box.w / 2): where each chroma sample of the crop comes from in the texture's chroma.
        scale: output pixels per mm.
    """
    if amount < LEAST_AMOUNT:
        return
    reach = int(REACH_MM * scale)
    height, width = relief.levels.shape
    x0, y0 = max(relief.x // texture_scale - box.x - reach, 0) // 2, max(relief.y // texture_scale - box.y - reach, 0) // 2
    x1, y1 = (relief.x + width) // texture_scale - box.x + reach, (relief.y + height) // texture_scale - box.y + reach
    x1, y1 = min(x1, luma.shape[1]) // 2, min(y1, luma.shape[0]) // 2
    # levels are smooth: every second pixel tells enough, which is where chroma is sampled, and costs a quarter
    x, y = (place[y0:y1, x0:x1] * np.float32(2) + np.float32(0.5 - start) for place, start in zip(places, (relief.x, relief.y), strict=True))
    part = luma[2 * y0 : 2 * y1, 2 * x0 : 2 * x1]
    levels = cv2.resize(sample_at(relief.levels, x, y), (part.shape[1], part.shape[0]), interpolation=cv2.INTER_LINEAR)
    part[:] = cv2.addWeighted(part, 1.0, levels, amount, -NEUTRAL * amount)
