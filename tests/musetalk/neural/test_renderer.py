"""Batches of several calls in flight at once: launched one after the other, waited for side by side, none in another's memory."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from museserve.errors import DeviceLostError, EngineError  # noqa: E402
from musetalk.neural.renderer import IN_FLIGHT, FaceRenderer  # noqa: E402
from musetalk.neural.unet import UNet, UNetConfig  # noqa: E402
from tests.musetalk.neural.networks import TINY_UNET  # noqa: E402
from tests.musetalk.neural.thread_streams import PATIENCE_S, ThreadStream  # noqa: E402

CPU = torch.device("cpu")


class Enlarged:
    """A decoder that costs nothing, and tells how often it was called. `fails`: at which calls."""

    def __init__(self) -> None:
        self.calls, self.fails = 0, range(0)
        self.changed = threading.Condition()

    def __call__(self, latents: Any) -> Any:
        with self.changed:
            self.calls += 1
            self.changed.notify_all()
            if self.calls in self.fails:
                raise RuntimeError("CUDA error: something odd")
        return F.interpolate(latents[:, :3], scale_factor=8.0)

    def was_called(self, times: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.calls >= times, PATIENCE_S)


class Full(ThreadStream):
    """No room for what is put while `full`, as PyTorch says it at once."""

    full = False

    def put(self, work: Any) -> None:
        if self.full:
            raise torch.OutOfMemoryError("CUDA out of memory")
        super().put(work)


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(UNetConfig.parse(TINY_UNET)).fold()


def asked(n: int, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(0, 0.5, (n, 8, 32, 32)).astype(np.float32)), rng.normal(size=(n, 50, 384)).astype(np.float16)


def on_streams(unet: UNet, decode: Any, sizes: tuple[int, ...], compute: ThreadStream, copy: ThreadStream) -> FaceRenderer:
    drawing = FaceRenderer(unet, decode, CPU, torch.float32, sizes, streams=(compute, copy))
    decode.calls = 0
    return drawing


def test_a_second_call_is_drawn_while_the_first_waits_for_its_copy(unet: UNet) -> None:
    decode, copy = Enlarged(), ThreadStream()
    drawing = on_streams(unet, decode, (2, 4), ThreadStream(), copy)
    one, other, third = asked(2, 1), asked(2, 2), asked(3, 3)
    want = [drawing.draw(*one), drawing.draw(*other), drawing.draw(*third)]
    decode.calls = 0
    with ThreadPoolExecutor(3) as pool, copy.held():
        first = pool.submit(drawing.draw, *one)
        assert decode.was_called(1)
        second = pool.submit(drawing.draw, *other)
        assert decode.was_called(2), "the second call waits until the first has landed"
        of_another_size = pool.submit(drawing.draw, *third)
        assert decode.was_called(3)
        assert not first.done() and not second.done() and not of_another_size.done()
        copy.go()
        got = [drawn.result(PATIENCE_S) for drawn in (first, second, of_another_size)]
    assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


def test_no_more_are_in_flight_than_have_memory_of_their_own(unet: UNet) -> None:
    decode, copy = Enlarged(), ThreadStream()
    drawing = on_streams(unet, decode, (2,), ThreadStream(), copy)
    batches = [asked(2, seed) for seed in range(4)]
    want = [drawing.draw(*batch) for batch in batches]
    decode.calls = 0
    with ThreadPoolExecutor(4) as pool, copy.held():
        drawn = [pool.submit(drawing.draw, *batch) for batch in batches]
        assert decode.was_called(IN_FLIGHT)
        assert drawing._batches[2].free.empty() and decode.calls == IN_FLIGHT
        copy.go()
        assert all(np.array_equal(one.result(PATIENCE_S), crops) for one, crops in zip(drawn, want, strict=True))
    assert drawing._batches[2].free.qsize() == IN_FLIGHT


def test_many_threads_draw_the_same_bits_as_one(unet: UNet) -> None:
    """Calls of several batches, which hold memory while they want more, of sizes that they share."""
    decode = Enlarged()
    drawing = on_streams(unet, decode, (1, 2), ThreadStream(seed=1), ThreadStream(seed=2))
    calls = [asked(1 + seed % 6, seed) for seed in range(30)]
    alone = [drawing.draw(*call) for call in calls]
    plain = FaceRenderer(unet, decode, CPU, torch.float32, (1, 2))
    assert all(np.abs(plain.draw(*call).astype(int) - crops).max() <= 1 for call, crops in zip(calls[:6], alone, strict=False))
    gate = threading.Barrier(5)

    def some(worker: int) -> list[Any]:
        gate.wait()
        return [drawing.draw(*call) for call in calls[worker::5]]

    with ThreadPoolExecutor(5) as pool:
        for worker, drawn in enumerate(pool.map(some, range(5), timeout=PATIENCE_S)):
            assert all(np.array_equal(a, b) for a, b in zip(alone[worker::5], drawn, strict=True))


def test_a_fault_is_met_by_the_call_that_has_it_and_memory_comes_back(unet: UNet) -> None:
    decode = Enlarged()
    drawing = on_streams(unet, decode, (2,), ThreadStream(), ThreadStream())
    call = asked(6, 0)
    want = drawing.draw(*call)
    for at in range(3):
        decode.calls, decode.fails = 0, range(1 + at, 2 + at)
        with pytest.raises(EngineError, match="drawing failed: CUDA error: something odd"):
            drawing.draw(*call)
        assert drawing._batches[2].free.qsize() == IN_FLIGHT
    decode.fails = range(0)
    assert np.array_equal(drawing.draw(*call), want)


def test_memory_that_is_gone_at_the_launch_is_met_with_smaller_batches_and_comes_back(unet: UNet) -> None:
    compute = Full()
    drawing = on_streams(unet, Enlarged(), (2, 4), compute, ThreadStream())
    call = asked(4, 0)
    want = drawing.draw(*call)
    for _ in range(IN_FLIGHT + 1):
        compute.full = True
        with pytest.raises(EngineError, match="does not hold a batch of 2 frames"):
            drawing.draw(*call)
        compute.full = False
        assert np.array_equal(drawing.draw(*call), want)


def test_who_waits_for_memory_of_a_lost_card_is_told(unet: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    decode, copy = Enlarged(), ThreadStream()
    drawing = on_streams(unet, decode, (1,), ThreadStream(), copy)

    def gone(device: Any) -> None:
        raise DeviceLostError("cuda:0 is lost; the replica must be replaced")

    monkeypatch.setattr("musetalk.neural.renderer.probe", gone)
    decode.fails = range(1, 100)
    with ThreadPoolExecutor(5) as pool, copy.held():
        drawn = [pool.submit(drawing.draw, *asked(1, seed)) for seed in range(5)]
        assert decode.was_called(IN_FLIGHT)
        copy.go()
        assert all(isinstance(one.exception(PATIENCE_S), DeviceLostError) for one in drawn)
    assert drawing._batches[1].free.qsize() == IN_FLIGHT
