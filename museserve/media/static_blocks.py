"""A picture that keeps what it can of the one before it.

A key frame is predicted from nothing, so it shows even what stands still anew, with other errors of the quantiser: the whole picture flickers by
a level or less, with each segment. Where a picture is almost what is on the screen, it is therefore replaced by what is on the screen, which
comes out of the encoder nearly as it went in.
"""

from __future__ import annotations

import cv2
import numpy as np

from museserve.media.compositing import planes
from museserve.messages import ByteArray

BLOCK = 8  # luma samples; chroma 4
MOST_LEVELS = 3  # of any sample
LEVEL = 3  # what a difference of one level counts; a block may have LEVEL on average
COST = np.full(256, 255, np.uint8)  # a single sample that is farther off takes even a block of 64 above that
COST[: MOST_LEVELS + 1] = LEVEL * np.arange(MOST_LEVELS + 1)


def keep_static(picture: ByteArray, before: ByteArray) -> ByteArray:
    """`picture` with the blocks of `before` from which it differs by a level on average, or less, and nowhere by more than 3.

    Args:
        picture, before: I420 uint8 (h * 3 // 2, w). Where sides are not multiples of 8, blocks are a little larger.
    Returns:
        uint8 like `picture`, a copy.
    """
    held = picture.copy()
    for block, now, then in zip((BLOCK, BLOCK // 2, BLOCK // 2), planes(held), planes(before), strict=True):
        height, width = now.shape
        blocks = max(width // block, 1), max(height // block, 1)
        cost = cv2.resize(cv2.LUT(cv2.absdiff(now, then), COST), blocks, interpolation=cv2.INTER_AREA)
        near = cv2.resize(np.asarray(cost <= LEVEL, np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        cv2.copyTo(then, near, now)
    return held
