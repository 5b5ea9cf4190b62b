"""Draws the mouth's interior between the moved lips into a frame's planes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from museserve.messages import ByteArray, FloatArray
from musetalk.animator.anatomy import Array, ramp, scalar_smoothstep, smoothstep
from musetalk.animator.colors import CHROMA, LUMA, Planes
from musetalk.animator.interior import LOWER_EDGE_MM, RED_EXPONENTS, MouthParts, Plate
from musetalk.animator.teeth import PhotoTeeth

LEAST_GAP_MM = 0.12
# Mask edges move into the lips, over the dark line of the photograph; in full from these gaps on, widest and local.
PUSH_MM, PUSH_POWER, PUSH_WIDEST_MM, PUSH_GAP_MM = 0.55, 0.2, 2.6, 0.5
LEAST_HEIGHT_MM = 0.02
LOWER_FOLLOWS, TONGUE_FOLLOWS = 0.93, 0.86
OVERBITE_MM, OVERBITE_JAW_MM = 1.6, 7.0  # lower down in a shut mouth, where the upper row hides it; up to this jaw
TONGUE_REST_MM = -2.0  # its top
HIDDEN_MM = 1.5  # what begins so far below the opening is not drawn: a tilted head lifts one side of it
PHOTO_LOWER_MM = 1.2  # lower teeth begin so much above the photographed lower lip, which hides most of them
PHOTO_TONGUE_MM = 3.0
SEAM_MM, SEAM_POWER, SEAM_GAP_MM = 0.33, 0.35, 0.6  # the line that is drawn where a photographed gap is closed
# The inner cheek shows in the corners, which would be black holes else: from this share of the width and this gap on.
CORNER_SHADE, CORNER_SHARE, CORNER_FROM = 0.56, 0.85, 0.55
CORNER_GAP_MM, CORNER_GAP_FADE_MM = 0.0, 0.8
GLOW = 0.025  # of the lips' light comes back from everywhere in a mouth: nothing in it is black
SEAM_SHADE = 0.42  # of the lip's own colour
LIP_TINT = np.array([0.98, 0.58, 0.56], np.float32)  # which is redder inside
ROUND_SHADE = 0.33  # lips that protrude leave the teeth in their shadow

TONGUE_LIFT, TONGUE_LIFT_MM = 0.55, 3.0  # of a raised tip: share of the jaw's way and more
TONGUE_ROUND_MM = 3.0  # its back rises for o and u
TONGUE_LIGHT, TONGUE_LIT, TONGUE_GAP_MM = 0.65, 0.35, 9.0  # in a shut mouth, and what is added up to this gap
UNDER_LIP_MM, UNDER_LIP_SHADE, UNDER_LIP_DEEPER, DEEP_GAP_MM = 2.4, 0.35, 0.12, 5.0  # more in a wide gap
ON_LIP_MM, ON_LIP_SHADE = 1.4, 0.38
SIDE_SHADE, SIDE_FROM = 0.6, 0.35  # towards the corners, of the half width
PHOTO_SHADE = 0.4  # photographed teeth carry shadows already: so much of ours is left, and none that depends on the lips' shape
PHOTO_SIDE_FROM = 0.6  # of the half width: they are dark at the sides, but a mouth that has become narrow shows none of that
PHOTO_SLIT_MM, PHOTO_SLIT_FADE_MM = 0.9, 1.2  # a smaller gap is a dark slit; teeth are all there in one that is so much wider
SMALL_LIGHT, SMALL_GAP_MM, SMALL_GAP_FADE_MM = 0.18, 0.8, 2.0  # little light comes through a small gap

_LEVELS = np.arange(256) / 255.0
_RAMP = smoothstep(_LEVELS)
_REDDISH = np.stack([_LEVELS**exponent * 255 for exponent in RED_EXPONENTS], -1).round().astype(np.uint8)[:, None, :]
_TO_LUMA, _TO_CHROMA = LUMA[:, :3].copy(), CHROMA[:, :3].copy()  # of colours that are already times their share


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
    skull: list[list[float]]


def draw_mouth(planes: Planes, opening: Opening, parts: MouthParts, photo: PhotoTeeth | None) -> None:
    """Draw into the planes of a crop, in place. Nothing is drawn if the lips touch."""
    scale = opening.scale
    gap_mm = (opening.lower - opening.upper) / scale
    widest = float(gap_mm.max(initial=0.0))
    if widest < LEAST_GAP_MM and photo is None:
        return
    push = PUSH_MM * scale * np.maximum(1 - opening.s**2, 0) ** PUSH_POWER * scalar_smoothstep(widest / PUSH_WIDEST_MM)
    push = push * smoothstep(gap_mm / PUSH_GAP_MM)
    if photo is not None:
        push = np.maximum(push, SEAM_MM * scale * np.maximum(1 - opening.s**2, 0) ** SEAM_POWER)
    upper, lower = opening.upper - push, opening.lower + push
    wide = np.nonzero(lower - upper > LEAST_HEIGHT_MM * scale)[0]
    if len(wide) == 0:
        return
    luma = planes[0]
    x0, x1 = int(opening.columns[wide[0]]) // 2 * 2, -(-int(opening.columns[wide[-1]] + 1) // 2) * 2
    y0, y1 = int(np.floor(upper[wide].min())) // 2 * 2 - 2, int(np.ceil(lower[wide].max())) // 2 * 2 + 4
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, luma.shape[1]), min(y1, luma.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    size = width, height = x1 - x0, y1 - y0
    at = np.minimum(np.maximum(np.arange(width) + (x0 - int(opening.columns[0])), 0), len(opening.columns) - 1)
    top, bottom, s, gap = np.stack([upper, lower, opening.s, gap_mm]).astype(np.float32)[:, at]
    rows = np.arange(y0, y1, dtype=np.float32)[:, None]
    under, over = rows - top, bottom - rows  # pixels from the upper and from the lower lip
    half = np.float32(0.5)
    cover = np.minimum(under, half)  # the share of each pixel that lies between the lips
    cover += np.minimum(over, half)
    np.maximum(cover, np.float32(0), out=cover)
    if photo is not None:
        cover *= np.float32(opening.presence)

    color = _layers(opening, parts, photo, (x0, y0), size, under, widest)
    lips, columns = _shade(under, over, s, opening, widest, photo is not None)
    gains: Array = cv2.LUT(_gray((lips * columns).astype(np.uint8)), _REDDISH)
    color = cv2.multiply(color, gains, scale=1 / 255)

    # the corners, and the line between closed lips of a smiling photograph, are of the lip's colour
    corner = CORNER_SHARE * ramp(np.abs(s), CORNER_FROM, 1 - CORNER_FROM) * ramp(gap, CORNER_GAP_MM, CORNER_GAP_FADE_MM)
    glow = GLOW
    if photo is not None:  # which has corners and light of its own
        corner, glow = corner * PHOTO_SHADE, glow * PHOTO_SHADE
    seam = np.zeros_like(s) if photo is None else 1 - smoothstep(gap / SEAM_GAP_MM)
    own, lip = (1 - glow) * (1 - corner) * (1 - seam), (corner * CORNER_SHADE + glow) * (1 - seam) + seam * SEAM_SHADE
    weighted = cv2.multiply(color, _gray(cover * own), dtype=cv2.CV_32F)
    share, lip_share = cover, cover * (lips * (lip / 255))
    lip_color = parts.lip * LIP_TINT
    _blend(planes[0][y0:y1, x0:x1], cv2.transform(weighted, _TO_LUMA) + 16.0 * share + float(_TO_LUMA[0] @ lip_color) * lip_share, share)
    half_size = (width // 2, height // 2)
    tiny, share, lip_share = (cv2.resize(values, half_size, interpolation=cv2.INTER_AREA) for values in (weighted, share, lip_share))
    for plane, chroma, of_lip in zip(planes[1:], cv2.split(cv2.transform(tiny, _TO_CHROMA)), _TO_CHROMA @ lip_color, strict=True):
        _blend(plane[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2], chroma + 128.0 * share + float(of_lip) * lip_share, share)


def _gray(values: Array) -> Array:
    """(h, w) -> (h, w, 3)."""
    return cv2.merge([values, values, values])


def _blend(plane: ByteArray, weighted: Array, share: Array) -> None:
    np.copyto(plane, np.rint(plane * (1 - share) + weighted), casting="unsafe")


def _layers(
    opening: Opening, parts: MouthParts, photo: PhotoTeeth | None, corner: tuple[int, int], size: tuple[int, int], under: Array, widest: float
) -> Array:
    """RGB of the interior uint8 (height, width, 3), unshaded."""
    color: Array = cv2.LUT(_gray(cv2.convertScaleAbs(under, alpha=255 / (max(widest, LEAST_GAP_MM) * opening.scale))), parts.cavity)
    lift = opening.tongue * (TONGUE_LIFT * opening.jaw + TONGUE_LIFT_MM) + TONGUE_ROUND_MM * opening.rounding
    tongue_y = TONGUE_REST_MM + TONGUE_FOLLOWS * opening.jaw - lift
    light = TONGUE_LIGHT + TONGUE_LIT * min(1.0, widest / TONGUE_GAP_MM)
    lower_y = LOWER_EDGE_MM + LOWER_FOLLOWS * opening.jaw + OVERBITE_MM * (1 - scalar_smoothstep(opening.jaw / OVERBITE_JAW_MM))
    if photo is not None:
        lower_y += photo.lower_lip - PHOTO_LOWER_MM
        tongue_y += photo.lower_lip - PHOTO_TONGUE_MM
    floor = (corner[1] + size[1] - opening.skull[1][2]) / opening.skull[1][1] + HIDDEN_MM  # mm, below what lips let be seen
    if tongue_y < floor:
        color = _lay(color, parts.tongue, opening, corner, size, tongue_y, light)
    if lower_y < floor:
        color = _lay(color, parts.lower, opening, corner, size, lower_y)
    return _lay(color, parts.upper if photo is None else photo.plate, opening, corner, size, 0.0)


def _lay(below: Array, plate: Plate, opening: Opening, corner: tuple[int, int], size: tuple[int, int], down: float, light: float = 1.0) -> Array:
    """`plate` in its place, moved down by `down` mm, over `below`."""
    right, low = plate.origin[0], plate.origin[1] + down
    matrix = np.array(
        [[a / plate.scale, b / plate.scale, a * right + b * low + c - start] for (a, b, c), start in zip(opening.skull, corner, strict=True)]
    )
    color = cv2.warpAffine(plate.color, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    rest = cv2.warpAffine(plate.rest, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(255, 255, 255))
    laid: Array = cv2.scaleAdd(color, light, cv2.multiply(below, rest, scale=1 / 255))
    return laid


def _fading(depth: float) -> ByteArray:
    """Levels (256,) from 1 - `depth` up to 1."""
    levels: ByteArray = (255 * (1 - depth * (1 - _RAMP))).astype(np.uint8)
    return levels


def _shade(under: Array, over: Array, s: Array, opening: Opening, widest: float, photo: bool) -> tuple[Array, Array]:
    """Light that reaches a point, as two factors. Of 255, (height, width): less under the upper lip and on the lower one.

    0..1, (width,): less in the corners, through a small gap and behind a pucker.
    """
    scale = opening.scale
    own = PHOTO_SHADE * opening.presence if photo else 1.0
    depth = UNDER_LIP_SHADE + UNDER_LIP_DEEPER * scalar_smoothstep(widest / DEEP_GAP_MM)
    from_upper = cv2.LUT(cv2.convertScaleAbs(under, alpha=255 / (UNDER_LIP_MM * scale)), _fading(depth * own))
    from_lower = cv2.LUT(cv2.convertScaleAbs(over, alpha=255 / (ON_LIP_MM * scale)), _fading(ON_LIP_SHADE * own))
    first, deepest = (PHOTO_SIDE_FROM, SIDE_SHADE * opening.presence) if photo else (SIDE_FROM, SIDE_SHADE)
    corners = 1 - deepest * ramp(np.abs(s), first, 1 - first)
    if photo:
        light = 1 - opening.presence * (1 - SMALL_LIGHT) * (1 - scalar_smoothstep((widest - PHOTO_SLIT_MM) / PHOTO_SLIT_FADE_MM))
    else:
        light = scalar_smoothstep((widest - SMALL_GAP_MM) / SMALL_GAP_FADE_MM)
        light = (SMALL_LIGHT + (1 - SMALL_LIGHT) * light) * (1 - ROUND_SHADE * opening.rounding)
    lips: Array = cv2.multiply(from_upper, from_lower, scale=1 / 255, dtype=cv2.CV_32F)
    return lips, (corners * np.float32(light)).astype(np.float32)
