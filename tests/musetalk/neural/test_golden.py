"""Our networks against what diffusers' made of the same weights when the golden file was written (`python -m tests.musetalk.neural.golden`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from musetalk.neural.layers import set_precision  # noqa: E402
from musetalk.neural.unet import UNet, UNetConfig  # noqa: E402
from musetalk.neural.vae import VAE, VAEConfig, to_bytes  # noqa: E402
from tests.musetalk.neural import golden  # noqa: E402
from tests.musetalk.neural.networks import TINY_UNET, TINY_VAE, apart, psnr  # noqa: E402

LIMITS = [(torch.float32, 1e-4), (torch.float16, 1e-2)]


@pytest.fixture(scope="module")
def kept() -> Any:
    assert golden.FILE.stat().st_size < 200_000
    with np.load(golden.FILE) as file:
        return {name: torch.from_numpy(array) for name, array in file.items()}


def vae() -> VAE:
    made = VAE(VAEConfig.parse(TINY_VAE))
    made.load_state_dict(golden.weights(made.state_dict()))
    return made.fold()


@pytest.mark.parametrize(("dtype", "limit"), LIMITS)
def test_unet(kept: Any, dtype: Any, limit: float) -> None:
    unet = UNet(UNetConfig.parse(TINY_UNET))
    unet.load_state_dict(golden.weights(unet.state_dict()))
    set_precision(unet.fold(), dtype)
    latents, audio = golden.unet_inputs()
    with torch.inference_mode():
        got = unet(latents.to(dtype), unet.keys_values(audio))
    assert apart(got, kept["predicted"]) < limit


def test_encoder(kept: Any) -> None:
    with torch.inference_mode():
        assert apart(vae().encode_faces(golden.face()), kept["encoded"]) < 1e-5


@pytest.mark.parametrize(("dtype", "limit"), LIMITS)
def test_decoder(kept: Any, dtype: Any, limit: float) -> None:
    decoder = vae()
    set_precision(decoder, dtype)
    with torch.inference_mode():
        got = decoder.decode(kept["encoded"][:, 4:].to(dtype))[:, :, :: golden.EVERY, :: golden.EVERY]
    assert apart(got, kept["decoded"]) < limit
    assert psnr(to_bytes(got), to_bytes(kept["decoded"])) > 50


def test_faces_in_bfloat16() -> None:
    """The whole chain in what a CPU may be told to compute in, against itself in float32."""
    latents, audio = golden.unet_inputs()
    pictures = []
    with torch.inference_mode():
        seen = vae().encode_faces(golden.face()).expand(len(latents), -1, -1, -1)
        for dtype in (torch.float32, torch.bfloat16):
            unet, decoder = UNet(UNetConfig.parse(TINY_UNET)), vae()
            unet.load_state_dict(golden.weights(unet.state_dict()))
            set_precision(unet.fold(), dtype)
            set_precision(decoder, dtype)
            pictures.append(to_bytes(decoder.decode(unet(seen.to(dtype), unet.keys_values(audio)))))
    assert psnr(pictures[1], pictures[0]) > 40
