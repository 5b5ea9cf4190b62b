"""RGB to luma and chroma of BT.601 in limited range, without rounding: what is painted in RGB ends in I420 planes."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from museserve.messages import ByteArray
from musetalk.animator.anatomy import Array

LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # of RGB in full range
LUMA = np.array([[0.256788, 0.504129, 0.097906, 16.0]], np.float32)
CHROMA = np.array([[-0.148223, -0.290993, 0.439216, 128.0], [0.439216, -0.367788, -0.071427, 128.0]], np.float32)


class Planes(NamedTuple):
    """I420: luma uint8 (h, w), u and v uint8 (h / 2, w / 2)."""

    luma: ByteArray
    u: ByteArray
    v: ByteArray


def half_size(picture: Array) -> Array:
    """(h, w[, c]) -> (h / 2, w / 2[, c]), the mean of four pixels."""
    half: Array = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return half


def to_planes(rgb: Array) -> tuple[Array, Array]:
    """RGB float32 (h, w, 3), h and w even -> luma (h, w) and chroma (h / 2, w / 2, 2)."""
    return cv2.transform(rgb, LUMA), cv2.transform(half_size(rgb), CHROMA)


def to_bytes(values: Array) -> Array:
    """Rounded and clipped to uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
