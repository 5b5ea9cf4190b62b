"""The UNet against diffusers' own class on the same weights."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from museserve.errors import ConfigError, WeightsError  # noqa: E402
from musetalk.neural.layers import GroupNorm, Upsample, set_precision  # noqa: E402
from musetalk.neural.unet import AUDIO_TOKENS, UNet, UNetConfig, sinusoids  # noqa: E402
from musetalk.weights.checkpoint import load_into  # noqa: E402
from tests.musetalk.neural.networks import FULL_UNET, TINY_UNET, apart, reference_unet  # noqa: E402

FP32_LIMIT = 1e-4
FP16_LIMIT = 1e-2


def own_unet(reference: Any, values: dict[str, Any]) -> UNet:
    with torch.device("meta"):
        unet = UNet(UNetConfig.parse(values))
    load_into(unet, reference.state_dict(), file="unet.pth")
    return unet.fold()


def inputs(n: int) -> tuple[Any, Any]:
    torch.manual_seed(1)
    return torch.randn(n, 8, 32, 32), torch.randn(n, AUDIO_TOKENS, 384)


def expected(reference: Any, latents: Any, audio: Any) -> Any:
    with torch.inference_mode():
        return reference(latents, torch.tensor([0]), audio + sinusoids(AUDIO_TOKENS, 384)).sample


@pytest.fixture(scope="module")
def reference() -> Any:
    return reference_unet(TINY_UNET)


def test_agrees_with_diffusers_in_float32(reference: Any) -> None:
    unet = own_unet(reference, TINY_UNET)
    latents, audio = inputs(3)
    with torch.inference_mode():
        got = unet(latents, unet.keys_values(audio))
    assert got.shape == (3, 4, 32, 32)
    assert apart(got, expected(reference, latents, audio)) < FP32_LIMIT / 10


def test_agrees_with_diffusers_in_half_precision(reference: Any) -> None:
    unet = own_unet(reference, TINY_UNET)
    set_precision(unet, torch.float16)
    latents, audio = inputs(1)
    with torch.inference_mode():
        got = unet(latents.half(), unet.keys_values(audio))
    assert got.dtype == torch.float16
    assert apart(got, expected(reference, latents, audio)) < FP16_LIMIT


def test_keys_and_values_are_reusable_for_other_pictures(reference: Any) -> None:
    unet = own_unet(reference, TINY_UNET)
    latents, audio = inputs(2)
    with torch.inference_mode():
        keys_values = unet.keys_values(audio)
        again = unet(latents.flip(0), keys_values)
    assert apart(again, expected(reference, latents.flip(0), audio)) < FP32_LIMIT


def test_loading_leaves_the_given_weights_alone(reference: Any) -> None:
    before = copy.deepcopy(reference.state_dict())
    own_unet(reference, TINY_UNET)
    assert all(torch.equal(before[name], tensor) for name, tensor in reference.state_dict().items())


def test_has_the_published_tensors() -> None:
    with torch.device("meta"):
        unet = UNet(UNetConfig())
    state = unet.state_dict()
    assert len(state) == 686
    assert sum(t.numel() for t in state.values()) == 849_947_844
    assert state["up_blocks.3.resnets.0.conv1.weight"].shape == (320, 960, 3, 3)
    assert state["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"].shape == (320, 384)


def test_another_networks_weights_are_refused(reference: Any) -> None:
    state = reference.state_dict()
    state["conv_in.weight"] = state["conv_in.weight"][:, :4]
    with torch.device("meta"):
        unet = UNet(UNetConfig.parse(TINY_UNET))
    with pytest.raises(WeightsError, match="conv_in.weight"):
        load_into(unet, state, file="unet.pth")


@pytest.mark.parametrize("wrong", [{"in_channels": 4}, {"block_out_channels": [320, 640]}, {"act_fn": "gelu"}, {"norm_num_groups": 7}])
def test_another_networks_description_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="musetalk.json"):
        UNetConfig.parse(TINY_UNET | wrong)


@pytest.mark.parametrize("side", [1, 5])
def test_folded_upsampling_equals_nearest_then_convolution(side: int) -> None:
    torch.manual_seed(0)
    plain = Upsample(6).double()
    folded = copy.deepcopy(plain)
    folded.fold()
    x = torch.randn(2, 6, side, side + 1, dtype=torch.float64)
    assert torch.allclose(folded(x), plain(x), rtol=1e-12, atol=1e-12)


def test_norms_by_channel_equal_pytorchs() -> None:
    torch.manual_seed(0)
    norm = GroupNorm(4, 16, 1e-6).requires_grad_(False)
    norm.weight.add_(torch.randn(16))
    norm.bias.add_(torch.randn(16))
    x = (torch.randn(2, 16, 5, 7) * 3 + 50).to(memory_format=torch.channels_last)
    x[:, 8:] = -1.0
    want = torch.nn.functional.group_norm(x.double(), 4, norm.weight.double(), norm.bias.double(), 1e-6)
    assert apart(norm.by_channel(x), want) < 1e-5


def test_positions_are_sines_and_cosines_in_turn() -> None:
    table = sinusoids(AUDIO_TOKENS, 384)
    assert table[0, :4].tolist() == [0, 1, 0, 1]
    angle = 7 * 10_000 ** (-2 / 384)
    assert table[7, 2:4].tolist() == pytest.approx([math.sin(angle), math.cos(angle)], rel=1e-5)


@pytest.mark.slow
def test_full_size_agrees_in_both_precisions() -> None:
    reference = reference_unet(FULL_UNET)
    unet = own_unet(reference, FULL_UNET)
    latents, audio = inputs(1)
    want = expected(reference, latents, audio)
    with torch.inference_mode():
        single = apart(unet(latents, unet.keys_values(audio)), want)
        set_precision(unet, torch.float16)
        half = apart(unet(latents.half(), unet.keys_values(audio)), want)
    print(f"full size: float32 {single:.2e}, float16 {half:.2e} relative")
    assert single < FP32_LIMIT
    assert half < FP16_LIMIT
