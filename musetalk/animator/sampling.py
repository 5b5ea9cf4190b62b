"""The two primitives that every picture here comes down to: sampling at given positions, and weighted mixing."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from museserve.messages import ByteArray, FloatArray

Scalar = TypeVar("Scalar", bound=np.generic)
Places = tuple[FloatArray, FloatArray]
"""x and y of positions in a picture, (h, w) float32 each."""


def sample(picture: NDArray[Scalar], positions: NDArray[Any], out: NDArray[Scalar] | None = None, *, cubic: bool = False) -> NDArray[Scalar]:
    """Read `picture` at `positions` (h, w, 2) float32, x and y in its pixels; the border goes on outside.

    With `out` (h, w[, channels]) the result is written there, also into a part of a larger array.
    """
    how = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    sampled: NDArray[Scalar] = cv2.remap(picture, positions, None, how, dst=out, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    return sampled


def sample_at(picture: NDArray[Scalar], x: NDArray[Any], y: NDArray[Any], out: NDArray[Scalar] | None = None) -> NDArray[Scalar]:
    """`sample` at x and y (h, w) float32 apart, which OpenCV reads a quarter faster."""
    read_from: Any = picture
    written_to: Any = out
    sampled: Any = cv2.remap(read_from, x, y, cv2.INTER_LINEAR, dst=written_to, borderMode=cv2.BORDER_REPLICATE)
    return cast("NDArray[Scalar]", sampled)


def over(below: ByteArray, above: ByteArray, share: ByteArray) -> ByteArray:
    """below + above · share / 255, where `below` already carries one minus the share."""
    mixed: Any = cv2.add(below, cv2.multiply(above, share, scale=1 / 255))
    return np.asarray(mixed, np.uint8)


def weighted_sum(weights: NDArray[Any], basis: NDArray[Any]) -> NDArray[Any]:
    """(k,) and (k, n) -> (n,). Not a matrix product: BLAS would start threads for it, which costs more than the sum."""
    total: NDArray[Any] = np.einsum("i,ij->j", weights, basis)
    return total
