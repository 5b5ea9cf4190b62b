"""What an utterance is drawn on: the avatar's running idle loop, and how a drawn crop lies on each of its frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from museserve.media.compositing import paste
from museserve.messages import AvatarRef, Box, ByteArray


@dataclass(frozen=True)
class Background:
    """frames: I420 uint8 (n, h * 3 // 2, w). box: the part of it that crops change.

    mask: uint8 (box.h, box.w), or one a frame (n, box.h, box.w), or None where crops replace the whole box.
    faces: int (n, 4) x0, y0, x1, y1 of the face that a crop is resized to on each frame; None when crops have the box's size.
    order: int (m,), frame numbers in the order of the loop; None = each once. A clip that is played forth and back shows its frames twice.
    crf: the quantiser of the encoded loop, where it is not the configuration's.
    """

    avatar: AvatarRef
    frames: ByteArray
    box: Box
    mask: ByteArray | None = None
    faces: NDArray[np.integer[Any]] | None = None
    order: NDArray[np.integer[Any]] | None = None
    crf: int | None = None

    def __len__(self) -> int:
        """Frames of the loop."""
        return len(self.frames if self.order is None else self.order)

    def number(self, at: int) -> int:
        """Number of the background frame that stands at place `at` of the loop, which repeats for ever."""
        at %= len(self)
        return at if self.order is None else int(self.order[at])

    def picture(self, number: int, crop: ByteArray | None = None, weight: int = 255) -> ByteArray:
        """Background frame `number`, with a crop on it if there is one; a copy then. weight: 0..255, how much of the crop shows."""
        frame: ByteArray = self.frames[number]
        if crop is None:
            return frame
        frame = frame.copy()
        mask = self.mask if self.mask is None or self.mask.ndim == 2 else self.mask[number]
        if self.faces is None:
            paste(frame, crop, self.box, mask, weight=weight)
        else:
            x0, y0, x1, y1 = (int(v) for v in self.faces[number])
            paste(frame, crop, self.box, mask, (x0, y0, x1, y1), weight)
        return frame


def fade_weights(speaking: list[bool], first: int, n: int, frames: int) -> list[int]:
    """How much of each crop shows, 0..255, so that runs of speaking frames come and go over `frames` frames.

    Args:
        speaking: flags of consecutive frames. first, n: the frames asked for; what lies beyond either end of the list is silent.
    """

    def silent(at: int) -> bool:
        return not 0 <= at < len(speaking) or not speaking[at]

    weights = []
    for at in range(first, first + n):
        near = next((d for d in range(frames + 1) if silent(at - d) or silent(at + d)), frames + 1)
        weights.append(round(255 * near / (frames + 1)))
    return weights
