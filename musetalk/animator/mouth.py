"""Draws the mouth's interior between the moved lips into a frame's planes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from contracts import ByteArray, FloatArray

from .anatomy import Array, smoothstep
from .interior import LOWER_EDGE_MM, RED_EXPONENTS, MouthParts, Plate
from .teeth import PhotoTeeth

SUPER = 2  # the interior is drawn at this many pixels per output pixel
LEAST_GAP_MM = 0.12
PUSH_MM, PUSH_GAP_MM = 0.50, 1.7  # mask edges move into the lips, over the dark line of the photograph
LOWER_FOLLOWS, TONGUE_FOLLOWS = 0.93, 0.86
TONGUE_REST_MM = -2.0  # its top
PHOTO_LOWER_MM = 2.6  # lower teeth begin so much above the photographed lower lip
PHOTO_TONGUE_MM = 3.0
SEAM_MM, SEAM_GAP_MM = 0.33, 1.0  # where a photographed gap is closed, the line between the lips has to be drawn
CORNER_SHADE, CORNER_SHARE = 0.36, 0.85  # the inner cheek shows in the corners, which would be black holes else
SEAM_SHADE = 0.42  # of the lip's own colour
ROUND_SHADE = 0.33  # lips that protrude leave the teeth in their shadow

_LEVELS = np.arange(256) / 255.0
_REDDISH = np.stack([_LEVELS**exponent * 255 for exponent in RED_EXPONENTS], -1).round().astype(np.uint8)[:, None, :]
_TO_LUMA = np.array([[0.256788, 0.504129, 0.097906]], np.float32)
_TO_CHROMA = np.array([[-0.148223, -0.290993, 0.439216], [0.439216, -0.367788, -0.071427]], np.float32)


@dataclass(frozen=True)
class Opening:
    """The moved lips. columns: pixel positions (n,) of output columns in the crop; upper, lower: (n,) rows of the two contours there.

    s: (n,) -1..1 between the corners. scale: pixels per mm. jaw: mm that the jaw is down; tongue, rounding: 0..1; presence: 0..1 fades all in.
    skull: (2, 3) affine from mm of the face frame to the crop's pixels.
    """

    columns: FloatArray
    upper: FloatArray
    lower: FloatArray
    s: FloatArray
    scale: float
    jaw: float
    tongue: float
    rounding: float
    presence: float
    skull: Array


def draw_mouth(planes: tuple[ByteArray, ByteArray, ByteArray], opening: Opening, parts: MouthParts, photo: PhotoTeeth | None) -> None:
    """Draw into (luma, u, v) of a crop, in place. Nothing is drawn if the lips touch."""
    scale = opening.scale
    gap_mm = (opening.lower - opening.upper) / scale
    widest = float(gap_mm.max(initial=0.0))
    if widest < LEAST_GAP_MM and photo is None:
        return
    push = PUSH_MM * scale * np.maximum(1 - opening.s**2, 0) ** 0.2 * float(smoothstep(np.array(widest / PUSH_GAP_MM)))
    push = push * smoothstep(gap_mm / 0.5)
    if photo is not None:
        push = np.maximum(push, SEAM_MM * scale * np.maximum(1 - opening.s**2, 0) ** 0.35)
    upper, lower = opening.upper - push, opening.lower + push
    wide = np.nonzero(lower - upper > 0.02 * scale)[0]
    if len(wide) == 0:
        return
    luma = planes[0]
    x0, x1 = int(opening.columns[wide[0]]) // 2 * 2, -(-int(opening.columns[wide[-1]] + 1) // 2) * 2
    y0, y1 = int(np.floor(upper[wide].min())) // 2 * 2 - 2, int(np.ceil(lower[wide].max())) // 2 * 2 + 4
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, luma.shape[1]), min(y1, luma.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    width, height = (x1 - x0) * SUPER, (y1 - y0) * SUPER
    fine_x = x0 + (np.arange(width, dtype=np.float32) + 0.5) / SUPER - 0.5
    fine_y = (y0 + (np.arange(height, dtype=np.float32) + 0.5) / SUPER - 0.5)[:, None]
    top, bottom, s = (np.interp(fine_x, opening.columns, values).astype(np.float32) for values in (upper, lower, opening.s))
    half = 0.5 / SUPER
    cover = np.clip((np.minimum(bottom, fine_y + half) - np.maximum(top, fine_y - half)) * SUPER, 0, 1)

    color = _layers(opening, parts, photo, (x0, y0), (width, height), top, bottom, fine_y)
    shade = _shade(top, bottom, s, fine_y, scale, widest) * (1 - ROUND_SHADE * opening.rounding)
    if photo is not None:
        shade = 1 - (1 - shade) * opening.presence
    gains: Array = cv2.LUT(cv2.merge([np.clip(shade * 255 + 0.5, 0, 255).astype(np.uint8)] * 3), _REDDISH)
    color = _mix(cv2.multiply(color, gains, scale=1 / 255), parts.lip * CORNER_SHADE, CORNER_SHARE * smoothstep((np.abs(s) - 0.72) / 0.28))

    if photo is not None:
        seam = 1 - smoothstep(np.interp(fine_x, opening.columns, gap_mm).astype(np.float32) / SEAM_GAP_MM)
        color = _mix(color, parts.lip * SEAM_SHADE, seam)
    cover *= opening.presence
    weighted = color.astype(np.float32) * cover[..., None]
    small = cv2.resize(weighted, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    share = cv2.resize(cover, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    _blend(luma[y0:y1, x0:x1], cv2.transform(small, _TO_LUMA) + 16.0 * share, share)
    tiny, share = (cv2.resize(values, ((x1 - x0) // 2, (y1 - y0) // 2), interpolation=cv2.INTER_AREA) for values in (small, share))
    chroma = cv2.transform(tiny, _TO_CHROMA) + 128.0 * share[..., None]
    for number in (0, 1):
        _blend(planes[1 + number][y0 // 2 : y1 // 2, x0 // 2 : x1 // 2], chroma[..., number], share)


def _mix(color: Array, other: Array, share: Array) -> ByteArray:
    """`other` (3,) in place of `color` where `share` (width,) is 1."""
    mixed: ByteArray = (color * (1 - share)[None, :, None] + other * share[None, :, None]).astype(np.uint8)
    return mixed


def _blend(plane: ByteArray, weighted: Array, share: Array) -> None:
    np.copyto(plane, np.rint(plane * (1 - share) + weighted), casting="unsafe")


def _layers(
    opening: Opening,
    parts: MouthParts,
    photo: PhotoTeeth | None,
    corner: tuple[int, int],
    size: tuple[int, int],
    top: Array,
    bottom: Array,
    fine_y: Array,
) -> Array:
    """RGB of the interior (height, width, 3), unshaded."""
    depth = (fine_y - top) / np.maximum(bottom - top, 0.5)
    color: Array = cv2.LUT(cv2.merge([np.clip(depth * 255, 0, 255).astype(np.uint8)] * 3), parts.cavity)
    gap = float((bottom - top).max()) / opening.scale
    lift = opening.tongue * (0.55 * opening.jaw + 3.0)
    tongue_y = TONGUE_REST_MM + TONGUE_FOLLOWS * opening.jaw - lift
    light = 0.55 + 0.45 * min(1.0, gap / 9.0)
    lower_y = LOWER_EDGE_MM + LOWER_FOLLOWS * opening.jaw
    if photo is not None:
        lower_y += photo.lower_lip - PHOTO_LOWER_MM
        tongue_y += photo.lower_lip - PHOTO_TONGUE_MM
    color = _over(color, _place(parts.tongue, opening, corner, size, tongue_y), light)
    color = _over(color, _place(parts.lower, opening, corner, size, lower_y))
    if photo is None:
        return _over(color, _place(parts.upper, opening, corner, size, 0.0))
    return _over(color, _place(photo.plate, opening, corner, size, 0.0))


def _place(plate: Plate, opening: Opening, corner: tuple[int, int], size: tuple[int, int], down: float) -> Array:
    """Warp a part into the patch, moved down by `down` mm."""
    skull = opening.skull
    to_crop = skull[:, :2] / plate.scale
    offset = skull[:, :2] @ np.array([plate.origin[0], plate.origin[1] + down]) + skull[:, 2]
    matrix = np.column_stack([to_crop, offset - np.array(corner)]) * SUPER
    matrix[:, 2] += (SUPER - 1) / 2
    placed: Array = cv2.warpAffine(plate.rgba, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return placed


def _over(below: Array, above: Array, light: float = 1.0) -> Array:
    """`above` (premultiplied RGBA) over `below` (RGB)."""
    red, green, blue, alpha = cv2.split(above)
    rest = cv2.bitwise_not(alpha)
    kept = cv2.multiply(below, cv2.merge([rest, rest, rest]), scale=1 / 255)
    blended: Array = cv2.scaleAdd(cv2.merge([red, green, blue]), light, kept)
    return blended


def _shade(top: Array, bottom: Array, s: Array, fine_y: Array, scale: float, widest: float) -> Array:
    """Light that reaches a point, 0..1: less under the upper lip, in the corners, on the lower lip and through a small gap."""
    depth = 0.30 + 0.22 * float(smoothstep(np.array(widest / 5.0)))
    under = 1 - depth * (1 - smoothstep((fine_y - top) / (3.0 * scale)))
    contact = 0.86 + 0.14 * smoothstep((bottom - fine_y) / (1.6 * scale))
    corners = 1 - 0.5 * smoothstep((np.abs(s) - 0.5) / 0.5)
    small = 0.74 + 0.26 * float(smoothstep(np.array((widest - 0.3) / 3.2)))
    shade: Array = under * contact * (corners * small)
    return shade
