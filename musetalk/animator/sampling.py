"""The two primitives that every picture here comes down to: sampling at given positions, and weighted mixing."""

from __future__ import annotations

from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from museserve.messages import ByteArray

Scalar = TypeVar("Scalar", bound=np.generic)


def sample(picture: NDArray[Scalar], positions: NDArray[Any], out: NDArray[Scalar] | None = None, *, cubic: bool = False) -> NDArray[Scalar]:
    """Read `picture` at `positions` (h, w, 2) float32, x and y in its pixels; the border goes on outside.

    With `out` (h, w[, channels]) the result is written there, also into a part of a larger array.
    """
    how = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    sampled: NDArray[Scalar] = cv2.remap(picture, positions, None, how, dst=out, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    return sampled


def moved_by(positions: NDArray[Any], x: float, y: float) -> NDArray[Any]:
    """`positions` (h, w, 2) plus (x, y). NumPy would broadcast over two numbers at a time, many times slower."""
    moved: NDArray[Any] = cv2.add(positions, (x, y, 0, 0))  # type: ignore[call-overload]
    return moved


def over(below: ByteArray, above: ByteArray, share: ByteArray) -> ByteArray:
    """below + above · share / 255, where `below` already carries one minus the share."""
    mixed: Any = cv2.add(below, cv2.multiply(above, share, scale=1 / 255))
    return np.asarray(mixed, np.uint8)


def weighted_sum(weights: NDArray[Any], basis: NDArray[Any]) -> NDArray[Any]:
    """(k,) and (k, n) -> (n,). Not a matrix product: BLAS would start threads for it, which costs more than the sum."""
    total: NDArray[Any] = np.einsum("i,ij->j", weights, basis)
    return total
