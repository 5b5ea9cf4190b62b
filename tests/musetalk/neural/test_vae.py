"""The autoencoder, TAESD's decoder and the colours against diffusers' and OpenCV's own."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from museserve.errors import ConfigError  # noqa: E402
from musetalk.neural.layers import set_precision  # noqa: E402
from musetalk.neural.taesd import TinyDecoder, decoder_part  # noqa: E402
from musetalk.neural.vae import SCALE, VAE, VAEConfig, current_names, to_bytes  # noqa: E402
from musetalk.neural.yuv import to_i420  # noqa: E402
from musetalk.weights.checkpoint import load_into  # noqa: E402
from tests.musetalk.neural.networks import FULL_VAE, TINY_VAE, apart, psnr, reference_vae  # noqa: E402

FP32_LIMIT = 1e-4
LATENTS_LIMIT = 1e-5  # with the channels last, which the reference must not be given either, half of them are 1e-3 apart
HALF_PSNR_DB = 50
LEGACY = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def own_vae(state: dict[str, Any], values: dict[str, Any]) -> VAE:
    with torch.device("meta"):
        vae = VAE(VAEConfig.parse(values))
    load_into(vae, current_names(state), file="sd-vae/diffusion_pytorch_model.bin")
    return vae.fold()


def faces(n: int) -> Any:
    """Noise on a slope: smooth parts and edges."""
    rng = np.random.default_rng(3)
    slope = np.linspace(0, 255, 256)[:, None, None] * np.array([1.0, 0.7, 0.4])
    return torch.from_numpy(np.clip(slope + rng.normal(0, 20, (n, 256, 256, 3)), 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def reference() -> Any:
    return reference_vae(TINY_VAE)


def test_latents_agree_with_diffusers(reference: Any) -> None:
    vae = own_vae(reference.state_dict(), TINY_VAE)
    pictures = faces(2)
    with torch.inference_mode():
        got = vae.encode_faces(pictures)
        whole = pictures.permute(0, 3, 1, 2).contiguous().float() / 255
        half = whole * (torch.arange(256) < 128)[None, None, :, None]
        want = [reference.encode(p * 2 - 1).latent_dist.mode() * SCALE for p in (half, whole)]
    assert got.shape == (2, 8, 32, 32) and got.dtype == torch.float32
    assert apart(got, torch.cat(want, 1)) < LATENTS_LIMIT


def test_the_same_face_has_the_same_latents_every_time(reference: Any) -> None:
    vae = own_vae(reference.state_dict(), TINY_VAE)
    with torch.inference_mode():
        assert torch.equal(vae.encode_faces(faces(1)), vae.encode_faces(faces(1)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_pictures_agree_with_diffusers(reference: Any, dtype: Any) -> None:
    vae = own_vae(reference.state_dict(), TINY_VAE)
    latents = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(2)) * SCALE
    with torch.inference_mode():
        want = reference.decode(latents / SCALE).sample
        set_precision(vae, dtype)
        got = vae.decode(latents.to(dtype))
    if dtype == torch.float32:
        assert apart(got, want) < FP32_LIMIT
    assert psnr(to_bytes(got), to_bytes(want)) > (80 if dtype == torch.float32 else HALF_PSNR_DB)


@pytest.mark.parametrize("side", ["matrix", "kernel"])
def test_both_naming_conventions_load(reference: Any, side: str) -> None:
    state = {}
    for name, tensor in reference.state_dict().items():
        if ".attentions.0.to_" in name:
            for new, old in LEGACY.items():
                name = name.replace(f".{new}.", f".{old}.")
            if side == "kernel" and tensor.ndim == 2:
                tensor = tensor[:, :, None, None]
        state[name] = tensor
    assert sum(".query." in name for name in state) == 4
    renamed, current = own_vae(state, TINY_VAE), own_vae(reference.state_dict(), TINY_VAE)
    latents = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        assert torch.equal(renamed.decode(latents), current.decode(latents))


def test_has_the_published_tensors() -> None:
    with torch.device("meta"):
        state = VAE(VAEConfig()).state_dict()
    assert len(state) == 248
    assert sum(t.numel() for t in state.values()) == 83_653_863


def test_another_description_is_refused() -> None:
    with pytest.raises(ConfigError, match="latent_channels"):
        VAEConfig.parse({"latent_channels": 16})


def test_bytes_round_half_to_even() -> None:
    exact = torch.tensor([0.5, 1.5, 2.5, 254.5, 300, -5]) / 255 * 2 - 1
    want = np.rint(np.clip(exact.numpy() / 2 + np.float32(0.5), 0, 1) * np.float32(255))
    assert to_bytes(exact).tolist() == want.tolist()


@pytest.mark.parametrize("size", [(256, 256), (6, 10)])
def test_luma_equals_opencvs_and_chroma_is_the_mean_of_four_pixels(size: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    rgb[0, :2, :4] = [[[255, 0, 0]] * 2 + [[0, 0, 255]] * 2] * 2  # the ends of the range
    got, h = to_i420(torch.from_numpy(rgb).permute(0, 3, 1, 2)).numpy(), size[0]
    want = np.stack([cv2.cvtColor(p, cv2.COLOR_RGB2YUV_I420) for p in rgb])
    assert np.array_equal(got[:, :h], want[:, :h])
    squares = rgb.reshape(2, h // 2, 2, size[1] // 2, 2, 3).mean((2, 4))
    weights = np.array([[-0.148, -0.291, 0.439], [0.439, -0.368, -0.071]])
    chroma = got[:, h:].reshape(2, 2, h // 2, size[1] // 2)
    assert np.abs(chroma - np.moveaxis(squares @ weights.T + 128, 3, 1)).max() < 0.7


def test_planes_of_one_colour_equal_opencvs() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (500, 1, 1, 3), dtype=np.uint8)
    rgb = np.broadcast_to(colours, (500, 2, 2, 3))
    want = np.stack([cv2.cvtColor(p, cv2.COLOR_RGB2YUV_I420) for p in rgb])
    assert np.array_equal(to_i420(torch.from_numpy(rgb.copy()).permute(0, 3, 1, 2)).numpy(), want)


def test_taesd_agrees_with_diffusers() -> None:
    torch.manual_seed(0)
    reference = diffusers.AutoencoderTiny().eval()
    with torch.device("meta"):
        decoder = TinyDecoder()
    load_into(decoder, decoder_part(reference.state_dict()), file="taesd/diffusion_pytorch_model.safetensors")
    latents = torch.randn(1, 4, 8, 8)
    with torch.inference_mode():
        want = reference.decode(latents).sample
        assert apart(decoder(latents), want) < 1e-6


@pytest.mark.slow
def test_full_size_agrees_in_both_precisions() -> None:
    reference = reference_vae(FULL_VAE)
    vae = own_vae(reference.state_dict(), FULL_VAE)
    pictures = faces(1)
    whole = pictures.permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
    with torch.inference_mode():
        encoded = apart(vae.encode_faces(pictures)[:, 4:], reference.encode(whole).latent_dist.mode() * SCALE)
        latents = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(2))
        want = reference.decode(latents / SCALE).sample
        decoded = apart(vae.decode(latents), want)
        small = latents[:, :, :8, :8]  # a processor without float16 takes its time
        want = reference.decode(small / SCALE).sample
        set_precision(vae, torch.float16)
        half = psnr(to_bytes(vae.decode(small.half())), to_bytes(want))
    print(f"full size: encoder {encoded:.2e}, decoder {decoded:.2e} relative; float16 crops {half:.1f} dB")
    assert max(encoded, decoded) < FP32_LIMIT
    assert half > HALF_PSNR_DB
