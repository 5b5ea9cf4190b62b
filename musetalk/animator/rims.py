"""Rims of spectacles in a portrait: traced round each eye, so that lids close behind them and skin stretches without them.

A rim is a closed line round the eye, darker or lighter than the skin on both of its sides. Lashes, brows and the nose are such lines too, but none of
them runs below the eye: there the line must be seen nearly everywhere, or it is no rim that can be masked.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from musetalk.animator.anatomy import Anatomy, Array, smoothstep
from musetalk.animator.colors import LUMA_WEIGHTS
from musetalk.animator.lines import shortest_path
from musetalk.animator.sampling import sample

RADII_MM, RADIUS_STEP_MM = (7.0, 36.0), 0.25  # where a rim may run, from the eye's middle
ANGLES = 120
HALF_WIDTHS_MM = (1.0, 1.7, 2.6)  # the line is compared with what lies so far on either side
LASHES_MM, BESIDE_MM = 3.0, 2.5  # around the lids' edges, above and below and beside the corners, nothing counts
CLEAR = 0.10  # contrast, of the cheek's light, from which a line counts as seen
STEP_COST = 0.12  # of a full line's worth, for each step in or out from one angle to the next
BELOW = 0.25  # sine of the angle from which on a place is below the eye
SEEN_SHARE = 0.8  # of the places below that must show the line
LIKE = 0.15  # of the cheek's light: by so much it may be darker or lighter elsewhere
EDGE_SHARE, WIDEST_MM = 0.35, 3.2  # the mask ends where so much of the line's contrast is left, at the latest so far from its middle
GROW_MM, SOFT_MM = 0.5, 0.35
FILL_PX = 3  # of the inpainting


@dataclass(frozen=True)
class Rims:
    """mask: float32 (h, w) of the texture, 1 on a rim. bare: the texture with the skin that the rims hide made up, RGB float32."""

    mask: Array
    bare: Array


def find_rims(anatomy: Anatomy, eyes: tuple[Array, Array], texture: Array, texture_scale: int) -> Rims | None:
    """The rims round both eyes; None where one cannot be traced.

    Args:
        eyes: landmarks (n, 2) along the lids of each eye, mm. texture: RGB float32 (h, w, 3), `texture_scale` times the output's size.
    """
    luma = np.asarray(texture @ np.array(LUMA_WEIGHTS, np.float32))
    blurred = cv2.GaussianBlur(luma, (0, 0), 0.3 * anatomy.scale * texture_scale)
    mask = np.zeros(luma.shape, np.float32)
    for lids in eyes:
        rim = _rim(anatomy, lids, blurred, texture_scale)
        if rim is None:
            return None
        mask = np.maximum(mask, rim)
    hidden = (mask > 0.02).astype(np.uint8)
    filled = cv2.inpaint(np.clip(np.rint(texture), 0, 255).astype(np.uint8), hidden, FILL_PX, cv2.INPAINT_TELEA)
    bare = np.where(hidden[..., None] > 0, filled.astype(np.float32), texture)
    return Rims(mask, bare)


def _rim(anatomy: Anatomy, lids: Array, luma: Array, texture_scale: int) -> Array | None:
    """The rim round one eye as a mask like `luma`."""
    middle, half = (lids.min(0) + lids.max(0)) / 2, (lids.max(0) - lids.min(0)) / 2
    turn = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)
    radii = np.arange(RADII_MM[0], RADII_MM[1], RADIUS_STEP_MM)
    ways = np.stack([np.cos(turn), np.sin(turn)], -1)
    places = middle + radii[:, None, None] * ways  # (radii, angles, 2)
    ring = sample(luma, anatomy.to_texture(places, texture_scale).astype(np.float32))
    contrast = np.max([_line(ring, round(width / RADIUS_STEP_MM)) for width in HALF_WIDTHS_MM], axis=0)
    eye = (places - middle) / (half + [BESIDE_MM, LASHES_MM])
    contrast[(eye**2).sum(-1) < 1] = 0.0
    skin = float(np.percentile(ring, 75))
    around = np.arange(ANGLES)
    path = _closed_path(np.minimum(contrast / (CLEAR * skin), 1.0))
    below = np.sin(turn) > BELOW
    strength, light = contrast[path, around][below], ring[path, around][below]
    if (strength >= CLEAR * skin).mean() < SEEN_SHARE:
        return None
    # Above the eye are brows and lashes: the rim is the line that looks as it does below.
    alike = np.exp(-(((ring - np.median(light)) / (LIKE * skin)) ** 2))
    path = _closed_path(np.minimum(contrast / np.median(strength), 1.0) * alike)
    cover = _cover(ring, path, skin)
    to_mm = anatomy.from_texture(np.stack(np.meshgrid(np.arange(luma.shape[1]), np.arange(luma.shape[0])), -1), texture_scale) - middle
    row = (np.hypot(to_mm[..., 0], to_mm[..., 1]) - radii[0]) / RADIUS_STEP_MM
    column = np.mod(np.arctan2(to_mm[..., 1], to_mm[..., 0]), 2 * np.pi) * ANGLES / (2 * np.pi)
    closed = np.concatenate([cover, cover[:, :1]], axis=1)
    mask = cv2.remap(closed, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    soft = cv2.GaussianBlur(mask, (0, 0), SOFT_MM * anatomy.scale * texture_scale)
    return np.asarray(smoothstep(soft * 2.0), np.float32)


def _closed_path(worth: Array) -> Array:
    """The line round the eye (angles,) with the greatest sum of `worth` (radii, angles), 0..1."""
    part = ANGLES // 2  # half a turn on either side, so that it closes
    wrapped = np.concatenate([worth[:, -part:], worth, worth[:, :part]], axis=1)
    return shortest_path(-wrapped, STEP_COST, 4)[part : part + ANGLES]


def _line(ring: Array, off: int) -> Array:
    """How much darker or lighter a place (radii, angles) is than both of its sides, `off` radii away."""
    inner, outer = np.roll(ring, off, axis=0), np.roll(ring, -off, axis=0)
    contrast = np.maximum(np.minimum(inner, outer) - ring, ring - np.maximum(inner, outer))
    contrast[:off] = contrast[-off:] = 0.0
    line: Array = np.maximum(contrast, 0.0)
    return line


def _cover(ring: Array, path: Array, skin: float) -> Array:
    """1 on the line of `path` (angles,) and as far around it as it has its contrast, float32 (radii, angles)."""
    cover = np.zeros(ring.shape, np.float32)
    widest, grow = round(WIDEST_MM / RADIUS_STEP_MM), round(GROW_MM / RADIUS_STEP_MM)
    for angle, middle in enumerate(path):
        low, high = max(middle - widest, 0), min(middle + widest + 1, len(ring))
        here = ring[low:high, angle]
        around = np.median(np.concatenate([here[:3], here[-3:], [skin]]))
        apart = np.abs(here - around)
        strong = apart > EDGE_SHARE * apart[middle - low]
        first = last = middle - low
        while first > 0 and strong[first - 1]:
            first -= 1
        while last < len(strong) - 1 and strong[last + 1]:
            last += 1
        cover[max(low + first - grow, 0) : low + last + 1 + grow, angle] = 1.0
    return cover
