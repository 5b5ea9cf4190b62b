"""Lip-sync frames, segments of all live utterances batched together. The engines live in `musetalk`."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from ray import serve

from configs.models import AppConfig
from deployments.metrics import LipSyncMetrics
from museserve.errors import DeviceLostError
from museserve.messages import Conditioning, EngineInfo, RenderedCrops, RenderRequest, SpeechWindow
from museserve.runtime import process
from museserve.runtime.deadline_executor import DeadlineExecutor
from museserve.runtime.deadline_semaphore import DeadlineSemaphore
from musetalk.avatars.builtin import BUILTIN
from musetalk.avatars.store import AvatarStore
from musetalk.engine import LipSyncEngine
from musetalk.factory import MUSETALK, load_engine, prepare_shipped, shipped_store, warm, warm_listening
from musetalk.serial import SerialEngine

logger = logging.getLogger("ray.serve")

LoadEngine = Callable[[AppConfig, AvatarStore], LipSyncEngine]
EARS = 2  # threads that hear for MuseTalk: one prepares its kernels while those of the other run
HELD_S = 1.0  # a replica that fails at once would look idle, and be sent everything


class LipSync:
    """A plain class: `graph.py` makes it a deployment. Requests carry everything, so any replica may answer any segment."""

    def __init__(self, config: AppConfig, load: LoadEngine = load_engine) -> None:
        process.tune_for_latency()
        store = shipped_store(config, config.lipsync.avatar_cache_bytes)
        self._engine = load(config, store)
        if self._engine.info.name == MUSETALK:
            prepare_shipped(config, store)
        warm(self._engine, store, BUILTIN)
        self._metrics = LipSyncMetrics()
        self._line = SerialEngine(self._engine) if self._engine.info.name != MUSETALK else None
        self._ears = DeadlineExecutor([math.inf] * EARS)
        if self._line is None:
            self._warm_ears()
        batch = config.lipsync.batch
        batched = serve.batch(max_batch_size=batch.max_frames, batch_wait_timeout_s=batch.wait_s, batch_size_fn=count_frames)
        self._batched, self._batched_first = batched(self.render_batch), batched(self.render_first_batch)
        # A graphics card finds the next batch waiting; a processor has nothing to gain from that, and whoever comes late would wait behind it.
        self._turns = DeadlineSemaphore(batch.max_frames * (1 if self._engine.info.device == "cpu" else 2))
        logger.info("lip-sync ready: %s", self._engine.info)

    def _warm_ears(self) -> None:
        """Each of the threads once: its first kernels take the card a third of a second, in which nobody's pictures would be drawn."""
        together = threading.Barrier(EARS)

        def hear() -> None:
            together.wait()
            warm_listening(self._engine)

        for heard in [self._ears.submit(hear) for _ in range(EARS)]:
            heard.result()

    async def listen(self, speech: SpeechWindow) -> Conditioning:
        began = time.perf_counter()
        async with _held_when_lost():
            heard = await (self._line.listen(speech) if self._line else self._ears.run(speech.due_s, partial(self._engine.listen, speech)))
        self._metrics.listen_ms.observe((time.perf_counter() - began) * 1e3)
        return heard

    async def render(self, request: RenderRequest) -> RenderedCrops:
        asked = time.perf_counter()
        async with _held_when_lost():
            if self._line:
                rendered: RenderedCrops = await self._line.render(request)
                self._observe(rendered.render_ms, request.n_frames)
            elif request.first:
                rendered = await self._batched_first(request)
            else:
                async with self._turns.turn(request.due_s, request.n_frames):
                    rendered = await self._batched(request)
        waited = (time.perf_counter() - asked) * 1e3 - rendered.render_ms
        return RenderedCrops(rendered.crops, rendered.render_ms, waited, rendered.batch_frames)

    async def render_batch(self, requests: list[RenderRequest]) -> list[RenderedCrops]:
        """One result a request, same order. Drawing runs off the event loop."""
        began = time.perf_counter()
        crops = await asyncio.to_thread(self._engine.render, requests)
        took_ms = (time.perf_counter() - began) * 1e3
        frames = count_frames(requests)
        self._observe(took_ms, frames)
        return [RenderedCrops(c, render_ms=took_ms * r.n_frames / frames, batch_frames=frames) for r, c in zip(requests, crops, strict=True)]

    async def render_first_batch(self, requests: list[RenderRequest]) -> list[RenderedCrops]:
        """The same for first pictures, which do not queue behind what was asked for earlier and is due later."""
        return await self.render_batch(requests)

    def _observe(self, took_ms: float, frames: int) -> None:
        self._metrics.batch_frames.observe(frames)
        self._metrics.render_frame_ms.observe(took_ms / frames)

    async def info(self) -> EngineInfo:
        return self._engine.info

    def check_health(self) -> None:
        """Raise when the device is gone; Serve then replaces this replica."""
        self._engine.check()


@asynccontextmanager
async def _held_when_lost() -> AsyncIterator[None]:
    try:
        yield
    except DeviceLostError:
        await asyncio.sleep(HELD_S)
        raise


def count_frames(requests: list[RenderRequest]) -> int:
    return sum(r.n_frames for r in requests)
