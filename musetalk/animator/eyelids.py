"""Blinks and looks: each eye is prepared once as a lid picture per lid level and an eyeball that can shift behind it.

Everything happens in the texture, before the face is warped. The upper lid stretches the skin below the brow, its
lashes fold down on the way (those that merely slide down point upwards on a shut eye), and the shut edge gets a soft
dark line. The outer corner and the lashes beyond it go down a little too. Rims of spectacles stay where they are: lids
close behind them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from museserve.messages import ByteArray, FloatArray
from musetalk.animator.anatomy import Anatomy, Array, ramp, smoothstep
from musetalk.animator.colors import LUMA_WEIGHTS, half_size, to_bytes, to_planes
from musetalk.animator.rims import Rims, find_rims
from musetalk.animator.sampling import sample

LEVELS = 11  # lid pictures, from open to shut
LID_DEGREE = 4  # of the polynomials along the lids' edges

UPPER_LIDS = ((33, 246, 161, 160, 159, 158, 157, 173, 133), (362, 398, 384, 385, 386, 387, 388, 466, 263))
LOWER_LIDS = ((33, 7, 163, 144, 145, 153, 154, 155, 133), (362, 382, 381, 380, 374, 373, 390, 249, 263))
BROW_EDGES = ((46, 53, 52, 65, 55), (285, 295, 282, 283, 276))
IRISES = ((468, 469, 470, 471, 472), (473, 474, 475, 476, 477))

# A full blink.
DROP_SHARE, DROP_MM = 0.82, 0.35  # lowers the upper lid by this share of the gap and a little more
RISE_SHARE = 0.20  # raises the lower one by this share of it
SAG_MM, SAG_BESIDE_MM = 1.5, 2.0  # lowers the outer corner, most so far beside it, where the lashes' wing is
SAG_REACH_MM = (8.0, 4.0, 7.0)  # towards the eye, away from it, up and down
BAND_SHARE, BAND_MM = 0.8, 4.0  # skin that stretches: share of the lid's distance to the brow, at least so much
LASH_MM, LASH_SHARE, LASH_COMPRESSION = 4.0, 0.6, 0.88  # above the edge, at most a share of the band; what it loses
LASH_WIDTH_MM = 1.4  # what is narrower and darker than its surroundings is a lash
FOLD_LEVEL, FOLD_OVER, FOLD_STRENGTH, FOLD_FADE_MM = 0.45, 0.4, 0.8, 1.2  # lid level from which lashes point down; their ends
WET_MM = 1.0  # the lower lid's wet rim, which goes behind the upper lid
UNDER_MM = 5.0  # skin below the lower lid that yields
CORNER_MM = 3.0  # beside the eye's corners all this dies out
WING_MM = 5.0  # lashes may stand so far beyond that at the outer one
INNER_SHARE = 0.45  # of half the eye's width: towards the inner corner the shut edge grows thin

# Skin between lid and brow loses its crease, its streaks and its shadow as it is drawn out over the eyeball.
DRAWN_OUT_MM = 3.5  # lid motion from which it does in full
LASH_CLEAR_MM, LASH_FADE_MM, BROW_FADE = 0.2, 1.0, 0.55  # not the lid's edge, nor the part of the band below the brow
SMOOTHING, SMOOTHING_MM, MASK_BLUR_MM = 0.9, 2.2, 1.0
SMOOTHED_MM = (3.0, 5.0)  # from so far beside the inner corner to so far between both it grows: lids have no border there
LIFT = 0.55  # of the shadow below the brow, when the lid comes out of it
BULGE_LIGHT, BULGE_AT = 0.05, 0.45  # gleam over the eyeball: share of the cheek's colour; where on the band
BULGE_WIDTH_MM, BULGE_HEIGHT_MM = 11.0, 4.5
CHEEK_MM = (3.5, 6.5)  # below the lower lid: skin in plain light
# The fold that the lid comes out of.
CREASE_DARKNESS, CREASE_AT, CREASE_ARCH = 0.08, 0.62, 0.72  # how dark; where on the band in the middle of the eye, share of that at its corners
CREASE_ABOVE_MM, CREASE_BELOW_MM, CREASE_LEVEL, CREASE_ENDS = 1.6, 0.9, 0.3, 1.3  # the last: more = nearer to the corners

# Where the shut lids meet: a line, and a softer one around it.
LINE_DARKNESS, LINE_MM = 0.62, 0.5
SOFT_DARKNESS, SOFT_ABOVE_MM, SOFT_BELOW_MM = 0.42, 1.1, 1.5
LINE_LEVEL, LINE_FADE, LINE_GAP_MM = 0.35, 0.5, 2.0  # it appears from this lid level on, less where the eye is narrow
LINE_TINT = (0.82, 0.97, 1.0)  # of RGB: a little red is left
SEAM_MM = 0.5  # over which the two lids' skin is mixed

BALL_SHADOW, BALL_SHADOW_LEFT, BALL_SHADOW_MM = 0.30, 0.4, 5.0  # below the lid's edge, and the share left so far down
SLIT_SHADOW, SLIT_MM, SLIT_SHARE = 0.92, 4.0, 0.5  # through lashes: of an eye that is no further open than this, or this share of its height
SLIT_LEVEL = 0.5  # lid level from which on it is there in full
INSET_MM = 0.35  # the lid's own edge stays with the lid
UPPER_EDGE_MM, LOWER_EDGE_MM, SIDE_EDGE_MM = 0.5, 0.45, 0.6  # softness of the eyeball's outline
IRIS_SHARE = 0.97  # of its radius: the rim's own pixels may be skin
WHITE_FROM, WHITE_PERCENTILE, LEAST_WHITE = 1.15, 60, 60  # radii of the iris; lighter than this are no lashes; texture pixels
FILL_MM = 3.0  # the eyeball that nobody sees is made up so far behind the lids

MARGIN_X_MM, MARGIN_Y_MM, BORDER_MM = 7.0, 3.0, 1.5  # around all that moves; the border is the photograph's
GAZE_INNER, GAZE_OUTER = 1.05, 2.35  # of the iris's radius: inside, the eyeball moves as a whole; outside, not at all


@dataclass(frozen=True)
class Eye:
    """One eye at rest position in the texture.

    rect: int32 (4,) x, y, w, h in texture pixels, multiples of 4.
    lid: uint8 (levels, h, w), `LEVELS` or, of an eye that stays open, 1: the lids' luma times one minus `share`; lid_u, lid_v the same at half size.
    share: uint8 (levels, h, w), weight of the eyeball with the lid's shadow on it, of 255; share_uv at half size, without shadow.
    ball, ball_u, ball_v: the eyeball, also where the lids hide it. mobility: float32 (h, w), how far a point follows the gaze.
    """

    rect: NDArray[np.int32]
    lid: ByteArray
    lid_u: ByteArray
    lid_v: ByteArray
    share: ByteArray
    share_uv: ByteArray
    ball: ByteArray
    ball_u: ByteArray
    ball_v: ByteArray
    mobility: FloatArray


def build_eyes(anatomy: Anatomy, texture: Array, texture_scale: int, *, spectacles: bool = False) -> tuple[Eye, Eye]:
    """Prepare both eyes.

    Args:
        texture: RGB float32, `texture_scale` times the output's size.
        spectacles: rims lie before the lids. Where they cannot be traced, the eyes stay open.
    """
    rims = trace_rims(anatomy, texture, texture_scale) if spectacles else None
    levels = LEVELS if rims is not None or not spectacles else 1
    left, right = (_build_eye(anatomy, texture, texture_scale, side, levels, rims) for side in (0, 1))
    return left, right


def trace_rims(anatomy: Anatomy, texture: Array, texture_scale: int) -> Rims | None:
    """The rims of a portrait that wears spectacles; None where they cannot be traced."""
    right, left = (anatomy.at(*UPPER_LIDS[side], *LOWER_LIDS[side]) for side in (0, 1))
    return find_rims(anatomy, (right, left), texture, texture_scale)


@dataclass(frozen=True)
class _Patch:
    """The part of the texture around an eye. Arrays (h, w): where its pixels lie, and the lids at their x, mm.

    upper, lower: y of the lids' edges. gap: between them. band: height of the skin above the upper lid that stretches.
    middle: x between the eye's corners. between: 1 between the corners, 0 outside; near: the same over `CORNER_MM`.
    inward: -1 at the outer corner .. 1 at the inner one, and beyond. lashed: 1 where lashes grow, 0 at the inner corner and beyond the wing.
    sag: what the outer corner goes down, mm. smoothed: 0..1 of the lid's skin.
    lashes: what they leave of the light, float32, 0..1. corner: (2,) the patch's first pixel in the texture.
    border: 1 inside, 0 at the patch's border. photo: RGB float32 (h, w, 3); rim: 1 where spectacles hide the face, of which `texture` is free.
    cheek: RGB (3,) of skin in plain light.
    """

    anatomy: Anatomy
    texture: Array
    texture_scale: int
    x: Array
    y: Array
    upper: Array
    lower: Array
    gap: Array
    band: Array
    between: Array
    near: Array
    middle: float
    inward: Array
    lashed: Array
    sag: Array
    smoothed: Array
    lashes: Array
    corner: Array
    border: Array
    photo: Array
    rim: Array
    cheek: Array


def white_of_eyes(anatomy: Anatomy, texture: Array, texture_scale: int) -> FloatArray | None:
    """RGB (3,) of the eyes' whites where they are light; None where too little of them is seen."""
    seen = []
    for side in (0, 1):
        lids, iris = anatomy.at(*UPPER_LIDS[side], *LOWER_LIDS[side][::-1]), anatomy.at(*IRISES[side])
        area = np.zeros(texture.shape[:2], np.uint8)
        cv2.fillPoly(area, [np.round(anatomy.to_texture(lids, texture_scale)).astype(np.int32)], 1)
        rows, columns = np.nonzero(area)
        mm = anatomy.from_texture(np.stack([columns, rows], -1), texture_scale)
        radius = float(np.hypot(*(iris[1:] - iris[0]).T).mean())
        beside = np.hypot(*(mm - iris[0]).T) > WHITE_FROM * radius
        seen.append(texture[rows[beside], columns[beside]])
    whites = np.concatenate(seen)
    if len(whites) < LEAST_WHITE:
        return None
    light = whites @ np.array(LUMA_WEIGHTS, np.float32)
    white: FloatArray = np.median(whites[light >= np.percentile(light, WHITE_PERCENTILE)], 0).astype(np.float32)
    return white


def _build_eye(anatomy: Anatomy, texture: Array, texture_scale: int, side: int, levels: int, rims: Rims | None) -> Eye:
    upper, lower, brow = (anatomy.at(*numbers[side]) for numbers in (UPPER_LIDS, LOWER_LIDS, BROW_EDGES))
    iris = anatomy.at(*IRISES[side])
    center, radius = iris[0], float(np.hypot(*(iris[1:] - iris[0]).T).mean())
    x_in, x_out = float(upper[:, 0].min()), float(upper[:, 0].max())

    top, bottom = min(brow[:, 1].min(), upper[:, 1].min() - BAND_MM), lower[:, 1].max() + UNDER_MM
    low, high = (x_in - MARGIN_X_MM, top - MARGIN_Y_MM), (x_out + MARGIN_X_MM, bottom + MARGIN_Y_MM)
    corners = (anatomy.corners(low, high) + 0.5) * texture_scale
    x0, y0 = (int(max(0, value // 4 * 4)) for value in corners.min(0))
    x1, y1 = (int(min(texture.shape[0], -(-value // 4) * 4)) for value in corners.max(0))

    mm = anatomy.from_texture(np.stack(np.meshgrid(np.arange(x0, x1), np.arange(y0, y1)), -1), texture_scale)
    x, y = mm[..., 0], mm[..., 1]
    middle, half = (x_in + x_out) / 2, (x_out - x_in) / 2
    s = (np.clip(x, x_in, x_out) - middle) / half
    fits = (np.polyfit((lid[:, 0] - middle) / half, lid[:, 1], LID_DEGREE) for lid in (upper, lower))
    y_upper, y_lower = (np.polyval(fit, s) for fit in fits)
    outside = np.maximum(np.abs(x - middle) - half, 0.0)
    near = 1 - smoothstep(outside / CORNER_MM)
    to_border = np.minimum.reduce([x - x.min(), x.max() - x, y - y.min(), y.max() - y])
    bare = texture if rims is None else rims.bare
    photo, skin = texture[y0:y1, x0:x1], bare[y0:y1, x0:x1]
    rim = np.zeros(photo.shape[:2], np.float32) if rims is None else rims.mask[y0:y1, x0:x1]
    to_nose = 1.0 if side == 0 else -1.0
    inward = to_nose * (x - middle) / half
    patch = _Patch(
        anatomy=anatomy,
        texture=bare,
        texture_scale=texture_scale,
        x=x,
        y=y,
        upper=y_upper,
        lower=y_lower,
        gap=np.maximum(y_lower - y_upper, 0.0) * near,
        band=np.maximum(BAND_SHARE * (y_upper - np.interp(x, brow[:, 0], brow[:, 1])), BAND_MM),
        between=1 - smoothstep(outside / SIDE_EDGE_MM),
        near=near,
        middle=middle,
        inward=inward,
        lashed=ramp(1 - inward, 0.0, INNER_SHARE) * (1 - ramp((-1 - inward) * half, CORNER_MM, WING_MM)),
        sag=_sag((-1 - inward) * half, y - upper[0 if side == 0 else -1, 1]),
        smoothed=ramp((1 + inward) * half, -WING_MM, WING_MM + SMOOTHED_MM[1]) * ramp((1 - inward) * half, -SMOOTHED_MM[0], sum(SMOOTHED_MM)),
        lashes=_lashes(bare[y0:y1, x0:x1], anatomy.scale * texture_scale),
        corner=np.array([x0, y0], np.float32),
        border=smoothstep(to_border / BORDER_MM),
        photo=photo,
        rim=rim,
        cheek=skin[(y > y_lower + CHEEK_MM[0]) & (y < y_lower + CHEEK_MM[1]) & (outside == 0)].mean(0),
    )
    lids, shares, lids_uv, shares_uv = [], [], [], []
    for level in np.linspace(0.0, 1.0, LEVELS)[:levels]:
        drop, rise = (DROP_SHARE * patch.gap + DROP_MM * near) * level, RISE_SHARE * patch.gap * level
        picture = _lid_skin(patch, drop, rise, level)
        now = y - patch.sag * level
        share = _aperture(now, y_upper + drop, y_lower - rise) * patch.between * patch.border * (1 - rim)
        lit = (1 - BALL_SHADOW_LEFT) * smoothstep((now - y_upper - drop) / BALL_SHADOW_MM)
        slit = ramp(level, 0.0, SLIT_LEVEL) * (1 - smoothstep((y_lower - rise - y_upper - drop) / np.maximum(SLIT_MM, SLIT_SHARE * patch.gap)))
        shadow = (1 - BALL_SHADOW * level * (1 - lit)) * (1 - SLIT_SHADOW * slit)
        luma, chroma = to_planes(picture.astype(np.float32))
        half_share = half_size(share.astype(np.float32))
        lids.append(luma * (1 - share))
        lids_uv.append(chroma * (1 - half_share[..., None]))
        shares.append(share * shadow * 255)
        shares_uv.append(half_share * 255)

    distance = np.hypot(x - center[0], y - center[1]) / radius
    mobility = 1 - ramp(distance, GAZE_INNER, GAZE_OUTER - GAZE_INNER)
    aperture = _aperture(y, y_upper, y_lower) * patch.between
    ball, ball_uv = map(to_bytes, to_planes(_eyeball(anatomy, skin, mm, aperture, center, radius)))
    lid_uv = to_bytes(np.stack(lids_uv))
    return Eye(
        rect=np.array([x0, y0, x1 - x0, y1 - y0], np.int32),
        lid=to_bytes(np.stack(lids)),
        lid_u=np.ascontiguousarray(lid_uv[..., 0]),
        lid_v=np.ascontiguousarray(lid_uv[..., 1]),
        share=to_bytes(np.stack(shares)),
        share_uv=to_bytes(np.stack(shares_uv)),
        ball=ball,
        ball_u=np.ascontiguousarray(ball_uv[..., 0]),
        ball_v=np.ascontiguousarray(ball_uv[..., 1]),
        mobility=mobility.astype(np.float32),
    )


def _sag(beside: Array, below: Array) -> Array:
    """mm that a point goes down with the outer corner, when the eye shuts; it lies `beside` and `below` the corner, mm, away from the eye."""
    inwards, outwards, upright = SAG_REACH_MM
    off = beside - SAG_BESIDE_MM
    sag: Array = SAG_MM * np.exp(-((off / np.where(off < 0, inwards, outwards)) ** 2) - (below / upright) ** 2)
    return sag


def _lashes(skin: Array, scale: float) -> Array:
    """What dark thin lines leave of the light of RGB `skin` (h, w, 3), 0..1; scale: pixels per mm."""
    luma = np.asarray(skin @ np.array(LUMA_WEIGHTS, np.float32))
    width = 2 * round(LASH_WIDTH_MM * scale / 2) + 1
    bare = cv2.morphologyEx(luma, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    left: Array = np.clip(luma / np.maximum(cv2.GaussianBlur(bare, (0, 0), width / 3), 1.0), 0.0, 1.0).astype(np.float32)
    return left


def _crease(inward: Array, above: Array, height: Array) -> Array:
    """0..1, how much a point lies in the fold, `above` the edge of a lid that is `height` mm high up to the brow."""
    across = np.clip(1 - inward**2, 0.0, 1.0)
    off = above - CREASE_AT * height * (CREASE_ARCH + (1 - CREASE_ARCH) * across)
    crease: Array = np.exp(-((off / np.where(off > 0, CREASE_ABOVE_MM, CREASE_BELOW_MM)) ** 2)) * smoothstep(CREASE_ENDS * across)
    return crease


def _lid_skin(patch: _Patch, drop: Array, rise: Array, level: float) -> Array:
    """The patch with its lids `drop` and `rise` mm nearer to each other, RGB (h, w, 3); level: 0 open .. 1 shut."""
    x, y, scale = patch.x, patch.y - patch.sag * level, patch.anatomy.scale * patch.texture_scale
    edge = patch.upper + drop
    above, below = edge - y, y - (patch.lower - rise)
    wet = WET_MM * level * patch.between * np.exp(-np.maximum(below, 0.0) / WET_MM)
    sources = patch.upper - _stretch(above, patch.band, drop, level * patch.lashed), y + rise * (1 - smoothstep(below / UNDER_MM)) + wet

    def at(source: Array) -> FloatArray:
        return patch.anatomy.to_texture(np.stack([x, source], -1), patch.texture_scale).astype(np.float32)

    upper, lower = (sample(patch.texture, at(source), cubic=True) for source in sources)
    height = patch.band + drop  # of the lid

    drawn_out = smoothstep(drop / DRAWN_OUT_MM) * ramp(above, LASH_CLEAR_MM, LASH_FADE_MM)
    drawn_out = drawn_out * smoothstep((height - above) / (BROW_FADE * patch.band)) * patch.smoothed
    drawn_out = SMOOTHING * cv2.GaussianBlur(drawn_out.astype(np.float32), (0, 0), MASK_BLUR_MM * scale)
    blurred: Array = cv2.GaussianBlur(upper, (0, 0), SMOOTHING_MM * scale)
    shadow = np.average(blurred.reshape(-1, 3), axis=0, weights=drawn_out.ravel() + 1e-6) - patch.cheek
    from_bulge = (above - BULGE_AT * height) / BULGE_HEIGHT_MM
    bulge = np.exp(-(from_bulge**2) - ((x - patch.middle) / BULGE_WIDTH_MM) ** 2)
    blurred += BULGE_LIGHT * bulge[..., None] * patch.cheek - LIFT * shadow
    upper += (blurred - upper) * drawn_out[..., None]
    crease = _crease(patch.inward, above, height) * smoothstep(drop / DRAWN_OUT_MM) * ramp(level, 0.0, CREASE_LEVEL)
    upper *= 1 - CREASE_DARKNESS * crease[..., None] * np.array(LINE_TINT)

    # The lashes of the open lid, turned over the shut edge.
    lashes = sample(patch.lashes, at(patch.upper - np.abs(above)) - patch.corner)
    folded = ramp(np.minimum(LASH_MM, LASH_SHARE * patch.band) + above, 0.0, FOLD_FADE_MM) * (above < 0) * patch.lashed
    lower *= (1 - FOLD_STRENGTH * ramp(level, FOLD_LEVEL, FOLD_OVER) * folded * (1 - lashes))[..., None]

    under = smoothstep((y - (edge + patch.lower - rise) / 2) / SEAM_MM + 0.5)[..., None]
    picture = upper * (1 - under) + lower * under
    strength = LINE_DARKNESS * ramp(level, LINE_LEVEL, LINE_FADE) * patch.near * smoothstep(patch.gap / LINE_GAP_MM) * patch.lashed
    line = strength * np.exp(-((above / (LINE_MM * (0.5 + 0.5 * patch.lashed))) ** 2))
    soft = SOFT_DARKNESS * strength * np.exp(-((above / np.where(above > 0, SOFT_ABOVE_MM, SOFT_BELOW_MM)) ** 2))
    line = 1 - (1 - line) * (1 - soft)
    picture = picture * (1 - line[..., None] * np.array(LINE_TINT))
    border = (patch.border * (1 - patch.rim))[..., None]
    shut: Array = patch.photo * (1 - border) + picture * border
    return shut


def _aperture(y: Array, upper: Array, lower: Array) -> Array:
    """1 where the eyeball shows between the lids' edges."""
    below, above = (y - upper - INSET_MM) / UPPER_EDGE_MM, (lower - INSET_MM - y) / LOWER_EDGE_MM
    return smoothstep(below + 0.5) * smoothstep(above + 0.5) * (lower > upper)


def _stretch(above: Array, band: Array, drop: Array, level: Array) -> Array:
    """Height above the lid's edge now -> height in the photograph. Lashes shrink, the skin between them and the brow stretches."""
    lash = np.minimum(LASH_MM, LASH_SHARE * band)
    lash_now = lash * (1 - LASH_COMPRESSION * level)
    top = band + drop
    span = top - lash_now
    secant = (band - lash) / span
    t = np.clip((above - lash_now) / span, 0.0, 1.0)
    start_slope, end_slope = np.minimum(lash / lash_now, 3 * secant) * span, np.minimum(1.0, 3 * secant) * span
    hermite = lash * (2 * t**3 - 3 * t**2 + 1) + start_slope * (t**3 - 2 * t**2 + t) + band * (-2 * t**3 + 3 * t**2) + end_slope * (t**3 - t**2)
    return np.where(above < 0, above, np.where(above < lash_now, above * (lash / lash_now), np.where(above < top, hermite, above - drop)))


def _eyeball(anatomy: Anatomy, original: Array, mm: Array, aperture: Array, center: Array, radius: float) -> Array:
    """The eyeball without lids: what they hide of the iris is mirrored from below, the rest is filled from its surroundings."""
    ball = original.copy()
    known = aperture > 0.9
    mirrored_mm = np.stack([mm[..., 0], 2 * center[1] - mm[..., 1]], -1)
    corner = mm[0, 0]
    step = np.hypot(*(mm[0, 1] - mm[0, 0]))
    # rows and columns of the mirrored points; the patch follows the picture's axes, the face's tilt is small
    relative = (mirrored_mm - corner) @ anatomy.axes / step
    at = relative.astype(np.float32)
    mirrored = sample(original, at)
    mirrored_known = sample(known.astype(np.float32), at) > 0.9
    on_iris = (np.hypot(*(mm - center).transpose(2, 0, 1)) < IRIS_SHARE * radius) & (mm[..., 1] < center[1])
    use = on_iris & ~known & mirrored_known
    ball[use] = mirrored[use]
    hidden = ~(known | use)
    reach = cv2.dilate((known | use).astype(np.uint8), np.ones((3, 3), np.uint8), iterations=max(2, round(FILL_MM / step)))
    fill = cv2.inpaint(np.clip(ball, 0, 255).astype(np.uint8), (hidden & (reach > 0)).astype(np.uint8), 3, cv2.INPAINT_TELEA)
    ball[hidden] = fill[hidden]
    return ball.astype(np.float32)
