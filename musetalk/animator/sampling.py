"""Bilinear sampling of a picture at given positions: the one primitive that every warp here comes down to."""

from __future__ import annotations

from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


def sample(picture: NDArray[Scalar], positions: NDArray[Any], out: NDArray[Scalar] | None = None, *, cubic: bool = False) -> NDArray[Scalar]:
    """Read `picture` at `positions` (h, w, 2) float32, x and y in its pixels; the border goes on outside.

    With `out` (h, w[, channels]) the result is written there, also into a part of a larger array.
    """
    how = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    sampled: NDArray[Scalar] = cv2.remap(picture, positions, None, how, dst=out, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    return sampled
