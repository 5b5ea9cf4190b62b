"""The Triton kernels and the networks around them, against PyTorch in float32. Without a card `TRITON_INTERPRET=1` runs them on the CPU."""

from __future__ import annotations

import copy
import os
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton", reason="Triton comes with PyTorch for CUDA")
if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("no CUDA device; TRITON_INTERPRET=1 runs the kernels on a CPU", allow_module_level=True)

import torch.nn.functional as F  # noqa: E402

from musetalk.neural import fused, kernels  # noqa: E402
from musetalk.neural.layers import GroupNorm, LayerNorm, set_precision  # noqa: E402
from musetalk.neural.taesd import TinyDecoder  # noqa: E402
from musetalk.neural.unet import AUDIO_TOKENS, UNet, UNetConfig  # noqa: E402
from musetalk.neural.vae import VAE, VAEConfig, to_bytes  # noqa: E402
from musetalk.neural.yuv import to_i420  # noqa: E402
from tests.musetalk.neural.networks import TINY_UNET, TINY_VAE, apart, psnr  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]  # Triton may deprecate what it does itself
FP32_LIMIT = 1e-4
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Chunks of one and of several parts, a last one that is not full, channels that do not fill a block; the largest as in the full-size networks.
SHAPES = [(2, 8, 5, 7), (1, 96, 24, 24), (2, 320, 16, 17), (3, 128, 70, 64), (1, 2560, 4, 4)]
if DEVICE == "cuda":
    SHAPES += [(2, 128, 256, 256), (2, 256, 256, 256), (2, 512, 128, 128), (32, 960, 32, 32), (3, 2560, 8, 8)]


def pictures(*shape: int, seed: int = 0, dtype: Any = torch.float16) -> Any:
    """Far from zero, each channel of another spread."""
    made = torch.Generator(DEVICE).manual_seed(seed)
    x = torch.randn(shape, generator=made, device=DEVICE) * torch.linspace(0.5, 3, shape[1], device=DEVICE)[:, None, None] + 5
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def parameters(norm: Any) -> Any:
    for parameter in norm.requires_grad_(False).parameters():
        parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return norm.to(DEVICE)


def normed(x: Any, norm: Any) -> Any:
    return F.group_norm(x.float(), norm.num_groups, norm.weight, norm.bias, norm.eps)


@pytest.mark.parametrize("shape", SHAPES)
def test_group_norms_equal_pytorchs(shape: tuple[int, ...]) -> None:
    x, norm = pictures(*shape), parameters(GroupNorm(4 if shape[1] == 8 else 32, shape[1], 1e-6))
    bias = torch.randn(shape[1], generator=torch.Generator().manual_seed(2)).to(DEVICE, torch.float16)
    seen = kernels.moments(x)
    got = kernels.group_norm(x, norm, seen, silu=False)
    assert got.dtype == torch.float16 and got.is_contiguous(memory_format=torch.channels_last)
    assert apart(got, normed(x, norm)) < 5e-4
    got = kernels.group_norm(x, norm, seen, bias)
    assert apart(got, F.silu(normed(x.float() + bias.float()[:, None, None], norm))) < 5e-4
    assert torch.equal(kernels.group_norm(x, norm, kernels.moments(x), bias), got), "the same picture gives the same bits"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lacks", [True, False])
def test_sums_come_with_their_moments(shape: tuple[int, ...], lacks: bool) -> None:
    x, skip, norm = pictures(*shape), pictures(*shape, seed=1), parameters(GroupNorm(4 if shape[1] == 8 else 32, shape[1], 1e-6))
    bias = torch.randn(shape[1], generator=torch.Generator().manual_seed(2)).to(DEVICE, torch.float16) if lacks else None
    total, seen = kernels.add(x, bias, skip)
    want = x.float() + (skip.float() + (0 if bias is None else bias.float()[:, None, None]))
    assert torch.equal(total, want.half())
    assert apart(kernels.group_norm(total, norm, seen), F.silu(normed(total, norm))) < 5e-4


@pytest.mark.skipif(DEVICE == "cpu", reason="9 GB on a card")
def test_pictures_of_more_than_two_to_the_31_values() -> None:
    x, norm = pictures(1, 256, 256, 256), parameters(GroupNorm(32, 256, 1e-6))
    want, summed = kernels.group_norm(x, norm, kernels.moments(x)), kernels.add(x, None, x)[0]
    many = x.expand(130, -1, -1, -1).contiguous(memory_format=torch.channels_last)
    assert many.numel() > 2**31
    got = kernels.group_norm(many, norm, kernels.moments(many))
    assert torch.equal(got[-1], want[0])
    del got
    assert torch.equal(kernels.add(many, None, many)[0][-1], summed[0])


def test_a_small_spread_around_a_large_mean_keeps_its_digits() -> None:
    x = pictures(2, 128, 64, 64, dtype=torch.float32) + 3000
    norm = parameters(GroupNorm(32, 128, 1e-6))
    got = kernels.group_norm(x, norm, kernels.moments(x), silu=False)
    assert apart(got, F.group_norm(x.double(), 32, norm.weight.double(), norm.bias.double(), 1e-6)) < 1e-3


@pytest.mark.parametrize("shape", [(2, 9, 16), (1, 64, 320), (2, 50, 1280)])
def test_layer_norms_equal_pytorchs(shape: tuple[int, ...]) -> None:
    made = torch.Generator(DEVICE).manual_seed(0)
    x, delta = (torch.randn(shape, generator=made, device=DEVICE).half() for _ in range(2))
    norm = parameters(LayerNorm(shape[-1]))
    assert apart(kernels.layer_norm(x, norm), F.layer_norm(x.float(), shape[-1:], norm.weight, norm.bias)) < 5e-4
    total, got = kernels.add_layer_norm(x, delta, norm)
    assert torch.equal(total, (x.float() + delta.float()).half())
    assert apart(got, F.layer_norm(total.float(), shape[-1:], norm.weight, norm.bias)) < 5e-4


@pytest.mark.parametrize("shape", [(2, 5, 48), (2, 64, 2560)])
def test_gates_equal_pytorchs(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator(DEVICE).manual_seed(0), device=DEVICE).half()
    value, gate = x.float().chunk(2, dim=-1)
    assert apart(kernels.gated(x), value * F.gelu(gate)) < 5e-4


@pytest.mark.parametrize("shape", [(2, 64, 24, 32), (1, 8, 5, 7)])
def test_positive_parts_equal_pytorchs(shape: tuple[int, ...]) -> None:
    x, skip = pictures(*shape) - 5, pictures(*shape, seed=1) - 5
    bias = torch.randn(shape[1], generator=torch.Generator().manual_seed(2)).to(DEVICE, torch.float16)
    lacking = x.float() + bias.float()[:, None, None]
    assert torch.equal(kernels.relu(x, bias), F.relu(lacking).half())
    assert torch.equal(kernels.relu(x, bias, skip), F.relu(lacking + skip.float()).half())


@pytest.mark.parametrize("size", [(256, 256), (6, 10)])
def test_planes_equal_the_plain_ones(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator(DEVICE).manual_seed(0), device=DEVICE)
    bias = torch.tensor([0.5, -0.25, 0.125], device=DEVICE)
    for got, want in [(kernels.i420(x), x), (kernels.i420(x, bias), x + bias[:, None, None])]:
        # A product that lies within a rounding error of a half may go to either side.
        assert (got.int() - to_i420(to_bytes(want)).int()).abs().max() <= 1
        assert (got != to_i420(to_bytes(want))).float().mean() < 1e-3


@pytest.fixture
def exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def on_device(network: Any) -> Any:
    return network.to(DEVICE, memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def networks() -> tuple[UNet, VAE]:
    torch.manual_seed(0)
    unet, vae = UNet(UNetConfig.parse(TINY_UNET)), VAE(VAEConfig.parse(TINY_VAE))
    for parameter in (*unet.parameters(), *vae.parameters()):
        if parameter.ndim == 1:
            parameter.requires_grad_(False).add_(0.2 * torch.randn_like(parameter))
    return on_device(unet.fold()), on_device(vae.fold())


def inputs(n: int) -> tuple[Any, Any]:
    made = torch.Generator().manual_seed(1)
    latents = torch.randn(n, 8, 32, 32, generator=made).to(DEVICE, memory_format=torch.channels_last)
    return latents, torch.randn(n, AUDIO_TOKENS, 384, generator=made).to(DEVICE)


@pytest.mark.usefixtures("exact_products")
def test_networks_of_kernels_equal_the_plain_ones(networks: tuple[UNet, VAE]) -> None:
    unet, vae = networks
    latents, audio = inputs(2)
    with torch.inference_mode():
        keys_values = unet.keys_values(audio)
        want = unet(latents, keys_values)
        assert apart(fused.run_unet(unet, latents, keys_values), want) < FP32_LIMIT
        plain = vae.decode(want)
        for at_once in (1, 0):
            vae.choose(at_once=at_once)
            pictures, bias = fused.run_decoder(vae, want)
            assert apart(pictures + bias[:, None, None], plain) < FP32_LIMIT
        drawn = fused.fuse(unet, vae)(latents, audio)
    assert (drawn.int() - to_i420(to_bytes(plain)).int()).abs().max() <= 1


@pytest.mark.usefixtures("exact_products")
def test_the_small_decoder_of_kernels_equals_the_plain_one() -> None:
    torch.manual_seed(0)
    tiny = on_device(TinyDecoder(8).requires_grad_(False))
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1)).to(DEVICE, memory_format=torch.channels_last)
    with torch.inference_mode():
        want = tiny(latents)
        for decoder, at_once in ((tiny, 0), (copy.deepcopy(tiny).fold(), 2)):
            decoder.choose(at_once=at_once)
            pictures, bias = fused.run_tiny(decoder, latents)
            assert apart(pictures + bias[:, None, None], want) < FP32_LIMIT


def test_half_precision_draws_the_same_faces(networks: tuple[UNet, VAE]) -> None:
    unet, vae = copy.deepcopy(networks)
    latents, audio = inputs(1)
    with torch.inference_mode():
        want = to_i420(to_bytes(vae.decode(unet(latents, unet.keys_values(audio)))))
        for network in (unet, vae):
            set_precision(network, torch.float16)
        got = fused.fuse(unet, vae)(latents.half(), audio)
    assert psnr(got, want) > 50
