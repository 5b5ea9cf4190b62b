"""RGB to planar I420 with torch, on whatever device the pictures are, so that half the bytes travel."""

from __future__ import annotations

import torch
from torch import Tensor

# BT.601, limited range, in units of 2**-20, as OpenCV's COLOR_RGB2YUV_I420 computes it.
_SHIFT = 20
_LUMA = (269_484, 528_482, 102_760)
_BLUE = (-155_188, -305_135, 460_324)
_RED = (460_324, -385_875, -74_448)
_HALF = 1 << (_SHIFT - 1)


def to_i420(rgb: Tensor) -> Tensor:
    """Equal to OpenCV to the last bit.

    Args:
        rgb: (n, 3, h, w) whole numbers 0..255 in any type, h and w even.
    Returns:
        uint8 (n, h * 3 // 2, w): luma, then the two chroma planes, each taken at the upper left pixel of a square of four.
    """
    n, _, h, w = rgb.shape
    whole = rgb.to(torch.int32)
    corners = whole[:, :, ::2, ::2]
    planes = _weighted(whole, _LUMA, 16), _weighted(corners, _BLUE, 128), _weighted(corners, _RED, 128)
    return torch.cat([plane.flatten(1) for plane in planes], dim=1).reshape(n, h * 3 // 2, w)


def _weighted(rgb: Tensor, weights: tuple[int, int, int], offset: int) -> Tensor:
    red, green, blue = rgb.unbind(1)
    total = red * weights[0] + green * weights[1] + blue * weights[2] + ((offset << _SHIFT) + _HALF)
    return (total >> _SHIFT).clamp(0, 255).to(torch.uint8)
