"""Lip-sync frames, segments of all live utterances batched together. The engines live in `musetalk`."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from opentelemetry.trace import SpanContext
from ray import serve

from configs.models import AppConfig, BatchConfig, CapacityConfig
from deployments import cores, logs, tracing
from deployments.admission import Board, Note, Posted
from deployments.live import LiveConfig
from deployments.metrics import LipSyncMetrics
from deployments.policy import STREAMS
from museserve.errors import DeviceLostError
from museserve.messages import CallIds, Conditioning, EngineInfo, RenderedCrops, RenderRequest, SpeechWindow
from museserve.runtime import process
from museserve.runtime.deadline_executor import DeadlineExecutor
from museserve.runtime.deadline_semaphore import DeadlineSemaphore
from musetalk.avatars.builtin import BUILTIN
from musetalk.avatars.format import Avatar
from musetalk.avatars.stores import shipped_store
from musetalk.engine import LipSyncEngine
from musetalk.factory import LoadEngine, load_engine, ready_engine, streams_in_time, warm, warm_listening
from musetalk.serial import Drawn, SerialEngine

logger = logging.getLogger("ray.serve")

LISTENERS = 2  # threads that listen beside batches: one prepares its kernels while those of the other run
NOBODY = CallIds()
HELD_S = 1.0  # a replica that fails at once would look idle, and be sent everything


class LipSync:
    """A plain class: `graph.py` makes it a deployment. Requests carry everything, so any replica may answer any segment."""

    def __init__(self, config: AppConfig, load: LoadEngine = load_engine) -> None:
        began = time.monotonic()
        logs.join_serve()
        tracing.join_serve()
        cores.keep_to_own()
        process.tune_for_latency()
        self._live_config = LiveConfig("lipsync", config)
        store = shipped_store(config, config.lipsync.avatar_cache_bytes, use=Avatar.open_engines)
        store.watch()
        self._engine = ready_engine(config, store, load)
        warm(self._engine, store, BUILTIN)
        self._metrics = LipSyncMetrics()
        self._calls: BatchingEngine | SerialEngine
        if self._engine.info.batches:
            self._calls = BatchingEngine(self._engine, config.lipsync.batch, self._metrics.drawn)
        else:
            self._calls = SerialEngine(self._engine, self._metrics.drawn)
        self._measured = streams_in_time(self._engine, store, BUILTIN, config.lipsync.batch.max_frames)
        self._board = Board(self._streams(config.capacity), time.monotonic() - began)
        logger.info("lip-sync ready: %s; measured: %.1f streams", self._engine.info, self._measured)

    def reconfigure(self, user_config: Any) -> None:
        """What Serve calls with a new `user_config`. Raises ConfigError at the start alone."""
        if (config := self._live_config.changed(user_config)) is not None:
            self._board.streams = self._streams(config.capacity)
            if isinstance(self._calls, BatchingEngine):
                self._calls.configure(config.lipsync.batch)

    def _streams(self, capacity: CapacityConfig) -> float:
        return capacity.lipsync_streams or self._measured * capacity.measured_part

    async def post(self, note: Note) -> Posted:
        """What a Mux replica has; what all have, and how much is drawn here."""
        return self._board.post(note)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve shows the autoscaling policy."""
        return {STREAMS: self._board.streams}

    async def listen(self, window: SpeechWindow, ids: CallIds = NOBODY) -> Conditioning:
        logs.carry(ids)
        began = time.perf_counter()
        with tracing.span("listen", engine=self._engine.info.name, frames=window.n_frames):
            async with _held_when_lost():
                heard = await self._calls.listen(window)
        took_ms = (time.perf_counter() - began) * 1e3
        self._metrics.listen_ms.observe(took_ms)
        logger.debug("heard %d frames in %.1f ms", window.n_frames, took_ms)
        return heard

    async def render(self, request: RenderRequest, ids: CallIds = NOBODY) -> RenderedCrops:
        logs.carry(ids)
        began = time.perf_counter()
        with tracing.span("render", engine=self._engine.info.name, frames=request.n_frames) as span:
            async with _held_when_lost():
                rendered = await self._calls.render(request)
            queue_ms = (time.perf_counter() - began) * 1e3 - rendered.render_ms
            tracing.note_on(span, queue_ms=queue_ms, batch_frames=rendered.batch_frames)
        logger.debug("drew %d frames in %.1f ms, after %.1f ms", request.n_frames, rendered.render_ms, queue_ms)
        return RenderedCrops(rendered.crops, rendered.render_ms, queue_ms, rendered.batch_frames)

    async def info(self) -> EngineInfo:
        return self._engine.info

    def check_health(self) -> None:
        """Raise when the device is gone; Serve then replaces this replica."""
        self._engine.check()


@dataclass(frozen=True)
class Asked:
    """A request in the queue of a batch: for whom, in which trace, since when."""

    request: RenderRequest
    ids: CallIds
    span: SpanContext | None
    at: float

    @classmethod
    def by_this(cls, request: RenderRequest) -> Asked:
        """By the call that is worked on."""
        return cls(request, logs.carried(), tracing.here(), time.perf_counter())


class BatchingEngine:
    """For an engine that draws many frames faster by one call than one after the other: `@serve.batch`, ordered by
    who runs dry first.

    drawn: told of each batch how many milliseconds it took, and its frames.
    """

    def __init__(self, engine: LipSyncEngine, config: BatchConfig, drawn: Drawn) -> None:
        self._engine, self._drawn = engine, drawn
        self._ended = 0.0  # when the last batch had been drawn
        self._listeners = DeadlineExecutor([math.inf] * LISTENERS)
        self._warm_listeners()
        most, wait_s = config.max_frames, config.wait_s
        # A processor has nothing to gain from a batch that waits beside the one that it draws.
        self._at_once = config.at_once if self._engine.info.device != "cpu" else 1
        batched = serve.batch(max_batch_size=most, batch_wait_timeout_s=wait_s, max_concurrent_batches=self._at_once, batch_size_fn=count_frames)
        self._batched: Any = batched(self.render_batch)
        self._batched_first: Any = batched(self.render_first_batch)
        self._room = self._room_for(config)

    def configure(self, config: BatchConfig) -> None:
        """For the batches that are formed from now on."""
        for batched in (self._batched, self._batched_first):
            batched.set_max_batch_size(config.max_frames)
            batched.set_batch_wait_timeout_s(config.wait_s)
        self._room = self._room_for(config)  # who is in the old one leaves it

    def _room_for(self, config: BatchConfig) -> DeadlineSemaphore:
        # A card finds the next batch waiting; to a processor nothing is gained by that, and whoever comes late would wait
        # behind it.
        return DeadlineSemaphore(config.max_frames * (1 if self._engine.info.device == "cpu" else max(2, self._at_once)))

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
            first: RenderedCrops = await self._batched_first(Asked.by_this(request))
            return first
        async with self._room.held(request.due_s, request.n_frames):
            rendered: RenderedCrops = await self._batched(Asked.by_this(request))
        return rendered

    async def render_batch(self, asked: list[Asked]) -> list[RenderedCrops]:
        """One result a request, same order. Drawing runs off the event loop."""
        requests, n = [one.request for one in asked], count_frames(asked)
        logs.carry(logs.of_all(one.ids for one in asked))
        began = time.perf_counter()
        queue_ms = [(began - one.at) * 1e3 for one in asked]
        with tracing.batch("batch", [one.span for one in asked], frames=n, queue_ms=queue_ms):
            crops = await asyncio.to_thread(self._engine.render, requests)
        ended = time.perf_counter()
        # Of two that are on a card at once the second is drawn when the first has been: until then it waits.
        took_ms = (ended - max(began, self._ended)) * 1e3
        self._ended = ended
        self._drawn(took_ms, n)
        shares = [took_ms * request.n_frames / n for request in requests]
        return [RenderedCrops(c, ms, batch_frames=n) for c, ms in zip(crops, shares, strict=True)]

    async def render_first_batch(self, asked: list[Asked]) -> list[RenderedCrops]:
        """The same for first pictures, which do not queue behind what was sent earlier and is due later."""
        return await self.render_batch(asked)


@asynccontextmanager
async def _held_when_lost() -> AsyncIterator[None]:
    try:
        yield
    except DeviceLostError:
        await asyncio.sleep(HELD_S)
        raise


def count_frames(asked: list[Asked]) -> int:
    return sum(one.request.n_frames for one in asked)
