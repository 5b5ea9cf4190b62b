"""Small networks of the published shapes, with weights from a seed, and diffusers' own classes beside them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

TINY_UNET: dict[str, Any] = {
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": (8, 16, 16, 16),
    "cross_attention_dim": 384,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}
FULL_UNET: dict[str, Any] = {"in_channels": 8, "out_channels": 4, "cross_attention_dim": 384}
TINY_VAE: dict[str, Any] = {"block_out_channels": (8, 16, 16, 16), "norm_num_groups": 4, "layers_per_block": 2, "latent_channels": 4}
FULL_VAE: dict[str, Any] = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4}
_VAE_TYPES: dict[str, Any] = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}


def reference_unet(values: dict[str, Any], seed: int = 0) -> Any:
    diffusers = import_module("diffusers")
    torch.manual_seed(seed)
    return _frozen(diffusers.UNet2DConditionModel(sample_size=64, **values))


def reference_vae(values: dict[str, Any], seed: int = 0) -> Any:
    diffusers = import_module("diffusers")
    torch.manual_seed(seed)
    return _frozen(diffusers.AutoencoderKL(**values, **_VAE_TYPES))


def apart(got: torch.Tensor, want: torch.Tensor) -> float:
    """Length of the difference as a part of the length of `want`."""
    return float((got.double() - want.double()).norm() / want.double().norm())


def psnr(got: torch.Tensor, want: torch.Tensor) -> float:
    """Decibels, of pictures in 0..255."""
    error = (got.double() - want.double()).square().mean()
    return float(10 * torch.log10(255**2 / error)) if error else float("inf")


def _frozen(model: Any) -> Any:
    """Biases and scales away from 0 and 1, so that a test notices when one is left out."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        if parameter.ndim == 1:
            parameter += 0.05 * torch.randn_like(parameter)
    return model.eval()
