"""Latents and sound to finished crops, in batches of a few fixed sizes: what a GPU is fast at.

On CUDA each size is recorded once as a graph (of fused kernels, the compiler's or ours) and replayed; inputs and crops pass through pinned
memory, crops on a stream of their own, so that a batch is copied while the next one is drawn, be it of the same call or of another thread's. On a
CPU the same networks are simply called.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.models import cache_dir
from museserve.errors import DeviceLostError, EngineError, EngineUnavailableError
from museserve.messages import ByteArray
from musetalk.neural.device import is_out_of_memory, planned, probe
from musetalk.neural.streams import CudaStream, Mark, Stream
from musetalk.neural.unet import AUDIO_TOKENS, UNet
from musetalk.neural.vae import FACE_SIDE, LATENT_SIDE, to_bytes
from musetalk.neural.ways import LEAST_PSNR_DB, TRIES, Decoder, fastest, psnr_db
from musetalk.neural.yuv import to_i420

logger = logging.getLogger(__name__)

Mode = Literal["off", "graphs", "inductor"]
Compile = Mode | Literal["auto"]
Kernels = Literal["the compiler", "our own", "PyTorch"]
AUTO: tuple[Mode, ...] = ("graphs", "inductor")  # on a card: the first that can be had
KERNELS: dict[Mode, tuple[Kernels, ...]] = {"inductor": ("the compiler",), "graphs": ("our own", "PyTorch"), "off": ("PyTorch",)}  # likewise
CROP_SHAPE = (FACE_SIDE * 3 // 2, FACE_SIDE)
LAUNCH_FRAMES = 1.5  # what starting a batch costs, and small ones waste, in frames
IN_FLIGHT = 2  # batches of a size: while one is drawn, the crops of the other are copied and taken, and the next is launched
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
    """Memory of one batch in flight, lent to one call from its launch until its crops were taken.

    audio, crops: pinned, on the host. drawn: crops on the card, where they wait for their copy while the next batch is drawn.
    done: the card neither reads nor writes any of it any more; None before the first use.
    """

    audio: Tensor
    crops: Tensor
    drawn: Tensor
    done: Mark | None = None


@dataclass
class _Batch:
    """One fixed size on the card: where a recorded graph reads and writes. Filled under the renderer's lock."""

    latents: Tensor
    audio: Tensor
    crops: Tensor
    free: queue.SimpleQueue[_Host]
    way: dict[str, Any]  # in which the decoder does its work
    graph: torch.cuda.CUDAGraph | None = None


@dataclass
class _Flight:
    """A batch that was launched: frames `first` to `first + count` of a call."""

    first: int
    count: int
    arrived: Callable[[], NDArray[Any]]  # waits; at least `count` crops, valid until `end`
    end: Callable[[], None]


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
    """Thread-safe: batches are launched in turns, and waited for side by side, so that a device finds the next one ready.

    Args:
        unet, decode: the networks, on `device` in `dtype`; `decode` takes latents (n, 4, 32, 32) to pictures in -1..1.
        sizes: ascending. Those that do not fit into memory are dropped, with a warning; `sizes` tells which are left.
        streams: what draws and what copies; None = two of the card, on a CPU none: the networks are called, and nothing overlaps.
        way: how the decoder does its work, see `ways.Decoder`; None = for each size in the way that is the fastest here, where there are streams
            and nothing is compiled. `ways` tells which.
    Raises:
        EngineUnavailableError: not even the smallest size fits; or `mode` was asked for by name and the compiler is not there.
    """

    def __init__(
        self,
        unet: UNet,
        decode: Callable[[Tensor], Tensor],
        device: torch.device,
        dtype: torch.dtype,
        sizes: tuple[int, ...],
        mode: Compile = "auto",
        streams: tuple[Stream, Stream] | None = None,
        way: Mapping[str, Any] | None = None,
    ) -> None:
        self._unet, self._decode, self._device, self._dtype = unet, decode, device, dtype
        self._lock = threading.Lock()  # of whatever launches
        self._lost: str | None = None
        self._call: Callable[[Tensor, Tensor], Tensor] = self._forward
        self._batches: dict[int, _Batch] = {}
        self.mode: Mode = "off"
        self.kernels: Kernels = "PyTorch"
        self.sizes, self.note = sizes, ""
        self._way = way
        if device.type == "cuda":
            streams = streams or (CudaStream(device), CudaStream(device))
            self._pool = torch.cuda.graph_pool_handle()
        self._streams = streams
        self._choose(way or {})
        self._prepare(mode)

    @property
    def fixed(self) -> bool:
        """Whether numbers of frames are filled up to one of `sizes`; a CPU that compiles nothing draws as many as there are."""
        return self._streams is not None or self.mode != "off"

    @property
    def ways(self) -> dict[int, dict[str, Any]]:
        """How the decoder does its work in batches of each size, where it has a choice and streams."""
        return {size: self._batches[size].way for size in self.sizes if size in self._batches and self._batches[size].way}

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
        flying: deque[_Flight] = deque()
        try:
            with torch.inference_mode():
                self._draw_into(crops, latents, audio, flying)
        finally:
            for flight in flying:  # of a call that gives up: what it has in flight is nobody else's trouble
                with suppress(RuntimeError):
                    flight.arrived()
                flight.end()
        return crops

    def device_ms(self, size: int) -> float:
        """What a batch of one of `sizes` takes the device alone, without copies: what `draw` takes longer is lost around it. Needs streams."""
        with self._lock, torch.inference_mode():
            return self._took_ms(self._batches[size])

    def check(self) -> None:
        """Raises DeviceLostError when the card is gone."""
        self.check_lost()
        probe(self._device)

    def check_lost(self) -> None:
        if self._lost is not None:
            raise DeviceLostError(self._lost)

    def _draw_into(self, crops: ByteArray, latents: Tensor, audio: NDArray[Any], flying: deque[_Flight]) -> None:
        """flying: what was launched and has not landed; empty at the end, unless something was raised."""
        sizes, first = self.sizes, 0

        def land() -> None:
            flight = flying[0]
            try:
                crops[flight.first : flight.first + flight.count] = flight.arrived()[: flight.count]
            except RuntimeError as error:
                raise self.failed(error) from None
            flying.popleft().end()

        while first < len(audio):
            size = plan(len(audio) - first, sizes)[0] if self.fixed else min(len(audio) - first, sizes[-1])
            count = min(size, len(audio) - first)
            part = slice(first, first + count)
            try:
                heard = np.ascontiguousarray(audio[part])
                host = self._host(size, wait=not flying)
                if host is None and self._streams is not None:
                    land()  # gives one back. Whoever waited for another's while holding its own might wait for ever.
                    continue
                flying.append(self._launch(first, size, host, latents[part], heard))
                first += count
            except (RuntimeError, MemoryError) as error:
                sizes = self._smaller(sizes, size, error)
        while flying:
            land()

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

    def _host(self, size: int, *, wait: bool) -> _Host | None:
        """Memory for a batch in flight; None without streams, and where none is free just now and nobody waits."""
        if self._streams is None:
            return None
        try:
            return self._batches[size].free.get(block=wait)
        except queue.Empty:
            return None

    def _launch(self, first: int, size: int, host: _Host | None, latents: Tensor, audio: NDArray[Any]) -> _Flight:
        """Start a batch as soon as nobody else starts one. `host` is given back when the flight ends, or is not to be."""
        try:
            if host is not None:
                if host.done is not None:
                    with suppress(RuntimeError):  # which its last call has met
                        host.done.synchronize()  # at once, unless that call gave up before it had landed
                host.audio[: len(audio)].copy_(torch.from_numpy(audio))
            with self._lock:
                self.check_lost()
                if host is not None:
                    return self._launch_on_card(first, self._batches[size], host, latents)
                drawn = self._called(size, latents, audio)
        except BaseException:
            if host is not None:
                self._batches[size].free.put(host)
            raise
        return _Flight(first, len(audio), lambda: drawn, lambda: None)

    def _called(self, size: int, latents: Tensor, audio: NDArray[Any]) -> NDArray[Any]:
        """On a CPU: crops of at least as many frames."""
        sound, filled = torch.from_numpy(audio), size - len(latents)
        if filled:
            latents = torch.cat([latents, latents[:1].expand(filled, -1, -1, -1)])
            sound = torch.cat([sound, sound[:1].expand(filled, -1, -1)])
        return self._call(latents.to(self._dtype, memory_format=torch.channels_last), sound).numpy()

    def _launch_on_card(self, first: int, batch: _Batch, host: _Host, latents: Tensor) -> _Flight:
        """host: with the sound of as many frames as there are latents."""
        assert self._streams is not None
        count, (compute, copy) = len(latents), self._streams

        def draw() -> None:
            batch.audio[:count].copy_(host.audio[:count], non_blocking=True)
            batch.latents[:count].copy_(latents)
            self._draw_batch(batch)
            host.drawn.copy_(batch.crops)

        try:
            if isinstance(compute, CudaStream):
                latents.record_stream(compute.stream)
                compute.stream.wait_stream(torch.cuda.current_stream(self._device))  # where the latents were gathered
            compute.put(draw)
            copy.after(compute.mark())
            copy.put(lambda: host.crops[:count].copy_(host.drawn[:count], non_blocking=True))
            host.done = done = copy.mark()
        except BaseException:
            with suppress(RuntimeError):
                host.done = compute.mark()  # the card may still read what was put before
            raise

        def arrived() -> NDArray[Any]:
            done.synchronize()
            return host.crops.numpy()

        return _Flight(first, count, arrived, partial(batch.free.put, host))

    def _draw_batch(self, batch: _Batch) -> None:
        if batch.graph is not None:
            batch.graph.replay()
        else:
            self._choose(batch.way)
            batch.crops.copy_(self._call(batch.latents, batch.audio))

    def _choose(self, way: Mapping[str, Any]) -> None:
        if isinstance(self._decode, Decoder):
            self._decode.choose(**way)

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
        noise, config = torch.Generator().manual_seed(size), self._unet.config
        latents = torch.randn(size, config.in_channels, LATENT_SIDE, LATENT_SIDE, generator=noise)
        latents = latents.to(self._device, self._dtype, memory_format=torch.channels_last)
        audio = torch.randn(size, AUDIO_TOKENS, config.cross_attention_dim, generator=noise).to(self._device, torch.float16)
        if self._streams is None:
            if self.fixed:
                self._call(latents, audio)
            return
        crops = torch.zeros(size, *CROP_SHAPE, dtype=torch.uint8, device=self._device)
        batch = self._batches[size] = _Batch(latents, audio, crops, queue.SimpleQueue(), dict(self._way or {}))
        for _ in range(IN_FLIGHT):
            batch.free.put(_Host(self._pinned(audio), self._pinned(crops), crops.clone()))
        compute, _ = self._streams
        if isinstance(compute, CudaStream):
            compute.stream.wait_stream(torch.cuda.current_stream(self._device))
        self._record(batch)
        if isinstance(self._decode, Decoder) and self.mode != "inductor" and self._way is None:
            self._record_fastest(batch, self._decode)

    def _record(self, batch: _Batch) -> None:
        """Let the libraries choose, draw `batch.crops`, and record how."""
        assert self._streams is not None
        compute, batch.graph = self._streams[0], None
        for _ in range(WARM_UP_CALLS):
            compute.put(lambda: self._draw_batch(batch))
        compute.mark().synchronize()
        if isinstance(compute, CudaStream) and self.mode != "off":
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=compute.stream, capture_error_mode="thread_local"):
                self._draw_batch(batch)
            batch.graph = graph

    def _record_fastest(self, batch: _Batch, decoder: Decoder) -> None:
        """Try the decoder's ways on what the batch holds, which was recorded in the plain one, and record the best."""
        want, recorded = batch.crops.clone(), list[tuple[dict[str, Any], Any]]()

        def took_ms(way: dict[str, Any]) -> float | None:
            plain, batch.way = not recorded, way
            try:
                if not plain:
                    self._record(batch)
                recorded.append((way, batch.graph))
                took = self._took_ms(batch)
            except RuntimeError as error:
                if plain:
                    raise
                logger.info("decoding with %s cannot be had: %s", way, str(error).splitlines()[0] if str(error) else type(error).__name__)
                return None
            apart_db = psnr_db(batch.crops, want)
            logger.info("a batch of %d takes %.2f ms with %s; %.1f dB", len(want), took, way, apart_db)
            return took if apart_db >= LEAST_PSNR_DB else None

        best = fastest(decoder.options(), took_ms)
        batch.way, batch.graph = next(one for one in recorded if one[0] == best)

    def _took_ms(self, batch: _Batch) -> float:
        """To draw a batch that was recorded, at best."""
        assert self._streams is not None
        compute, best = self._streams[0], float("inf")
        for _ in range(TRIES):
            began = time.perf_counter()
            compute.put(lambda: self._draw_batch(batch))
            compute.mark().synchronize()
            best = min(best, time.perf_counter() - began)
        return best * 1e3

    def _pinned(self, like: Tensor) -> Tensor:
        """Memory on the host, as copies need it that do not hold it up."""
        return torch.zeros(like.shape, dtype=like.dtype, pin_memory=self._device.type == "cuda")
