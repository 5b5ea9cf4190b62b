"""The neural engine on tiny weights in the published layout: what it draws, what it refuses, and what happens when memory or the card is gone."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks.generated_models import write_models  # noqa: E402
from configs.models import MuseTalkConfig, WeightsConfig  # noqa: E402
from museserve.errors import DeviceLostError, EngineError, EngineUnavailableError, WeightsError  # noqa: E402
from museserve.messages import AvatarRef, RenderRequest, SpeechWindow  # noqa: E402
from museserve.weights.folder import WeightsFolder  # noqa: E402
from musetalk.neural import device as devices  # noqa: E402
from musetalk.neural import renderer as renderers  # noqa: E402
from musetalk.neural.engine import MuseTalk  # noqa: E402
from musetalk.neural.latents import LatentCache  # noqa: E402
from musetalk.neural.networks import load_unet, load_vae  # noqa: E402
from musetalk.neural.renderer import FaceRenderer, plan  # noqa: E402
from musetalk.neural.vae import to_bytes  # noqa: E402
from musetalk.neural.yuv import to_i420  # noqa: E402
from tests.musetalk.neural.networks import psnr  # noqa: E402

CPU = MuseTalkConfig(device="cpu", batch_sizes=(2, 8), threads=1)
WITHOUT_BFLOAT16 = """
import torch
from configs.models import MuseTalkConfig
from museserve.errors import EngineUnavailableError
from musetalk.neural import device

torch.set_num_threads(1)
try:
    device.precision(MuseTalkConfig(device="cpu", dtype="bfloat16"), torch.device("cpu"))
except EngineUnavailableError as error:
    print(error)
"""
WOMAN, MAN = AvatarRef("woman", "1"), AvatarRef("man", "1")


def arrays(ref: AvatarRef) -> dict[str, Any]:
    rng = np.random.default_rng(len(ref.id))
    return {"latents": rng.normal(0, 0.2, (5, 8, 32, 32)).astype(np.float16), "latent_index": np.array([0, 1, 2, 3, 4, 3, 2, 1])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> WeightsFolder:
    path: Path = tmp_path_factory.mktemp("models")
    write_models(path)
    return WeightsFolder(WeightsConfig(uri=str(path), unpublished=True))


@pytest.fixture(scope="module")
def engine(folder: WeightsFolder) -> MuseTalk:
    return MuseTalk(CPU, folder, arrays)


def rows(n: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(n, 50, 384)).astype(np.float16)


def test_draws_what_the_networks_give(engine: MuseTalk, folder: WeightsFolder) -> None:
    heard = rows(3)
    [crops] = engine.render([RenderRequest(WOMAN, (0, 4, 5), heard)])
    cpu = torch.device("cpu")
    unet, vae = load_unet(folder, "v15", cpu, torch.float32), load_vae(folder, cpu, torch.float32)
    latents = torch.from_numpy(arrays(WOMAN)["latents"][[0, 4, 3]]).float()
    with torch.inference_mode():
        want = to_i420(to_bytes(vae.decode(unet(latents, unet.keys_values(torch.from_numpy(heard))))))
    assert crops.shape == (3, 384, 256) and crops.dtype == np.uint8
    assert np.abs(crops.astype(int) - want.numpy()).max() <= 1
    assert crops[:, :256].std() > 1


def test_requests_of_several_utterances_come_back_in_order(engine: MuseTalk) -> None:
    asked = [RenderRequest(WOMAN, (0, 1, 2), rows(3, 1)), RenderRequest(MAN, (7,) * 9, rows(9, 2)), RenderRequest(WOMAN, (1,), rows(1, 3))]
    together = engine.render(asked)
    assert [len(crops) for crops in together] == [3, 9, 1]
    for request, crops in zip(asked, together, strict=True):
        [alone] = engine.render([request])
        assert np.abs(crops.astype(int) - alone).max() <= 1
    assert engine.render([]) == []
    assert [len(crops) for crops in engine.render([RenderRequest(WOMAN, (), rows(0))])] == [0]


def test_sound_moves_the_picture(engine: MuseTalk) -> None:
    [one], [other] = (engine.render([RenderRequest(WOMAN, (0,), rows(1, seed))]) for seed in (1, 2))
    assert np.abs(one.astype(int) - other).max() > 1


def test_hears_in_rows_of_its_own_shape(engine: MuseTalk) -> None:
    pcm = np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32)
    heard = engine.listen(SpeechWindow(0, pcm, 0, 25, level=0.1, final=True))
    assert heard.rows.shape == (25, 50, 384) and heard.is_speaking[:20].all()
    assert len(engine.render([RenderRequest(WOMAN, tuple(range(8)), heard.rows[:8])])[0]) == 8


def test_several_threads_draw_at_once(engine: MuseTalk) -> None:
    asked = [RenderRequest(WOMAN, (i, i), rows(2, i)) for i in range(6)]
    alone = [engine.render([request])[0] for request in asked]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda request: engine.render([request])[0], asked))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("wrong", [RenderRequest(WOMAN, (0,), np.zeros((1, 8), np.float32)), RenderRequest(WOMAN, (0, 1), rows(1))])
def test_rows_of_another_engine_are_refused(engine: MuseTalk, wrong: RenderRequest) -> None:
    with pytest.raises(EngineError, match=r"need rows \(\d, 50, 384\)"):
        engine.render([wrong])


def test_frames_that_the_avatar_does_not_have_are_refused(engine: MuseTalk) -> None:
    with pytest.raises(EngineError, match="the avatar has 8"):
        engine.render([RenderRequest(WOMAN, (8,), rows(1))])


@pytest.mark.parametrize(
    "made", [{}, {"latents": np.zeros((2, 4, 32, 32)), "latent_index": np.zeros(3, int)}, arrays(WOMAN) | {"latent_index": np.array([5])}]
)
def test_an_avatar_of_another_version_is_refused(made: dict[str, Any]) -> None:
    cache = LatentCache(lambda ref: made, torch.device("cpu"), torch.float32, 2**20)
    with pytest.raises(EngineError, match="prepare it again"):
        cache.get(WOMAN)


def test_latents_are_kept_within_their_bytes() -> None:
    loads: list[str] = []

    def load(ref: AvatarRef) -> dict[str, Any]:
        loads.append(ref.id)
        return arrays(ref)

    one = 5 * 8 * 32 * 32 * 4
    cache = LatentCache(load, torch.device("cpu"), torch.float32, 2 * one + 1000)
    for name in "aabcab":
        cache.get(AvatarRef(name, "1"))
    assert loads == ["a", "b", "c", "a", "b"]
    assert cache.nbytes <= 2 * one + 1000


def test_info_tells_what_draws(folder: WeightsFolder) -> None:
    info = MuseTalk(CPU.model_copy(update={"decoder": "taesd"}), folder, arrays, reason="configured").info
    assert (info.name, info.device) == ("musetalk", "cpu")
    assert "TAESD" in info.details["decoder"] and info.details["dtype"] == "float32"
    assert (info.details["compile"], info.details["kernels"]) == ("off", "PyTorch")
    assert info.context_s > 0 and info.lookahead_s > 0 and info.fade_frames > 0


@pytest.mark.parametrize(
    ("n", "sizes", "want"),
    [
        (8, (2, 8, 32), (8,)),
        (2, (2, 8), (2,)),
        (9, (2, 8), (8, 2)),
        (20, (2, 8, 16, 32), (16, 2, 2)),
        (25, (2, 8, 16, 32), (16, 8, 2)),
        (70, (8, 32), (32, 32, 8)),
    ],
)
def test_frames_are_split_over_few_sizes(n: int, sizes: tuple[int, ...], want: tuple[int, ...]) -> None:
    assert plan(n, sizes) == want


@pytest.mark.parametrize("n", range(1, 40))
def test_every_frame_has_a_place(n: int) -> None:
    assert n <= sum(plan(n, (2, 8, 16))) <= n + 7


class Fails:
    """A decoder that fails on batches above a size."""

    def __init__(self, above: int, error: Exception) -> None:
        self.above, self.error, self.sizes = above, error, list[int]()

    def __call__(self, latents: Any) -> Any:
        self.sizes.append(len(latents))
        if len(latents) > self.above:
            raise self.error
        return torch.zeros(len(latents), 3, 256, 256)


def renderer(folder: WeightsFolder, decode: Fails, sizes: tuple[int, ...] = (2, 4, 8)) -> FaceRenderer:
    cpu = torch.device("cpu")
    return FaceRenderer(load_unet(folder, "v15", cpu, torch.float32), decode, cpu, torch.float32, sizes)


def test_out_of_memory_is_met_with_smaller_batches(folder: WeightsFolder, caplog: pytest.LogCaptureFixture) -> None:
    decode = Fails(2, torch.OutOfMemoryError("CUDA out of memory"))
    drawing = renderer(folder, decode)
    assert drawing.draw(torch.zeros(8, 8, 32, 32), rows(8)).shape == (8, 384, 256)
    assert decode.sizes == [8, 4, 2, 2, 2, 2]
    assert "out of memory with a batch of 8" in caplog.text
    decode.above = 8
    assert drawing.draw(torch.zeros(8, 8, 32, 32), rows(8)).shape == (8, 384, 256)
    assert decode.sizes[-1] == 8


def test_memory_for_nothing_is_an_error_and_the_replica_goes_on(folder: WeightsFolder) -> None:
    decode = Fails(0, RuntimeError("cuDNN error: out of memory"))
    drawing = renderer(folder, decode)
    with pytest.raises(EngineError, match="the smallest configured; lower lipsync.musetalk.batch_sizes"):
        drawing.draw(torch.zeros(3, 8, 32, 32), rows(3))
    drawing.check()
    decode.above = 8
    assert len(drawing.draw(torch.zeros(3, 8, 32, 32), rows(3))) == 3


def test_memory_that_is_gone_while_listening_is_an_error_of_that_call(folder: WeightsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = MuseTalk(CPU, folder, arrays)

    def full(speech: SpeechWindow) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine._listener, "listen", full)
    with pytest.raises(EngineError, match="out of memory on cpu while listening.*lipsync.musetalk.batch_sizes"):
        engine.listen(SpeechWindow(0, np.zeros(24_000, np.float32), 0, 25))
    engine.check()


def test_a_lost_card_is_told_by_every_later_check(folder: WeightsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = renderer(folder, Fails(0, RuntimeError("CUDA error: an illegal memory access was encountered")))

    def gone(device: Any) -> None:
        raise DeviceLostError("cuda:0 is lost: an illegal memory access; the replica must be replaced")

    monkeypatch.setattr("musetalk.neural.renderer.probe", gone)
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        drawing.draw(torch.zeros(1, 8, 32, 32), rows(1))
    monkeypatch.undo()
    with pytest.raises(DeviceLostError):
        drawing.check()
    with pytest.raises(DeviceLostError):
        drawing.draw(torch.zeros(1, 8, 32, 32), rows(1))


def test_another_failure_is_an_error_of_that_call_alone(folder: WeightsFolder) -> None:
    decode = Fails(0, RuntimeError("something odd"))
    drawing = renderer(folder, decode)
    with pytest.raises(EngineError, match="something odd"):
        drawing.draw(torch.zeros(1, 8, 32, 32), rows(1))
    drawing.check()


def test_missing_card_and_files_are_told_with_what_mends_them(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(EngineUnavailableError, match="lipsync.musetalk.device: cpu"):
            devices.choose(MuseTalkConfig())
    with pytest.raises(WeightsError, match="whisper/pytorch_model.bin.*museserve weights download"):
        MuseTalk(CPU, WeightsFolder(str(tmp_path)), arrays)


@pytest.fixture(scope="module")
def bfloat16(folder: WeightsFolder) -> MuseTalk:
    try:
        return MuseTalk(CPU.model_copy(update={"dtype": "bfloat16"}), folder, arrays)
    except EngineUnavailableError as error:
        pytest.skip(str(error))


def test_bfloat16_draws_nearly_the_same_and_is_named(engine: MuseTalk, bfloat16: MuseTalk) -> None:
    requests = [RenderRequest(WOMAN, (0, 4, 5), rows(3))]
    (want,), (got,) = engine.render(requests), bfloat16.render(requests)
    assert 30 < psnr(torch.from_numpy(got), torch.from_numpy(want)) < 60
    assert bfloat16.info.details["dtype"] == "bfloat16"


def test_bfloat16_hears_what_float32_hears(engine: MuseTalk, bfloat16: MuseTalk) -> None:
    sound = (0.1 * np.random.default_rng(0).standard_normal(24_000)).astype(np.float32)
    speech = SpeechWindow(0, sound, 0, 25, level=0.1, final=True)
    assert np.array_equal(engine.listen(speech).rows, bfloat16.listen(speech).rows)


def test_bfloat16_is_not_for_cards() -> None:
    with pytest.raises(EngineUnavailableError, match="bfloat16 is for CPUs"):
        devices.precision(CPU.model_copy(update={"dtype": "bfloat16"}), torch.device("cuda"))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN can be told to do without instructions there only")
def test_bfloat16_is_refused_where_it_is_slower() -> None:
    """oneDNN reads the variable once, before it computes."""
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", WITHOUT_BFLOAT16], env=env, capture_output=True, text=True, check=True, timeout=120)
    assert "bfloat16 is not faster than float32 on this processor" in done.stdout


def test_compilers_that_are_not_there(folder: WeightsFolder) -> None:
    with pytest.raises(EngineUnavailableError, match="graphs needs CUDA"):
        MuseTalk(CPU.model_copy(update={"compile": "graphs"}), folder, arrays)


def test_kernels_that_cannot_be_had_are_told_and_replaced(folder: WeightsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(renderers.KERNELS, "off", ("our own", "PyTorch"))
    monkeypatch.setitem(sys.modules, "musetalk.neural.fused", None)  # as where Triton is missing
    details = MuseTalk(CPU, folder, arrays).info.details
    assert (details["compile"], details["kernels"]) == ("off", "PyTorch")
    assert "off with kernels of our own is not available: ModuleNotFoundError" in details["note"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("default")  # the compiler imports what its own PyTorch has deprecated
@pytest.mark.parametrize("mode", ["off", "graphs", "inductor"])
def test_the_card_draws_what_the_cpu_draws(folder: WeightsFolder, engine: MuseTalk, mode: Any) -> None:
    card = MuseTalk(MuseTalkConfig(batch_sizes=(2, 8), compile=mode), folder, arrays)
    assert card.info.details["kernels"] == renderers.KERNELS[mode][0], card.info.details
    asked = [RenderRequest(WOMAN, (0, 1, 2), rows(3, 1)), RenderRequest(MAN, (7,) * 19, rows(19, 2))]
    for _ in range(3):
        for got, want in zip(card.render(asked), engine.render(asked), strict=True):
            error = float(np.mean((got.astype(float) - want) ** 2))
            assert 10 * np.log10(255**2 / max(error, 1e-9)) > 45
    card.check()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("default")
def test_the_card_draws_the_same_from_many_threads(folder: WeightsFolder) -> None:
    card = MuseTalk(MuseTalkConfig(batch_sizes=(2, 8), compile="graphs"), folder, arrays)
    asked = [RenderRequest(WOMAN, (i % 8,) * (1 + i % 9), rows(1 + i % 9, i)) for i in range(24)]
    alone = [card.render([request])[0] for request in asked]
    gate = threading.Barrier(6)

    def some(worker: int) -> list[Any]:
        gate.wait()
        return [card.render([request])[0] for request in asked[worker::6]]

    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(some, range(6)))
    for worker, drawn in enumerate(together):
        assert all(np.array_equal(a, b) for a, b in zip(alone[worker::6], drawn, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_card_hears_what_the_cpu_hears(folder: WeightsFolder, engine: MuseTalk) -> None:
    card = MuseTalk(MuseTalkConfig(batch_sizes=(2,), compile="off"), folder, arrays)
    sound = np.random.default_rng(0).normal(0, 0.1, 2 * 24_000).astype(np.float32)
    for end in range(8_000, len(sound), 7_000):  # a sound that arrives: each time of another length
        speech = SpeechWindow(0, sound[:end], 0, 8, level=0.1)
        got, want = card.listen(speech).rows.astype(float), engine.listen(speech).rows.astype(float)
        assert np.linalg.norm(got - want) < 0.01 * np.linalg.norm(want)
    assert not torch.backends.cudnn.benchmark, "every new length would be tried out while others are drawn"
