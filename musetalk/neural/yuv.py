"""RGB to planar I420 with torch, on whatever device the pictures are, so that half the bytes travel."""

from __future__ import annotations

import torch
from torch import Tensor

# BT.601, limited range, in units of 2**-20, as OpenCV's COLOR_RGB2YUV_I420 has them.
_SHIFT = 20
_LUMA = (269_484, 528_482, 102_760)
_BLUE = (-155_188, -305_135, 460_324)
_RED = (460_324, -385_875, -74_448)


def to_i420(rgb: Tensor) -> Tensor:
    """Luma equals OpenCV's to the last bit.

    Args:
        rgb: (n, 3, h, w) whole numbers 0..255 in any type, h and w even.
    Returns:
        uint8 (n, h * 3 // 2, w): luma, then the two chroma planes, each of the mean of a square of four pixels. Taken at one of them, as OpenCV
        does, chroma would lie half a pixel aside of where `cv2.resize` and players take it to lie.
    """
    n, _, h, w = rgb.shape
    whole = rgb.to(torch.int32)
    rows = whole[:, :, ::2] + whole[:, :, 1::2]
    fours = rows[..., ::2] + rows[..., 1::2]
    planes = _weighted(whole, _LUMA, 16), _weighted(fours, _BLUE, 128, _SHIFT + 2), _weighted(fours, _RED, 128, _SHIFT + 2)
    return torch.cat([plane.flatten(1) for plane in planes], dim=1).reshape(n, h * 3 // 2, w)


def _weighted(rgb: Tensor, weights: tuple[int, int, int], offset: int, shift: int = _SHIFT) -> Tensor:
    red, green, blue = rgb.unbind(1)
    total = red * weights[0] + green * weights[1] + blue * weights[2] + ((offset << shift) + (1 << shift - 1))
    return (total >> shift).clamp(0, 255).to(torch.uint8)
