"""Ways to decode that give the same pictures: parts of a batch, folded enlargements, ReLUs inside convolutions; and how one is chosen."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from musetalk.neural import renderer as renderers  # noqa: E402
from musetalk.neural.layers import in_parts, set_precision  # noqa: E402
from musetalk.neural.renderer import FaceRenderer  # noqa: E402
from musetalk.neural.taesd import AT_ONCE as TINY_AT_ONCE  # noqa: E402
from musetalk.neural.taesd import TinyDecoder, cudnn_rectifies, rectified, rectified_by_cudnn  # noqa: E402
from musetalk.neural.unet import UNet, UNetConfig  # noqa: E402
from musetalk.neural.vae import AT_ONCE, VAE, VAEConfig, to_bytes  # noqa: E402
from musetalk.neural.ways import LEAST_GAIN, TRIES, Decoder, fastest  # noqa: E402
from tests.musetalk.neural.networks import TINY_UNET, TINY_VAE, apart, psnr  # noqa: E402
from tests.musetalk.neural.thread_streams import ThreadStream  # noqa: E402

FP32_LIMIT = 1e-5
CPU = torch.device("cpu")


def seeded(network: Any, seed: int = 0) -> Any:
    """Biases and scales away from 0 and 1, so that a test notices when one is left out."""
    made = torch.Generator().manual_seed(seed)
    for parameter in network.requires_grad_(False).parameters():
        if parameter.ndim == 1:
            parameter += 0.1 * torch.randn(parameter.shape, generator=made)
    return network


def latents(n: int, channels: int = 4, side: int = 8) -> Any:
    made = torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(n))
    return made.contiguous(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def vae() -> VAE:
    torch.manual_seed(0)
    return seeded(VAE(VAEConfig.parse(TINY_VAE))).fold().decode_only()


@pytest.fixture(scope="module")
def published() -> TinyDecoder:
    torch.manual_seed(0)
    return seeded(TinyDecoder(8)).eval()


@pytest.fixture(scope="module")
def tiny(published: TinyDecoder) -> TinyDecoder:
    return copy.deepcopy(published).fold()


@pytest.fixture
def plain(vae: VAE, tiny: TinyDecoder) -> Iterator[None]:
    yield
    vae.choose()
    tiny.choose()


def test_parts_are_put_together_in_order() -> None:
    x, seen = latents(5), []

    def run(part: Any) -> Any:
        seen.append(len(part))
        return part * 2

    for at_once, want in [(0, [5]), (1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (9, [5])]:
        seen.clear()
        got = in_parts(run, x, at_once)
        assert seen == want and torch.equal(got, x * 2) and got.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("at_once", AT_ONCE[1:])
def test_large_stages_by_parts_give_the_same_pictures(vae: VAE, at_once: int) -> None:
    given = latents(3)
    with torch.inference_mode():
        want = vae.decode(given)
        vae.choose(at_once=at_once)
        got = vae.decode(given)
    assert got.shape == (3, 3, 64, 64) and apart(got, want) < FP32_LIMIT
    assert torch.equal(to_bytes(got), to_bytes(want)) or psnr(to_bytes(got), to_bytes(want)) > 80


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("at_once", TINY_AT_ONCE[1:])
def test_the_small_decoder_by_parts_gives_the_same_pictures(tiny: TinyDecoder, at_once: int) -> None:
    given = latents(5)
    with torch.inference_mode():
        want = tiny(given)
        tiny.choose(at_once=at_once)
        assert apart(tiny(given), want) < FP32_LIMIT


@pytest.mark.parametrize("at_once", [0, 2])
def test_folded_enlargements_give_the_pictures_of_the_published_layers(published: TinyDecoder, at_once: int) -> None:
    """To the edges: "nearest" repeats the last pixel there, and the convolution pads with zeros."""
    folded = copy.deepcopy(published).fold()
    kinds = [type(layer) for layer in folded.layers]
    assert kinds.count(torch.nn.ConvTranspose2d) == 3 and torch.nn.Upsample not in kinds
    with torch.inference_mode():
        want = published.layers(torch.tanh(latents(3) / 3) * 3) * 2 - 1  # as published, module by module
        folded.choose(at_once=at_once)
        got = folded(latents(3))
        unfolded = copy.deepcopy(published)
        unfolded.choose(at_once=at_once)
        assert apart(unfolded(latents(3)), want) < FP32_LIMIT
    assert got.shape == (3, 3, 64, 64) and apart(got, want) < FP32_LIMIT
    for edge in (got[..., :2, :] - want[..., :2, :], got[..., -2:] - want[..., -2:]):
        assert edge.abs().max() < 1e-4


def test_the_folded_decoder_draws_the_same_faces_in_half_precision(published: TinyDecoder) -> None:
    folded = copy.deepcopy(published).fold()
    set_precision(folded, torch.float16)
    with torch.inference_mode():
        assert psnr(to_bytes(folded(latents(1).half())), to_bytes(published(latents(1)))) > 50


def test_large_is_what_has_128_pixels_and_more(published: TinyDecoder, tiny: TinyDecoder) -> None:
    for decoder in (published, tiny):
        with torch.inference_mode():
            small = decoder.layers[: decoder.large](latents(1, side=32))
        assert small.shape[2:] == (128, 128) and isinstance(decoder.layers[decoder.large - 1], torch.nn.Conv2d | torch.nn.ConvTranspose2d)


def test_sums_and_relus_of_a_block_are_the_published_ones(published: TinyDecoder) -> None:
    conv, x, skip = published.layers[0], latents(2), latents(2, 8)
    assert torch.equal(rectified(conv, x), F.relu(conv(x)))
    assert torch.equal(rectified(conv, x, skip), F.relu(conv(x) + skip))


def test_cudnns_relu_is_offered_where_it_is(tiny: TinyDecoder) -> None:
    """The operator has a name everywhere, and is there in builds for CUDA alone."""
    assert ("inside" in tiny.options()) == cudnn_rectifies() == (torch.version.cuda is not None)
    if not cudnn_rectifies():
        with pytest.raises(NotImplementedError):
            rectified_by_cudnn(tiny.layers[0], latents(1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cudnns_relu_gives_the_same_pictures(tiny: TinyDecoder) -> None:
    card: Any = copy.deepcopy(tiny).to("cuda", torch.float16)
    card = card.to(memory_format=torch.channels_last)
    given = latents(3).cuda().half()
    with torch.inference_mode():
        want = card(given)
        card.choose(inside=True)
        got = card(given)
    assert not torch.isnan(got).any() and psnr(to_bytes(got), to_bytes(want)) > 50


def test_the_fastest_of_each_choice_is_taken() -> None:
    took = {(0, False): 10.0, (1, False): 12.0, (2, False): 8.0, (2, True): 7.0, (0, True): 1.0}
    asked = []

    def took_ms(way: dict[str, Any]) -> float | None:
        asked.append((way["at_once"], way["inside"]))
        return took[way["at_once"], way["inside"]]

    assert fastest({"at_once": (0, 1, 2), "inside": (False, True)}, took_ms) == {"at_once": 2, "inside": True}
    assert asked == [(0, False), (1, False), (2, False), (2, True)]


@pytest.mark.parametrize("other", [None, 10.0, 10.0 * (1 - LEAST_GAIN / 2), 11.0])
def test_what_is_plain_stays_where_nothing_is_better(other: float | None) -> None:
    assert fastest({"at_once": (0, 2)}, lambda way: other if way["at_once"] else 10.0) == {"at_once": 0}


class Odd:
    """A decoder that has ways which draw something else, or fail, beside one that is as good."""

    def __init__(self) -> None:
        self.kind = "plain"

    def options(self) -> dict[str, tuple[Any, ...]]:
        return {"kind": ("plain", "fails", "differs", "as good")}

    def choose(self, kind: str = "plain") -> None:
        self.kind = kind

    def __call__(self, given: Any) -> Any:
        if self.kind == "fails":
            raise RuntimeError("cuDNN error: not supported")
        return F.interpolate(given[:, :3], scale_factor=8.0) * (0.9 if self.kind == "differs" else 1.0)


@pytest.mark.parametrize("as_good_ms", [3.0, 20.0])
def test_a_way_that_fails_or_draws_something_else_is_never_used(monkeypatch: pytest.MonkeyPatch, as_good_ms: float) -> None:
    torch.manual_seed(0)
    unet, decode, took = UNet(UNetConfig.parse(TINY_UNET)).fold(), Odd(), {"plain": 10.0, "fails": 1.0, "differs": 1.0, "as good": as_good_ms}
    monkeypatch.setattr(FaceRenderer, "_took_ms", lambda self, batch: took[batch.way.get("kind", "plain")])
    drawing = FaceRenderer(unet, decode, CPU, torch.float32, (1, 2), streams=(ThreadStream(), ThreadStream()))
    best = "as good" if as_good_ms < 10 else "plain"
    assert drawing.ways == {1: {"kind": best}, 2: {"kind": best}}
    rng = np.random.default_rng(0)
    call = torch.from_numpy(rng.normal(0, 0.5, (3, 8, 32, 32)).astype(np.float32)), rng.normal(size=(3, 50, 384)).astype(np.float16)
    crops = drawing.draw(*call)
    assert decode.kind == best
    assert np.abs(FaceRenderer(unet, Odd(), CPU, torch.float32, (1, 2)).draw(*call).astype(int) - crops).max() <= 1


def test_the_device_alone_is_timed_between_calls() -> None:
    torch.manual_seed(0)
    unet, calls = UNet(UNetConfig.parse(TINY_UNET)).fold(), list[int]()

    def decode(given: Any) -> Any:
        calls.append(len(given))
        return F.interpolate(given[:, :3], scale_factor=8.0)

    drawing = FaceRenderer(unet, decode, CPU, torch.float32, (1, 2), streams=(ThreadStream(), ThreadStream()))
    calls.clear()
    assert drawing.device_ms(2) > 0 and calls == [2] * TRIES


def test_both_decoders_have_a_choice_and_what_is_asked_for_is_not_tried(tiny: TinyDecoder, vae: VAE, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(tiny, Decoder) and isinstance(vae, Decoder)
    torch.manual_seed(0)
    unet, tried = UNet(UNetConfig.parse(TINY_UNET)).fold(), list[Any]()
    monkeypatch.setattr(renderers, "fastest", lambda *asked: tried.append(asked))
    drawing = FaceRenderer(unet, copy.deepcopy(vae), CPU, torch.float32, (2,), streams=(ThreadStream(), ThreadStream()), way={"at_once": 1})
    assert drawing.ways == {2: {"at_once": 1}} and not tried
