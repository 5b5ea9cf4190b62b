"""Latents and sound to finished crops, in batches of a few fixed sizes: what a GPU is fast at.

On CUDA each size is recorded once as a graph (of fused kernels, the compiler's or ours) and replayed; inputs and crops pass through pinned
memory, crops on a stream of their own, so that a batch is copied while the next one is drawn. On a CPU the same networks are simply called.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.models import cache_dir
from museserve.errors import DeviceLostError, EngineError, EngineUnavailableError
from museserve.messages import ByteArray
from musetalk.neural.device import is_out_of_memory, planned, probe
from musetalk.neural.unet import AUDIO_TOKENS, UNet
from musetalk.neural.vae import FACE_SIDE, LATENT_SIDE, to_bytes
from musetalk.neural.yuv import to_i420

logger = logging.getLogger(__name__)

Mode = Literal["off", "graphs", "inductor"]
Compile = Mode | Literal["auto"]
Kernels = Literal["the compiler", "our own", "PyTorch"]
AUTO: tuple[Mode, ...] = ("graphs", "inductor")  # on a card: the first that can be had
KERNELS: dict[Mode, tuple[Kernels, ...]] = {"inductor": ("the compiler",), "graphs": ("our own", "PyTorch"), "off": ("PyTorch",)}  # likewise
CROP_SHAPE = (FACE_SIDE * 3 // 2, FACE_SIDE)
LAUNCH_FRAMES = 1.5  # what starting a batch costs, and small ones waste, in frames
WARM_UP_CALLS = 3  # before a graph is recorded: libraries choose their kernels and allocate workspaces


@lru_cache
def plan(n: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The fixed sizes that `n` frames are drawn in, largest first: the least work, counting frames drawn in vain and each launch."""
    whole, rest = divmod(n, sizes[-1])
    best = (sizes[-1],) * whole
    if rest:
        options: list[tuple[int, ...]] = [(next(size for size in sizes if size >= rest),)]
        options += [(size, *plan(rest - size, sizes)) for size in sizes if size < rest]
        best += min(options, key=lambda option: sum(option) + LAUNCH_FRAMES * len(option))
    return tuple(sorted(best, reverse=True))


@dataclass
class _Host:
    """Pinned memory of one batch in flight. `done`: its crops have arrived, and its inputs were read before that."""

    audio: Tensor
    crops: Tensor
    done: torch.cuda.Event


@dataclass
class _Batch:
    """One fixed size on the card: where a recorded graph reads and writes."""

    latents: Tensor
    audio: Tensor
    crops: Tensor
    hosts: tuple[_Host, _Host]
    graph: torch.cuda.CUDAGraph | None = None
    turn: int = 0
    taken: torch.cuda.Event | None = None  # crops of the last use were copied away


def _compiled_once(forward: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Compiled for any number of frames at the first call, which takes a minute or two; one size after the other would take that each."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "compiled"))  # by default a temporary folder, lost at the next boot
    compiled = torch.compile(forward, fullgraph=True)

    def call(latents: Tensor, audio: Tensor) -> Tensor:
        for given in (latents, audio):
            torch._dynamo.maybe_mark_dynamic(given, 0)
        out: Tensor = compiled(latents, audio)
        return out

    return call


class FaceRenderer:
    """Thread-safe: calls take turns.

    Args:
        unet, decode: the networks, on `device` in `dtype`; `decode` takes latents (n, 4, 32, 32) to pictures in -1..1.
        sizes: ascending. Those that do not fit into memory are dropped, with a warning; `sizes` tells which are left.
    Raises:
        EngineUnavailableError: not even the smallest size fits; or `mode` was asked for by name and the compiler is not there.
    """

    def __init__(
        self, unet: UNet, decode: Callable[[Tensor], Tensor], device: torch.device, dtype: torch.dtype, sizes: tuple[int, ...], mode: Compile = "auto"
    ) -> None:
        self._unet, self._decode, self._device, self._dtype = unet, decode, device, dtype
        self._lock = threading.Lock()
        self._lost: str | None = None
        self._call: Callable[[Tensor, Tensor], Tensor] = self._forward
        self._batches: dict[int, _Batch] = {}
        self.mode: Mode = "off"
        self.kernels: Kernels = "PyTorch"
        self.sizes, self.note = sizes, ""
        if device.type == "cuda":
            self._compute, self._copy = torch.cuda.Stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._pool = torch.cuda.graph_pool_handle()
        self._prepare(mode)

    @property
    def fixed(self) -> bool:
        """Whether numbers of frames are filled up to one of `sizes`; a CPU that compiles nothing draws as many as there are."""
        return self._device.type == "cuda" or self.mode != "off"

    def draw(self, latents: Tensor, audio: NDArray[Any]) -> ByteArray:
        """Draw n frames.

        Args:
            latents: (n, 8, 32, 32) on the device. audio: (n, 50, 384) floats on the host, without positions.
        Returns:
            I420 uint8 (n, 384, 256).
        Raises:
            EngineError: out of memory even in the smallest batches. DeviceLostError: the card failed; `check` raises from then on.
        """
        crops = np.empty((len(audio), *CROP_SHAPE), np.uint8)
        with self._lock, torch.inference_mode():
            self.check_lost()
            self._draw_into(crops, latents, audio)
        return crops

    def check(self) -> None:
        """Raises DeviceLostError when the card is gone."""
        self.check_lost()
        probe(self._device)

    def check_lost(self) -> None:
        if self._lost is not None:
            raise DeviceLostError(self._lost)

    def _draw_into(self, crops: ByteArray, latents: Tensor, audio: NDArray[Any]) -> None:
        sizes, first = self.sizes, 0
        flying: deque[tuple[int, int, Callable[[], NDArray[Any]]]] = deque()

        def land() -> None:
            at, count, arrived = flying.popleft()
            crops[at : at + count] = arrived()[:count]

        while first < len(audio):
            size = plan(len(audio) - first, sizes)[0] if self.fixed else min(len(audio) - first, sizes[-1])
            count = min(size, len(audio) - first)
            part = slice(first, first + count)
            try:
                flying.append((first, count, self._launch(size, latents[part], np.ascontiguousarray(audio[part]))))
                first += count
                if len(flying) == 2:
                    land()
            except (RuntimeError, MemoryError) as error:
                sizes = self._smaller(sizes, size, error)
        while flying:
            try:
                land()
            except RuntimeError as error:
                raise self.failed(error) from None

    def _smaller(self, sizes: tuple[int, ...], size: int, error: RuntimeError | MemoryError) -> tuple[int, ...]:
        """The sizes below one that did not fit, for the rest of this call; memory that others hold for a moment comes back."""
        if not is_out_of_memory(error):
            raise self.failed(error) from None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        left = tuple(s for s in sizes if s < size)
        if not left:
            raise EngineError(
                f"the memory of {self._device} does not hold a batch of {size} frames, the smallest configured; lower lipsync.musetalk.batch_sizes, "
                "raise lipsync.musetalk.memory_fraction, or run fewer replicas on the card"
            ) from None
        logger.warning("out of memory with a batch of %d frames; trying %d", size, left[-1])
        return left

    def failed(self, error: BaseException, doing: str = "drawing") -> EngineError:
        """An error of the device as ours. A fault of CUDA outlives the call that met it, so the replica is done for."""
        if is_out_of_memory(error):
            return EngineError(f"out of memory on {self._device} while {doing}; run fewer replicas on it, or lower lipsync.musetalk.batch_sizes")
        try:
            probe(self._device)
        except DeviceLostError as lost:
            self._lost = str(lost)
            return lost
        return EngineError(f"{doing} failed: {str(error).splitlines()[0] if str(error) else type(error).__name__}")

    def _launch(self, size: int, latents: Tensor, audio: NDArray[Any]) -> Callable[[], NDArray[Any]]:
        """Start a batch; the returned call waits for it and gives crops (at least as many as frames), valid until the next but one launch."""
        if self._device.type == "cpu":
            filled = size - len(latents)
            sound = torch.from_numpy(audio)
            if filled:
                latents = torch.cat([latents, latents[:1].expand(filled, -1, -1, -1)])
                sound = torch.cat([sound, sound[:1].expand(filled, -1, -1)])
            drawn = self._call(latents.to(self._dtype, memory_format=torch.channels_last), sound).numpy()
            return lambda: drawn
        return self._launch_on_card(self._batches[size], latents, audio)

    def _launch_on_card(self, batch: _Batch, latents: Tensor, audio: NDArray[Any]) -> Callable[[], NDArray[Any]]:
        count, host = len(audio), batch.hosts[batch.turn]
        batch.turn ^= 1
        host.done.synchronize()
        host.audio[:count].copy_(torch.from_numpy(audio))
        latents.record_stream(self._compute)
        self._compute.wait_stream(torch.cuda.current_stream(self._device))  # where the latents were gathered
        with torch.cuda.stream(self._compute):
            batch.audio[:count].copy_(host.audio[:count], non_blocking=True)
            batch.latents[:count].copy_(latents)
            if batch.taken is not None:
                self._compute.wait_event(batch.taken)
            if batch.graph is not None:
                batch.graph.replay()
            else:
                batch.crops.copy_(self._call(batch.latents, batch.audio))
            drawn = self._compute.record_event()
        with torch.cuda.stream(self._copy):
            self._copy.wait_event(drawn)
            host.crops[:count].copy_(batch.crops[:count], non_blocking=True)
            host.done.record(self._copy)
        batch.taken = host.done

        def arrived() -> NDArray[Any]:
            host.done.synchronize()
            return host.crops.numpy()

        return arrived

    def _forward(self, latents: Tensor, audio: Tensor) -> Tensor:
        """latents (n, 8, 32, 32), audio (n, 50, 384) to I420 uint8 (n, 384, 256), all on the device."""
        return to_i420(to_bytes(self._decode(self._unet(latents, self._unet.keys_values(audio)))))

    def _prepare(self, mode: Compile) -> None:
        """Warm up every size in the first way that works, so that no caller pays for it."""
        cuda = self._device.type == "cuda"
        if mode == "graphs" and not cuda:
            raise EngineUnavailableError("lipsync.musetalk.compile: graphs needs CUDA; set it to auto, off or inductor")
        modes: tuple[Mode, ...] = (mode,) if mode != "auto" else AUTO if cuda else ("off",)
        ways = [(named, kernels) for named in modes for kernels in KERNELS[named]]
        for way in ways:
            self.mode, self.kernels = way
            try:
                self._call = self._made_with(self.kernels)
                self._warm()
                return
            except EngineError:
                raise
            except Exception as error:  # compilers fail in their own ways: no Triton, no C compiler, a kernel that they cannot make
                said = next((line for line in reversed(str(error).splitlines()) if line.strip()), "")
                reason = f"{type(error).__name__}: {said}"[:200]
                if mode == "inductor":
                    raise EngineUnavailableError(
                        f"lipsync.musetalk.compile: inductor cannot be met ({reason}). It needs Triton on CUDA and a C++ compiler on a CPU; "
                        "set it to auto or graphs"
                    ) from error
                if way == ways[-1]:
                    raise EngineUnavailableError(f"MuseTalk cannot be warmed up on {self._device}: {reason}") from error
                missed = f"{self.mode} with kernels of {self.kernels} is not available: {reason}"
                logger.warning("%s; trying the next way", missed)
                self.note = "; ".join(filter(None, (self.note, missed)))
                self._batches.clear()

    def _made_with(self, kernels: Kernels) -> Callable[[Tensor, Tensor], Tensor]:
        if kernels == "the compiler":
            return _compiled_once(self._forward)
        if kernels == "our own":
            os.environ.setdefault("TRITON_CACHE_DIR", str(cache_dir() / "kernels"))
            from musetalk.neural.fused import fuse  # imports Triton, which comes with PyTorch for CUDA only

            return fuse(self._unet, self._decode)
        return self._forward

    def _warm(self) -> None:
        """Largest first, so that the smaller graphs find their memory in the larger one's."""
        fitting = []
        with self._lock, torch.inference_mode(), planned(self._device):
            for size in reversed(self.sizes):
                try:
                    self._warm_size(size)
                    fitting.append(size)
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                    self._batches.pop(size, None)
                    logger.warning("a batch of %d frames does not fit into the memory of %s and is not used", size, self._device)
                if self._device.type == "cuda":
                    torch.cuda.synchronize(self._device)
                    torch.cuda.empty_cache()
        if not fitting:
            raise EngineUnavailableError(
                f"the memory of {self._device} does not hold a batch of {self.sizes[0]} frames; lower lipsync.musetalk.batch_sizes or raise "
                "lipsync.musetalk.memory_fraction"
            )
        self.sizes = tuple(sorted(fitting))

    def _warm_size(self, size: int) -> None:
        latents = torch.zeros(size, self._unet.config.in_channels, LATENT_SIDE, LATENT_SIDE, device=self._device, dtype=self._dtype)
        latents = latents.to(memory_format=torch.channels_last)
        audio = torch.zeros(size, AUDIO_TOKENS, self._unet.config.cross_attention_dim, dtype=torch.float16, device=self._device)
        if self._device.type == "cpu":
            if self.fixed:
                self._call(latents, audio)
            return
        hosts = tuple(
            _Host(
                torch.zeros(audio.shape, dtype=audio.dtype).pin_memory(),
                torch.zeros(size, *CROP_SHAPE, dtype=torch.uint8).pin_memory(),
                torch.cuda.Event(),  # type: ignore[no-untyped-call]
            )
            for _ in range(2)
        )
        crops = torch.zeros(size, *CROP_SHAPE, dtype=torch.uint8, device=self._device)
        batch = self._batches[size] = _Batch(latents, audio, crops, (hosts[0], hosts[1]))
        self._compute.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._compute):
            for _ in range(WARM_UP_CALLS):
                batch.crops.copy_(self._call(batch.latents, batch.audio))
        self._compute.synchronize()
        if self.mode == "off":
            return
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._compute, capture_error_mode="thread_local"):
            batch.crops.copy_(self._call(batch.latents, batch.audio))
        batch.graph = graph
