"""Portraits that are hard to animate, painted over those at hand: spectacles, and a beard."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from museserve.messages import ByteArray, FloatArray

RIM_MM = 2.2
LENS_MM = (25.0, 19.0)  # half axes


def _scale(landmarks: FloatArray) -> float:
    """Pixels per mm."""
    return float(np.linalg.norm(landmarks[468, :2] - landmarks[473, :2])) / 63.0


def rim_mask(
    landmarks: FloatArray,
    shape: tuple[int, int],
    rim_mm: float = RIM_MM,
    lens_mm: tuple[float, float] = LENS_MM,
    below: bool = True,
) -> FloatArray:
    """How much of a pair of spectacles covers each pixel, float32 (h, w), 0..1.

    Args:
        landmarks: (478, 2 or more) pixels. below: the rims go all round, not along the lenses' upper half alone.
    """
    scale, mask = _scale(landmarks), np.zeros(shape, np.uint8)
    thick = max(1, round(rim_mm * scale))
    across = landmarks[473, :2] - landmarks[468, :2]
    angle = float(np.degrees(np.arctan2(across[1], across[0])))
    half = (round(lens_mm[0] * scale), round(lens_mm[1] * scale))
    for iris, ear in ((468, 127), (473, 356)):
        middle = landmarks[iris, :2] + [0.0, 2.5 * scale]
        cv2.ellipse(mask, tuple(map(round, middle.tolist())), half, angle, 180, 540 if below else 360, 255, thick, cv2.LINE_AA)
        out = np.sign(landmarks[ear, 0] - middle[0])
        side = (round(middle[0] + out * half[0]), round(middle[1] - 0.3 * half[1]))
        cv2.line(mask, side, tuple(map(round, landmarks[ear, :2].tolist())), 255, thick, cv2.LINE_AA)
    right, left = (landmarks[iris, :2] + [sign * half[0], 0.0] for iris, sign in ((468, 1), (473, -1)))
    cv2.line(mask, tuple(map(round, right.tolist())), tuple(map(round, left.tolist())), 255, thick, cv2.LINE_AA)
    return np.asarray(mask / 255, np.float32)


def with_spectacles(
    portrait: ByteArray, landmarks: FloatArray, colour: tuple[int, int, int] = (28, 24, 22), shade: float = 0.25, **sizes: Any
) -> ByteArray:
    """The portrait with rims (`sizes` as of `rim_mask`); their shadow, `shade` dark, falls a little lower."""
    mask = rim_mask(landmarks, portrait.shape[:2], **sizes)
    scale = _scale(landmarks)
    shadow = cv2.GaussianBlur(np.roll(mask, round(2.0 * scale), axis=0), (0, 0), 1.5 * scale)[..., None]
    shaded = portrait * (1 - shade * shadow)
    rim = cv2.GaussianBlur(mask, (0, 0), 0.25 * scale)[..., None]
    return np.rint(shaded * (1 - rim) + np.array(colour) * rim).astype(np.uint8)


def with_beard(portrait: ByteArray, landmarks: FloatArray, seed: int = 0) -> ByteArray:
    """The portrait with a short full beard and a moustache, drawn hair by hair."""
    rng, scale = np.random.default_rng(seed), _scale(landmarks)
    points = landmarks[:, :2]
    outline = points[[132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 425, 391, 164, 165, 205]]
    area = np.zeros(portrait.shape[:2], np.uint8)
    cv2.fillPoly(area, [np.round(outline).astype(np.int32)], 255)
    lips = points[[61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146]]
    cv2.fillPoly(area, [np.round(lips + (lips - lips.mean(0)) * 0.06).astype(np.int32)], 0)
    density = cv2.GaussianBlur(area.astype(np.float32) / 255, (0, 0), 3.0 * scale) * (area > 0)
    places = np.argwhere(density > 0.05)
    hairs = np.zeros(portrait.shape[:2], np.uint8)
    middle = points[[13, 14]].mean(0)
    for y, x in places[rng.integers(0, len(places), int(1.6 * len(places) / scale**2 * 9))]:
        if rng.random() > density[y, x]:
            continue
        way = np.array([(x - middle[0]) * 0.5, abs(y - middle[1]) + 12 * scale])
        way = way / np.linalg.norm(way) + rng.normal(0, 0.35, 2)
        end = np.array([x, y]) + way * scale * rng.uniform(1.5, 4.0)
        cv2.line(hairs, (int(x), int(y)), tuple(map(round, end.tolist())), int(rng.integers(110, 230)), 1, cv2.LINE_AA)
    cover = np.maximum(cv2.GaussianBlur(hairs, (0, 0), 0.3 * scale).astype(np.float32) / 255, 0.45 * density)[..., None]
    cover = cover * (cv2.GaussianBlur(area, (0, 0), 0.5 * scale).astype(np.float32) / 255)[..., None]
    return np.rint(portrait * (1 - cover) + np.array((44, 33, 27)) * cover).astype(np.uint8)
