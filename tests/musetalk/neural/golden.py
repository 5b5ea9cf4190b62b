"""What diffusers' classes make of weights and inputs that follow from names alone: kept in `tests/data/musetalk_golden.npz`, so that agreement is
checked also where diffusers is not installed, and does not drift with it.

    python -m tests.musetalk.neural.golden        writes the file anew
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from musetalk.neural.unet import AUDIO_TOKENS, sinusoids
from musetalk.neural.vae import SCALE
from tests.musetalk.neural.networks import TINY_UNET, TINY_VAE, reference_unet, reference_vae

FILE = Path(__file__).parents[2] / "data/musetalk_golden.npz"
EVERY = 4  # of the decoded picture's rows and columns: keeps the file small


def random(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)


def weights(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """For every name of a state dict a tensor that depends on its name and shape only, of a size that keeps signals alive."""
    made = {}
    for name, tensor in state.items():
        values = torch.from_numpy(random(name, tuple(tensor.shape)))
        fan_in = tensor[0].numel() if tensor.ndim > 1 else 100
        made[name] = values / fan_in**0.5 + (1.0 if name.endswith("weight") and tensor.ndim == 1 else 0.0)
    return made


def unet_inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(random("latents", (2, 8, 32, 32))), torch.from_numpy(random("audio", (2, AUDIO_TOKENS, 384)))


def face() -> torch.Tensor:
    """RGB uint8 (1, 256, 256, 3): waves and noise."""
    y, x = np.mgrid[:256, :256][..., None] / 256.0
    waves = 128 + 90 * np.sin(7 * x + np.array([0.0, 1.0, 2.0])) * np.cos(5 * y) + 8 * random("noise", (256, 256, 3))
    return torch.from_numpy(np.clip(waves, 0, 255).astype(np.uint8)[None])


@torch.inference_mode()
def reference() -> dict[str, Any]:
    """By diffusers' own classes."""
    unet, vae = reference_unet(TINY_UNET), reference_vae(TINY_VAE)
    unet.load_state_dict(weights(unet.state_dict()))
    vae.load_state_dict(weights(vae.state_dict()))
    latents, audio = unet_inputs()
    predicted = unet(latents, torch.tensor([0]), audio + sinusoids(AUDIO_TOKENS, 384)).sample
    picture = face().permute(0, 3, 1, 2).contiguous().float() / 255
    hidden = picture * (torch.arange(256) < 128)[:, None]
    encoded = torch.cat([vae.encode(p * 2 - 1).latent_dist.mode() * SCALE for p in (hidden, picture)], 1)
    decoded = vae.decode(encoded[:, 4:] / SCALE).sample[:, :, ::EVERY, ::EVERY]
    return {"predicted": predicted.numpy(), "encoded": encoded.numpy(), "decoded": decoded.numpy()}


if __name__ == "__main__":
    made = reference()
    np.savez_compressed(FILE, **made)
    print(f"{FILE.name}: {FILE.stat().st_size:,} bytes; {', '.join(f'{k} {v.shape} of size {np.abs(v).mean():.3f}' for k, v in made.items())}")
