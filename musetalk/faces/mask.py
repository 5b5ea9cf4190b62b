"""Soft masks: how much of the drawn face shows at each pixel of its box, made once for each background frame.

A square around the face is parsed into classes, the region of the mode is cut to the face box and to the part below the box's middle, and
blurred. Resizing is Pillow's, as the published code has it, so that masks are equal to the last bit.

Source: MuseTalk repository at 0a89dec, musetalk/utils/blending.py (MIT), written anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from museserve.messages import Box, ByteArray
from musetalk.faces.bisenet import Mode, region

FaceBox = tuple[int, int, int, int]  # x0, y0, x1, y1


@dataclass(frozen=True)
class BlendRule:
    """expand: side of the parsed square by the box's longer side. upper: part of the square, from above, that stays the background.
    blur: kernel by the square's side; 0.05 as published for files, 0.1 as published for streams. cheeks: as `bisenet.region` takes them.
    """

    mode: Mode = "jaw"
    expand: float = 1.5
    upper: float = 0.5
    blur: float = 0.05
    cheeks: tuple[int, int] = (90, 90)


def context_square(box: FaceBox, expand: float = 1.5) -> FaceBox:
    """The square around a face box that is parsed; it may leave the frame."""
    x, y, x1, y1 = box
    x_middle, y_middle = (x + x1) // 2, (y + y1) // 2
    half = int(max(x1 - x, y1 - y) // 2 * expand)
    return x_middle - half, y_middle - half, x_middle + half, y_middle + half


def blur_kernel(side: int, blur: float) -> int:
    """Odd size of the Gaussian for a square of `side` pixels."""
    return int(blur * side // 2 * 2) + 1


def context_crop(rgb: ByteArray, box: FaceBox, expand: float = 1.5) -> ByteArray:
    """The pixels of `context_square`, black where it leaves the frame: uint8 (2s, 2s, 3)."""
    return np.asarray(Image.fromarray(rgb).crop(context_square(box, expand)), np.uint8)


def square_mask(parsed: ByteArray, box: FaceBox, rule: BlendRule) -> ByteArray:
    """The soft mask of the whole context square, uint8 (2s, 2s); parsed: class numbers of `context_crop`, (512, 512)."""
    left, top, right, _ = context_square(box, rule.expand)
    side = right - left
    whole = np.asarray(Image.fromarray(region(parsed, rule.mode, rule.cheeks)).resize((side, side), Image.Resampling.BICUBIC), np.uint8)
    first_row = max(int(side * rule.upper), box[1] - top)
    inside = np.zeros((side, side), np.uint8)
    rows, columns = slice(max(first_row, 0), box[3] - top), slice(box[0] - left, box[2] - left)
    inside[rows, columns] = whole[rows, columns]
    kernel = blur_kernel(side, rule.blur)
    return np.asarray(cv2.GaussianBlur(inside, (kernel, kernel), 0), np.uint8)


def face_mask(parsed: ByteArray, box: FaceBox, rule: BlendRule) -> ByteArray:
    """The soft mask of the face box alone, uint8 (y1 - y0, x1 - x0). Outside it the drawn picture is the background anyhow."""
    left, top, _, _ = context_square(box, rule.expand)
    return np.ascontiguousarray(square_mask(parsed, box, rule)[box[1] - top : box[3] - top, box[0] - left : box[2] - left])


def in_common_box(masks: list[ByteArray], boxes: list[FaceBox]) -> tuple[ByteArray, Box]:
    """All masks in the smallest even box that holds what any of them shows.

    Returns:
        uint8 (n, box.h, box.w), and the box in the frame.
    """
    shown = [cv2.boundingRect(mask) for mask in masks]  # x, y, w, h in each; all 0 where it shows nothing
    seen = [(x + a, y + b, x + a + w, y + b + h) for (x, y, _, _), (a, b, w, h) in zip(boxes, shown, strict=True) if w]
    if not seen:
        x0, y0 = boxes[0][0] // 2 * 2, boxes[0][1] // 2 * 2
        return np.zeros((len(masks), 2, 2), np.uint8), Box(x0, y0, 2, 2)
    x0, y0 = (min(part[axis] for part in seen) // 2 * 2 for axis in (0, 1))
    x1, y1 = (-(-max(part[axis] for part in seen) // 2) * 2 for axis in (2, 3))
    together = np.zeros((len(masks), y1 - y0, x1 - x0), np.uint8)
    for target, mask, (x, y, _, _), (a, b, w, h) in zip(together, masks, boxes, shown, strict=True):
        if w:
            target[y + b - y0 :][:h, x + a - x0 :][:, :w] = mask[b : b + h, a : a + w]
    return together, Box(x0, y0, x1 - x0, y1 - y0)
