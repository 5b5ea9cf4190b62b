"""One thread for an engine that gains nothing from batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from museserve.messages import ByteArray, Conditioning, RenderedCrops, RenderRequest, SpeechWindow
from museserve.runtime.deadline_executor import DeadlineExecutor
from musetalk.engine import LipSyncEngine

Drawn = Callable[[float, int], None]
FRAMES_AT_ONCE = 2
FIRST_AHEAD_S = 0.1  # first pictures go before what a viewer needs at the same moment, but not before what he should have had already


class SerialEngine:
    """For an engine that gains nothing from batches: one thread hears and draws for everybody, whoever runs dry first before all others.

    Two threads would be slower than one, because the animator's steps are short and each of them needs Python. A piece is drawn two frames
    at a time, so that a first picture waits for no more than those. drawn: told of each request how many milliseconds
    it took, and its frames.
    """

    def __init__(self, engine: LipSyncEngine, drawn: Drawn = lambda took_ms, frames: None) -> None:
        self._engine, self._drawn, self._thread = engine, drawn, DeadlineExecutor()

    async def listen(self, window: SpeechWindow) -> Conditioning:
        return await self._thread.run(window.due_s, partial(self._engine.listen, window))

    async def render(self, request: RenderRequest) -> RenderedCrops:
        due_s = request.due_s - (FIRST_AHEAD_S if request.first else 0.0)
        parts = [slice(at, at + FRAMES_AT_ONCE) for at in range(0, request.n_frames, FRAMES_AT_ONCE)]
        jobs = [replace(request, background=request.background[part], rows=request.rows[part]) for part in parts]
        drawn = await asyncio.gather(*(self._thread.run(due_s, partial(self._draw, job)) for job in jobs))
        took_ms = sum(ms for _, ms in drawn)
        self._drawn(took_ms, request.n_frames)
        return RenderedCrops(np.concatenate([crops for crops, _ in drawn]), took_ms, batch_frames=request.n_frames)

    def _draw(self, request: RenderRequest) -> tuple[ByteArray, float]:
        began = time.perf_counter()
        (crops,) = self._engine.render([request])
        return crops, (time.perf_counter() - began) * 1e3
