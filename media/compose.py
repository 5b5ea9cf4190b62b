"""Drawn crops onto the background, in I420, in place."""

from __future__ import annotations

import cv2
import numpy as np

from contracts import Box, ByteArray


def planes(frame: ByteArray) -> tuple[ByteArray, ByteArray, ByteArray]:
    """Views of Y (h, w), U and V (h / 2, w / 2) of an I420 frame (h * 3 // 2, w).

    U and V fill the rows below Y two chroma rows at a time, so they can only be cut as planes, never as rows of the frame.
    """
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    if frame.ndim != 2 or frame.shape[0] != height * 3 // 2 or height % 2 or width % 2 or not frame.flags.c_contiguous:
        raise ValueError(f"not a contiguous I420 frame of even sides: shape {frame.shape}")
    flat = frame.reshape(-1)
    luma, chroma = height * width, height * width // 4
    shape = height // 2, width // 2
    return flat[:luma].reshape(height, width), flat[luma : luma + chroma].reshape(shape), flat[luma + chroma :].reshape(shape)


def paste(frame: ByteArray, crop: ByteArray, box: Box, mask: ByteArray | None = None) -> None:
    """Put `crop` into `frame` at `box`.

    Args:
        frame: I420 uint8 (h * 3 // 2, w), written to; copy the avatar's background first.
        crop: I420 uint8 (box.h * 3 // 2, box.w).
        mask: uint8 (box.h, box.w), 255 = the crop, 0 = the background to the last bit; None = the crop everywhere.
    Raises:
        ValueError: sizes that do not fit, or a box that leaves the frame.
    """
    targets = planes(frame)
    height, width = targets[0].shape
    if crop.shape != (box.h * 3 // 2, box.w):
        raise ValueError(f"the crop is {crop.shape}, its box {box.w}x{box.h} asks for {(box.h * 3 // 2, box.w)}")
    if min(box.x, box.y) < 0 or box.x + box.w > width or box.y + box.h > height or (box.x | box.y | box.w | box.h) % 2:
        raise ValueError(f"{box} is not an even box inside {width}x{height}")
    if mask is not None and mask.shape != (box.h, box.w):
        raise ValueError(f"the mask is {mask.shape}, its box {box.w}x{box.h} asks for {(box.h, box.w)}")
    half = None if mask is None else cv2.resize(mask, (box.w // 2, box.h // 2), interpolation=cv2.INTER_AREA)
    for scale, target, source, alpha in zip((1, 2, 2), targets, planes(crop), (mask, half, half), strict=True):
        x, y, w, h = (side // scale for side in (box.x, box.y, box.w, box.h))
        part = target[y : y + h, x : x + w]
        part[:] = source if alpha is None else _blend(part, source, np.asarray(alpha, np.uint8))


def _blend(below: ByteArray, above: ByteArray, alpha: ByteArray) -> ByteArray:
    """(below * (255 - alpha) + above * alpha) / 255, rounded, exact in 16 bits."""
    total = np.multiply(above, alpha, dtype=np.uint16)
    total += np.multiply(below, 255 - alpha, dtype=np.uint16)
    total += 128
    total += total >> 8
    total >>= 8
    return total.astype(np.uint8)
