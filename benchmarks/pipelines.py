"""Two ways from latents and sound to faces, each in a process of its own: our engine, and the plain pipeline that the published realtime script is.

A worker is told what to do through a pipe, so that both can be measured in turns, on the same batches, without touching each other's allocator.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import cached_property, partial
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from configs.models import MuseTalkConfig, WeightsConfig
from museserve.messages import AvatarRef, RenderRequest
from museserve.weights.folder import WeightsFolder

Kind = Literal["eager", "exact", "exact-inductor", "taesd", "taesd-inductor"]  # our decoders; with the compiler's kernels instead of ours
AVATAR = AvatarRef("noise", "1")
N_FACES = 64


def faces() -> NDArray[np.float16]:
    return np.random.default_rng(0).normal(0, 0.8, (N_FACES, 8, 32, 32)).astype(np.float16)


def sound(n: int) -> NDArray[np.float16]:
    return np.random.default_rng(n).normal(0, 1, (n, 50, 384)).astype(np.float16)


class Eager:
    """As scripts/realtime_inference.py: diffusers' classes, one type for everything, each batch UNet, decoder, to the CPU, to BGR bytes."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        from musetalk.neural.unet import sinusoids
        from musetalk.neural.vae import current_names
        from musetalk.weights.checkpoint import read_checkpoint

        diffusers = import_module("diffusers")

        def filled(make: Callable[[], Any], state: dict[str, Any]) -> Any:
            with torch.device("meta"):
                model = make()
            model.load_state_dict(state, strict=True, assign=True)
            model = model.requires_grad_(False).eval().to(device=device)
            return model if dtype == torch.float32 else model.to(dtype=dtype)

        described = json.loads((folder / "musetalkV15/musetalk.json").read_text())
        shape = json.loads((folder / "sd-vae/config.json").read_text())
        keys: tuple[str, ...] = ("block_out_channels", "attention_head_dim", "norm_num_groups", "cross_attention_dim")
        self.unet = filled(
            lambda: diffusers.UNet2DConditionModel(in_channels=8, out_channels=4, sample_size=64, **{k: described[k] for k in keys}),
            read_checkpoint(folder / "musetalkV15/unet.pth"),
        )
        kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        keys = ("block_out_channels", "layers_per_block", "norm_num_groups")
        self.vae = filled(
            lambda: diffusers.AutoencoderKL(latent_channels=4, **kinds, **{k: shape[k] for k in keys}),
            current_names(read_checkpoint(folder / "sd-vae/diffusion_pytorch_model.bin")),
        )
        self.device, self.dtype = device, dtype
        self.faces = [face[None] for face in torch.from_numpy(faces()).to(device=device, dtype=dtype)]
        self.positions = sinusoids(50, 384).to(device=device, dtype=dtype)
        self.time = torch.tensor([0], device=device)
        self.info = {"dtype": str(dtype).removeprefix("torch."), "classes": "diffusers, eager"}

    @torch.no_grad()
    def draw(self, numbers: list[int], rows: NDArray[Any]) -> Any:
        latents = torch.cat([self.faces[i] for i in numbers])
        audio = torch.from_numpy(rows).to(device=self.device, dtype=self.dtype) + self.positions
        predicted = self.unet(latents, self.time, encoder_hidden_states=audio).sample
        pictures = self.vae.decode(predicted / 0.18215).sample
        pictures = (pictures / 2 + 0.5).clamp(0, 1)
        whole = pictures.detach().cpu().permute(0, 2, 3, 1).float().numpy()
        return (whole * 255).round().astype("uint8")[..., ::-1]


class Own:
    """The engine as the graph calls it."""

    def __init__(self, folder: Path, decoder: Any, config: dict[str, Any]) -> None:
        from musetalk.neural.engine import MuseTalk

        arrays: dict[str, NDArray[Any]] = {"latents": faces(), "latent_index": np.arange(N_FACES)}
        weights = WeightsFolder(WeightsConfig(uri=str(folder), unpublished=True))
        began = time.perf_counter()
        self.engine = MuseTalk(MuseTalkConfig(decoder=decoder, **config), weights, lambda ref: arrays)
        self.info = {**self.engine.info.details, "warm_after_s": round(time.perf_counter() - began, 1)}

    def draw(self, numbers: list[int], rows: NDArray[Any]) -> Any:
        return self.engine.render([RenderRequest(AVATAR, tuple(numbers), rows)])[0]


def timed(draw: Callable[[list[int], NDArray[Any]], Any], size: int, seconds: float, device: torch.device) -> dict[str, Any]:
    """Draw batches of `size` one after the other for `seconds`, at least once."""
    numbers, rows = [i % N_FACES for i in range(size)], sound(size)
    cuda = device.type == "cuda"
    if cuda:
        for _ in range(3):
            draw(numbers, rows)
        torch.cuda.reset_peak_memory_stats()
    walls, cpu = list[float](), time.process_time()
    ends = time.perf_counter() + seconds
    while not walls or time.perf_counter() < ends:
        began = time.perf_counter()
        draw(numbers, rows)
        walls.append(time.perf_counter() - began)
    return {
        "frames_per_s": round(size / statistics.median(walls), 4 if not cuda else 1),
        "cpu_s_per_frame": round((time.process_time() - cpu) / len(walls) / size, 3),
        "batches": len(walls),
        "memory_mb": round((torch.cuda.max_memory_reserved() if cuda else psutil.Process().memory_info().rss) / 2**20),
    }


def work(pipe: Connection, kind: Kind, folder: Path, device_name: str, config: dict[str, Any]) -> None:
    """The worker: makes its pipeline, tells what it is, and answers ("time", size, seconds) and ("profile", size) until told None."""
    device = torch.device(device_name)
    if kind == "eager":
        dtype = torch.float16 if device.type == "cuda" else torch.float32
        torch.set_num_threads(config["threads"])
        torch.backends.cudnn.benchmark = True
        pipeline: Any = Eager(folder, device, dtype)
    else:
        decoder, _, mode = kind.partition("-")
        pipeline = Own(folder, decoder, {**config, **({"compile": mode} if mode else {})})
    pipe.send(pipeline.info)
    while (asked := pipe.recv()) is not None:
        what, *values = asked
        if what == "time":
            pipe.send(timed(pipeline.draw, values[0], values[1], device))
        else:
            from benchmarks.steps import spent

            batch = [i % N_FACES for i in range(values[0])], sound(values[0])
            pipe.send(spent(partial(pipeline.draw, *batch), values[0], device))


class Worker:
    """A pipeline in a process of its own, which makes it while the caller goes on; `info` and `ask` wait for that."""

    def __init__(self, kind: Kind, folder: Path, device: str, config: dict[str, Any]) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, kind, folder, device, config), daemon=True)
        self._process.start()
        theirs.close()

    @cached_property
    def info(self) -> dict[str, Any]:
        info: dict[str, Any] = self._pipe.recv()
        return info

    def ask(self, *what: Any) -> dict[str, Any]:
        assert self.info
        self._pipe.send(what)
        answer: dict[str, Any] = self._pipe.recv()
        return answer

    def end(self) -> None:
        self._pipe.send(None)
        self._process.join()
