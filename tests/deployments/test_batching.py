"""Batches that are on a card at once: what each of them is said to have taken."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from configs.models import BatchConfig
from deployments.lipsync import Asked, BatchingEngine
from museserve.messages import ByteArray, CallIds, RenderRequest
from musetalk.speech_cues.controls import N_CONTROLS
from tests.musetalk.animator.test_engine import MAN, WOMAN, animator

BOTH_S, EACH_S = 60.0, 0.1


class Card:
    """The animator, as one that draws in the order of launches: who is second waits for the first, and then takes its own time."""

    def __init__(self) -> None:
        self._engine, self._launched, self._turn = animator(), threading.Barrier(2), threading.Lock()
        self.info = replace(self._engine.info, device="cuda:0", batches=True)
        self.listen, self.check = self._engine.listen, self._engine.check

    def render(self, requests: Sequence[RenderRequest]) -> list[ByteArray]:
        self._launched.wait(BOTH_S)
        with self._turn:
            time.sleep(EACH_S)
            return self._engine.render(requests)


def asked(avatar: object, frames: int) -> list[Asked]:
    rows = np.zeros((frames, N_CONTROLS), np.float32)
    return [Asked(RenderRequest(avatar, tuple(range(frames)), rows), CallIds(), None, time.perf_counter())]  # type: ignore[arg-type]


async def test_waiting_behind_another_batch_is_no_drawing() -> None:
    told: list[tuple[float, int]] = []
    engine = BatchingEngine(Card(), BatchConfig(), lambda took_ms, frames: told.append((took_ms, frames)))
    began = time.perf_counter()
    drawn = await asyncio.gather(engine.render_batch(asked(WOMAN, 2)), engine.render_batch(asked(MAN, 3)))
    whole_ms = (time.perf_counter() - began) * 1e3
    assert [len(batch[0].crops) for batch in drawn] == [2, 3] and sorted(frames for _, frames in told) == [2, 3]
    assert sum(took for took, _ in told) <= whole_ms, "the wait of the second batch counts as drawing"
    assert all(took >= 0 for took, _ in told)
    assert {round(batch[0].render_ms, 6) for batch in drawn} == {round(took, 6) for took, _ in told}
