"""Drawn crops onto the background, in I420, in place."""

from __future__ import annotations

import cv2
import numpy as np

from museserve.messages import Box, ByteArray

FaceBox = tuple[int, int, int, int]


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


def paste(frame: ByteArray, crop: ByteArray, box: Box, mask: ByteArray | None = None, face: FaceBox | None = None, weight: int = 255) -> None:
    """Put `crop` into `frame` at `box`, or, with `face`, resized to the face box and seen through the mask.

    Args:
        frame: I420 uint8 (h * 3 // 2, w), written to; copy the avatar's background first.
        crop: I420 uint8 (box.h * 3 // 2, box.w); with `face` of any even size.
        mask: uint8 (box.h, box.w), 255 = the crop, 0 = the background to the last bit; None = the crop everywhere.
        face: x0, y0, x1, y1 in the frame, any whole pixels: where the whole crop belongs. The mask shows nothing outside it.
        weight: 0..255, scales the mask.
    Raises:
        ValueError: sizes that do not fit, or a box that leaves the frame.
    """
    targets = planes(frame)
    height, width = targets[0].shape
    if face is None and crop.shape != (box.h * 3 // 2, box.w):
        raise ValueError(f"the crop is {crop.shape}, its box {box.w}x{box.h} asks for {(box.h * 3 // 2, box.w)}")
    if face is not None and (mask is None or face[2] <= face[0] or face[3] <= face[1]):
        raise ValueError(f"a face box needs a mask and an area, got {face} and {'no mask' if mask is None else 'a mask'}")
    if min(box.x, box.y) < 0 or box.x + box.w > width or box.y + box.h > height or (box.x | box.y | box.w | box.h) % 2:
        raise ValueError(f"{box} is not an even box inside {width}x{height}")
    if mask is not None and mask.shape != (box.h, box.w):
        raise ValueError(f"the mask is {mask.shape}, its box {box.w}x{box.h} asks for {(box.h, box.w)}")
    if weight < 255:
        mask = np.full((box.h, box.w), weight, np.uint8) if mask is None else np.asarray(cv2.convertScaleAbs(mask, alpha=weight / 255), np.uint8)
    half = None if mask is None else cv2.resize(mask, (box.w // 2, box.h // 2), interpolation=cv2.INTER_AREA)
    for scale, target, source, alpha in zip((1, 2, 2), targets, planes(crop), (mask, half, half), strict=True):
        x, y, w, h = (side // scale for side in (box.x, box.y, box.w, box.h))
        part = target[y : y + h, x : x + w]
        if face is not None:
            source = _luma_in(source, face, box) if scale == 1 else _chroma_in(source, face, box)
        part[:] = source if alpha is None else _blend(part, source, np.asarray(alpha, np.uint8))


def _luma_in(luma: ByteArray, face: FaceBox, box: Box) -> ByteArray:
    """The crop's luma (a, b) resized to its face box, as it lies in `box`; 0 where the face box does not reach."""
    x0, y0, x1, y1 = face
    resized = cv2.resize(luma, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    left, top, right, bottom = max(x0, box.x), max(y0, box.y), min(x1, box.x + box.w), min(y1, box.y + box.h)
    inner = resized[top - y0 : bottom - y0, left - x0 : right - x0]
    if inner.shape == (box.h, box.w):
        return np.asarray(inner, np.uint8)
    placed = np.zeros((box.h, box.w), np.uint8)
    placed[top - box.y : top - box.y + inner.shape[0], left - box.x : left - box.x + inner.shape[1]] = inner
    return placed


def _chroma_in(chroma: ByteArray, face: FaceBox, box: Box) -> ByteArray:
    """The same for a chroma plane (a / 2, b / 2), (box.h / 2, box.w / 2). A sample stands for 2 x 2 pixels, wherever the face box begins."""
    x0, y0, x1, y1 = face
    x_scale, y_scale = 2 * chroma.shape[1] / (x1 - x0), 2 * chroma.shape[0] / (y1 - y0)
    x_first = (box.x / 2 + 0.5 - x0 / 2) * x_scale - 0.5
    y_first = (box.y / 2 + 0.5 - y0 / 2) * y_scale - 0.5
    back = np.array([[x_scale, 0, x_first], [0, y_scale, y_first]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(chroma, back, (box.w // 2, box.h // 2), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _blend(below: ByteArray, above: ByteArray, alpha: ByteArray) -> ByteArray:
    """(below * (255 - alpha) + above * alpha) / 255, rounded, exact in 16 bits."""
    total = np.multiply(above, alpha, dtype=np.uint16)
    total += np.multiply(below, 255 - alpha, dtype=np.uint16)
    total += 128
    total += total >> 8
    total >>= 8
    return total.astype(np.uint8)
