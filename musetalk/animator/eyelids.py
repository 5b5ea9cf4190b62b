"""Blinks and looks: each eye is prepared once as a lid picture per lid level and an eyeball that can shift behind it.

Everything happens in the texture, before the face is warped. The upper lid stretches the skin below the brow, its lashes are
compressed on the way (lashes that merely slide down point upwards on a shut eye), and the shut edge gets a soft dark line.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from museserve.messages import ByteArray, FloatArray
from musetalk.animator.anatomy import Anatomy, Array, smoothstep
from musetalk.animator.colors import half_size, to_bytes, to_planes
from musetalk.animator.sampling import sample

LEVELS = 11

UPPER_LIDS = ((33, 246, 161, 160, 159, 158, 157, 173, 133), (362, 398, 384, 385, 386, 387, 388, 466, 263))
LOWER_LIDS = ((33, 7, 163, 144, 145, 153, 154, 155, 133), (362, 382, 381, 380, 374, 373, 390, 249, 263))
BROW_EDGES = ((46, 53, 52, 65, 55), (285, 295, 282, 283, 276))
IRISES = ((468, 469, 470, 471, 472), (473, 474, 475, 476, 477))

DROP_SHARE, DROP_MM = 0.90, 0.35  # a full blink lowers the upper lid by this share of the gap and a little more
RISE_SHARE = 0.12
LASH_MM, LASH_COMPRESSION = 4.0, 0.78
BAND_SHARE, BAND_MM = 0.8, 4.0  # skin that stretches: share of the lid's distance to the brow, at least so much
LINE_DARKNESS, LINE_MM = 0.62, 0.5
BALL_SHADOW = 0.30
SMOOTHING = 0.9
LIFT = 0.65  # of the shadow below the brow, when the lid comes out of it
UNDER_MM = 5.0  # skin below the lower lid that yields
INSET_MM = 0.35  # the lid's own edge stays with the lid
BORDER_MM = 1.5
GAZE_INNER, GAZE_OUTER = 1.05, 2.35  # of the iris's radius: inside, the eyeball moves as a whole; outside, not at all


@dataclass(frozen=True)
class Eye:
    """One eye at rest position in the texture.

    rect: int32 (4,) x, y, w, h in texture pixels, multiples of 4.
    lid: uint8 (LEVELS, h, w), the lids' luma times one minus `ball_share`; lid_u, lid_v the same at half size.
    share: uint8 (LEVELS, h, w), weight of the eyeball with the lid's shadow on it, of 255; share_uv at half size, without shadow.
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

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Eye:
        return cls(**{item.name: arrays[item.name] for item in fields(cls)})


def build_eyes(anatomy: Anatomy, texture: Array, texture_scale: int) -> tuple[Eye, Eye]:
    """Prepare both eyes. texture: RGB float32, `texture_scale` times the output's size."""
    left, right = (_build_eye(anatomy, texture, texture_scale, side) for side in (0, 1))
    return left, right


def _build_eye(anatomy: Anatomy, texture: Array, texture_scale: int, side: int) -> Eye:
    upper, lower, brow = (anatomy.at(*numbers[side]) for numbers in (UPPER_LIDS, LOWER_LIDS, BROW_EDGES))
    iris = anatomy.at(*IRISES[side])
    center, radius = iris[0], float(np.hypot(*(iris[1:] - iris[0]).T).mean())
    x_in, x_out = float(upper[:, 0].min()), float(upper[:, 0].max())

    low = np.array([x_in - 7.0, min(brow[:, 1].min(), upper[:, 1].min() - BAND_MM) - 3.0])
    high = np.array([x_out + 7.0, lower[:, 1].max() + UNDER_MM + 3.0])
    corners = anatomy.to_pixels(np.array([low, [low[0], high[1]], [high[0], low[1]], high]))
    corners = (corners + 0.5) * texture_scale
    side_px = texture.shape[0]
    x0, y0 = (int(max(0, value // 4 * 4)) for value in corners.min(0))
    x1, y1 = (int(min(side_px, -(-value // 4) * 4)) for value in corners.max(0))
    width, height = x1 - x0, y1 - y0

    def to_texture(mm: Array) -> Array:
        return (anatomy.to_pixels(mm) + 0.5) * texture_scale - 0.5

    columns, rows = np.meshgrid(np.arange(x0, x1), np.arange(y0, y1))
    mm = anatomy.to_mm((np.stack([columns, rows], -1) + 0.5) / texture_scale - 0.5)
    x, y = mm[..., 0], mm[..., 1]
    clipped = np.clip(x, x_in, x_out)
    middle, half = (x_in + x_out) / 2, (x_out - x_in) / 2
    fit_upper, fit_lower = (np.polyfit((lid[:, 0] - middle) / half, lid[:, 1], 4) for lid in (upper, lower))
    y_upper, y_lower = (np.polyval(fit, (clipped - middle) / half) for fit in (fit_upper, fit_lower))
    gap = np.maximum(y_lower - y_upper, 0.0)
    outside = np.maximum(np.abs(x - middle) - half, 0.0)
    envelope = 1 - smoothstep(outside / 3.0)
    gap = gap * envelope
    brow_y = np.interp(x, brow[:, 0], brow[:, 1])
    band = np.maximum(BAND_SHARE * (y_upper - brow_y), BAND_MM)

    edge = smoothstep(np.minimum.reduce([x - x.min(), x.max() - x, y - y.min(), y.max() - y]) / BORDER_MM)
    original = texture[y0:y1, x0:x1]
    inside_x = 1 - smoothstep(outside / 0.6)
    aperture = _aperture(y, y_upper, y_lower) * inside_x
    ball = _eyeball(anatomy, original, mm, aperture, center, radius)

    under_eye = (y > y_lower + 3.5) & (y < y_lower + UNDER_MM + 1.5) & (outside == 0)
    cheek = original[under_eye].mean(0)
    pixels = anatomy.scale * texture_scale
    lids, shares, shares_uv, lids_uv = [], [], [], []
    for level in np.linspace(0.0, 1.0, LEVELS):
        drop = (DROP_SHARE * gap + DROP_MM * envelope) * level
        rise = RISE_SHARE * gap * level
        above = y_upper + drop - y
        source_upper = y_upper - _stretch(above, band, drop, level)
        below = y - (y_lower - rise)
        source_lower = y + rise * (1 - smoothstep(below / UNDER_MM))
        divide = (y_upper + drop + y_lower - rise) / 2
        under = smoothstep((y - divide) / 0.5 + 0.5)
        pictures = []
        for source in (source_upper, source_lower):
            at = to_texture(np.stack([x, source], -1)).astype(np.float32)
            pictures.append(sample(texture, at, cubic=True))
        # skin between lid and brow loses its crease, its streaks and its shadow as it is drawn out over the eyeball
        drawn_out = smoothstep(drop / 3.5) * smoothstep((above - 0.2) / 1.0) * smoothstep((band + drop - above) / (0.55 * band)) * envelope
        drawn_out = SMOOTHING * cv2.GaussianBlur(drawn_out.astype(np.float32), (0, 0), 1.0 * pixels)
        smooth = cv2.GaussianBlur(pictures[0], (0, 0), 2.2 * pixels)
        shadow = np.average(smooth.reshape(-1, 3), axis=0, weights=drawn_out.ravel() + 1e-6) - cheek
        bulge = np.exp(-(((above - 0.45 * (band + drop)) / 4.5) ** 2) - ((x - middle) / 11.0) ** 2)
        smooth += (0.05 * bulge[..., None] * cheek) - LIFT * shadow
        pictures[0] += (smooth - pictures[0]) * drawn_out[..., None]
        picture = pictures[0] * (1 - under[..., None]) + pictures[1] * under[..., None]
        strength = LINE_DARKNESS * smoothstep((level - 0.35) / 0.5) * envelope * smoothstep(gap / 2.0)
        from_edge = y - (y_upper + drop)
        line = strength * np.exp(-((from_edge / LINE_MM) ** 2))
        soft = 0.42 * strength * np.exp(-((from_edge / np.where(from_edge < 0, 1.1, 1.5)) ** 2))
        line = 1 - (1 - line) * (1 - soft)
        picture = picture * (1 - line[..., None] * np.array([0.92, 1.0, 1.0]))
        picture = original * (1 - edge[..., None]) + picture * edge[..., None]
        share = _aperture(y, y_upper + drop, y_lower - rise) * inside_x * edge
        shadow = 1 - BALL_SHADOW * level * (1 - 0.6 * smoothstep((y - y_upper - drop) / 5))
        luma, chroma = to_planes(picture.astype(np.float32))
        half_share = half_size(share.astype(np.float32))
        lids.append(luma * (1 - share))
        lids_uv.append(chroma * (1 - half_share[..., None]))
        shares.append(share * shadow * 255)
        shares_uv.append(half_share * 255)

    distance = np.hypot(x - center[0], y - center[1]) / radius
    mobility = 1 - smoothstep((distance - GAZE_INNER) / (GAZE_OUTER - GAZE_INNER))
    ball_luma, ball_chroma = to_planes(ball)
    chroma_lids = to_bytes(np.stack(lids_uv))
    ball_uv = to_bytes(ball_chroma)
    return Eye(
        rect=np.array([x0, y0, width, height], np.int32),
        lid=to_bytes(np.stack(lids)),
        lid_u=np.ascontiguousarray(chroma_lids[..., 0]),
        lid_v=np.ascontiguousarray(chroma_lids[..., 1]),
        share=to_bytes(np.stack(shares)),
        share_uv=to_bytes(np.stack(shares_uv)),
        ball=to_bytes(ball_luma),
        ball_u=np.ascontiguousarray(ball_uv[..., 0]),
        ball_v=np.ascontiguousarray(ball_uv[..., 1]),
        mobility=mobility.astype(np.float32),
    )


def _aperture(y: Array, upper: Array, lower: Array) -> Array:
    """1 where the eyeball shows between the lids' edges."""
    return smoothstep((y - upper - INSET_MM) / 0.5 + 0.5) * smoothstep((lower - INSET_MM - y) / 0.45 + 0.5) * (lower > upper)


def _stretch(above: Array, band: Array, drop: Array, level: float) -> Array:
    """Height above the lid's edge now -> height in the photograph. Lashes shrink, the skin between them and the brow stretches."""
    lash = np.minimum(LASH_MM, 0.6 * band)
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
    on_iris = (np.hypot(*(mm - center).transpose(2, 0, 1)) < 0.97 * radius) & (mm[..., 1] < center[1])
    use = on_iris & ~known & mirrored_known
    ball[use] = mirrored[use]
    hidden = ~(known | use)
    reach = cv2.dilate((known | use).astype(np.uint8), np.ones((3, 3), np.uint8), iterations=max(2, round(3.0 / step)))
    fill = cv2.inpaint(np.clip(ball, 0, 255).astype(np.uint8), (hidden & (reach > 0)).astype(np.uint8), 3, cv2.INPAINT_TELEA)
    ball[hidden] = fill[hidden]
    return ball.astype(np.float32)
