"""TAESD's decoder: the same latents as the full autoencoder's, decoded with an eighteenth of the work, and a little differently.

Parameter names are those of the published diffusers file, `decoder.layers.N`. Source: madebyollin/taesd (MIT), diffusers' AutoencoderTiny.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 64
RANGE = 3.0  # latents beyond it are bent back


class TAESDBlock(nn.Module):
    """Three 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


class TinyDecoder(nn.Module):
    """Scaled latents (n, 4, h, w) to pictures (n, 3, 8 h, 8 w) in about -1..1, as `VAE.decode` gives them."""

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(4, channels, 3, padding=1), nn.ReLU()]
        for blocks in (3, 3, 3):
            layers += [TAESDBlock(channels) for _ in range(blocks)]
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(channels, channels, 3, padding=1, bias=False)]
        layers += [TAESDBlock(channels), nn.Conv2d(channels, 3, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        x = torch.tanh(latents / RANGE) * RANGE
        out: Tensor = self.layers(x)
        return out * 2 - 1


def decoder_part(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The decoder's tensors of the whole published file, with the names of `TinyDecoder`."""
    return {name.removeprefix("decoder."): tensor for name, tensor in state.items() if name.startswith("decoder.")}
