"""One thread for an engine that gains nothing from batches."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from functools import partial

import numpy as np

from museserve.messages import ByteArray, Conditioning, RenderedCrops, RenderRequest, SpeechWindow
from museserve.runtime.deadline_executor import DeadlineExecutor
from musetalk.engine import LipSyncEngine

FRAMES_AT_ONCE = 2
FIRST_AHEAD_S = 0.1  # first pictures go before what a viewer needs at the same moment, but not before what he should have had already


class SerialEngine:
    """For an engine that gains nothing from batches: one thread hears and draws for everybody, whoever runs dry first before all others.

    Two threads would be slower than one, because the animator's steps are short and each of them needs Python. A piece is drawn two frames
    at a time, so that a first picture waits for no more than those.
    """

    def __init__(self, engine: LipSyncEngine) -> None:
        self._engine, self._thread = engine, DeadlineExecutor([math.inf])

    async def listen(self, speech: SpeechWindow) -> Conditioning:
        return await self._thread.run(speech.due_s, partial(self._engine.listen, speech))

    async def render(self, request: RenderRequest) -> RenderedCrops:
        due_s = request.due_s - (FIRST_AHEAD_S if request.first else 0.0)
        parts = [slice(at, at + FRAMES_AT_ONCE) for at in range(0, request.n_frames, FRAMES_AT_ONCE)]
        jobs = [replace(request, background=request.background[part], rows=request.rows[part]) for part in parts]
        drawn = await asyncio.gather(*(self._thread.run(due_s, partial(self._draw, job)) for job in jobs))
        return RenderedCrops(np.concatenate([crops for crops, _ in drawn]), sum(ms for _, ms in drawn), batch_frames=request.n_frames)

    def _draw(self, request: RenderRequest) -> tuple[ByteArray, float]:
        began = time.perf_counter()
        (crops,) = self._engine.render([request])
        return crops, (time.perf_counter() - began) * 1e3
