"""Lip-sync frames, segments of all live utterances batched together. The engines live in `musetalk`."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from ray import serve

from configs.models import AppConfig, BatchConfig
from deployments import logs
from deployments.metrics import LipSyncMetrics
from museserve.errors import DeviceLostError
from museserve.messages import Conditioning, EngineInfo, RenderedCrops, RenderRequest, SpeechWindow
from museserve.runtime import process
from museserve.runtime.deadline_executor import DeadlineExecutor
from museserve.runtime.deadline_semaphore import DeadlineSemaphore
from musetalk.avatars.builtin import BUILTIN
from musetalk.avatars.format import Avatar
from musetalk.avatars.stores import shipped_store
from musetalk.engine import LipSyncEngine
from musetalk.factory import LoadEngine, load_engine, ready_engine, warm, warm_listening
from musetalk.serial import Drawn, SerialEngine

logger = logging.getLogger("ray.serve")

LISTENERS = 2  # threads that listen beside batches: one prepares its kernels while those of the other run
HELD_S = 1.0  # a replica that fails at once would look idle, and be sent everything


class LipSync:
    """A plain class: `graph.py` makes it a deployment. Requests carry everything, so any replica may answer any segment."""

    def __init__(self, config: AppConfig, load: LoadEngine = load_engine) -> None:
        logs.join_serve()
        process.tune_for_latency()
        store = shipped_store(config, config.lipsync.avatar_cache_bytes, use=Avatar.open_engines)
        self._engine = ready_engine(config, store, load)
        warm(self._engine, store, BUILTIN)
        self._metrics = LipSyncMetrics()
        self._calls: BatchingEngine | SerialEngine
        if self._engine.info.batches:
            self._calls = BatchingEngine(self._engine, config.lipsync.batch, self._metrics.drawn)
        else:
            self._calls = SerialEngine(self._engine, self._metrics.drawn)
        logger.info("lip-sync ready: %s", self._engine.info)

    async def listen(self, window: SpeechWindow) -> Conditioning:
        began = time.perf_counter()
        async with _held_when_lost():
            heard = await self._calls.listen(window)
        self._metrics.listen_ms.observe((time.perf_counter() - began) * 1e3)
        return heard

    async def render(self, request: RenderRequest) -> RenderedCrops:
        began = time.perf_counter()
        async with _held_when_lost():
            rendered = await self._calls.render(request)
        queue_ms = (time.perf_counter() - began) * 1e3 - rendered.render_ms
        return RenderedCrops(rendered.crops, rendered.render_ms, queue_ms, rendered.batch_frames)

    async def info(self) -> EngineInfo:
        return self._engine.info

    def check_health(self) -> None:
        """Raise when the device is gone; Serve then replaces this replica."""
        self._engine.check()


class BatchingEngine:
    """For an engine that draws many frames faster by one call than one after the other: `@serve.batch`, ordered by
    who runs dry first.

    drawn: told of each batch how many milliseconds it took, and its frames.
    """

    def __init__(self, engine: LipSyncEngine, config: BatchConfig, drawn: Drawn) -> None:
        self._engine, self._drawn = engine, drawn
        self._listeners = DeadlineExecutor([math.inf] * LISTENERS)
        self._warm_listeners()
        most, wait_s = config.max_frames, config.wait_s
        batched = serve.batch(max_batch_size=most, batch_wait_timeout_s=wait_s, batch_size_fn=count_frames)
        self._batched, self._batched_first = batched(self.render_batch), batched(self.render_first_batch)
        # A card finds the next batch waiting; a processor has nothing to gain from that, and whoever comes late would
        # wait behind it.
        self._room = DeadlineSemaphore(config.max_frames * (1 if engine.info.device == "cpu" else 2))

    def _warm_listeners(self) -> None:
        """Each of the threads once: its first kernels take the card a third of a second, in which nobody's pictures would be drawn."""
        together = threading.Barrier(LISTENERS)

        def listen() -> None:
            together.wait()
            warm_listening(self._engine)

        for listened in [self._listeners.submit(listen) for _ in range(LISTENERS)]:
            listened.result()

    async def listen(self, window: SpeechWindow) -> Conditioning:
        return await self._listeners.run(window.due_s, partial(self._engine.listen, window))

    async def render(self, request: RenderRequest) -> RenderedCrops:
        if request.first:
            first: RenderedCrops = await self._batched_first(request)
            return first
        async with self._room.held(request.due_s, request.n_frames):
            rendered: RenderedCrops = await self._batched(request)
        return rendered

    async def render_batch(self, requests: list[RenderRequest]) -> list[RenderedCrops]:
        """One result a request, same order. Drawing runs off the event loop."""
        began = time.perf_counter()
        crops = await asyncio.to_thread(self._engine.render, requests)
        took_ms = (time.perf_counter() - began) * 1e3
        n = count_frames(requests)
        self._drawn(took_ms, n)
        shares = [took_ms * request.n_frames / n for request in requests]
        return [RenderedCrops(c, ms, batch_frames=n) for c, ms in zip(crops, shares, strict=True)]

    async def render_first_batch(self, requests: list[RenderRequest]) -> list[RenderedCrops]:
        """The same for first pictures, which do not queue behind what was sent earlier and is due later."""
        return await self.render_batch(requests)


@asynccontextmanager
async def _held_when_lost() -> AsyncIterator[None]:
    try:
        yield
    except DeviceLostError:
        await asyncio.sleep(HELD_S)
        raise


def count_frames(requests: list[RenderRequest]) -> int:
    return sum(r.n_frames for r in requests)
