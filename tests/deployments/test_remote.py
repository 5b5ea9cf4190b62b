from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator, Awaitable
from typing import Any

import numpy as np
import pytest
from ray.serve.exceptions import BackPressureError

from deployments import remote, silence
from deployments.remote import Hedges, pulled, repulled
from museserve.errors import BusyError, RenderError, RequestError, TextError
from museserve.messages import SpeechWindow

WINDOW = SpeechWindow(0, np.zeros(0, np.float32), 0, 8)


class Answers:
    """A streamed call: items, then an error if there is one. A float is a wait."""

    def __init__(self, *items: Any) -> None:
        self.items, self.cancelled = items, False

    async def __aiter__(self) -> AsyncGenerator[Any, None]:
        for item in self.items:
            if isinstance(item, Exception):
                raise item
            if isinstance(item, float):
                await asyncio.sleep(item)
            else:
                yield item

    def cancel(self) -> None:
        self.cancelled = True


async def test_a_lost_stream_is_asked_for_again() -> None:
    calls = [Answers(1, 2, ConnectionError("gone")), Answers(ConnectionError("gone")), Answers(3)]
    asked: list[float | None] = []

    def ask(within_s: float | None) -> AsyncGenerator[int, None]:
        asked.append(within_s)
        return pulled(lambda: calls[len(asked) - 1])

    retries: list[int] = []
    seen = [item async for item in repulled(ask, "mux", tries=3, timeout_s=9, on_retry=lambda: retries.append(1))]
    assert seen == [1, 2, 3] and len(retries) == 2 and all(call.cancelled for call in calls)
    assert asked[0] is None and all(8 < within_s <= 9 for within_s in asked[1:] if within_s), "the first may take as long as it takes"


@pytest.mark.parametrize(("error", "raised"), [(ConnectionError("gone"), RenderError), (BackPressureError(1, 1), BusyError)])
async def test_a_stream_that_brings_nothing_ends_with_an_error_of_ours(error: Exception, raised: type[Exception]) -> None:
    asked: list[int] = []

    def ask(within_s: float | None) -> AsyncGenerator[int, None]:
        asked.append(1)
        return pulled(lambda: Answers(error))

    with pytest.raises(raised):
        async for _ in repulled(ask, "mux", tries=3, timeout_s=9, failure=RenderError):
            pass
    assert len(asked) == 3


async def test_our_own_errors_are_not_repeated() -> None:
    asked: list[int] = []

    def ask(within_s: float | None) -> AsyncGenerator[int, None]:
        asked.append(1)
        return pulled(lambda: Answers(1, TextError("nothing to speak")))

    with pytest.raises(TextError):
        async for _ in repulled(ask, "mux", tries=3, timeout_s=9):
            pass
    assert len(asked) == 1


async def test_what_was_sent_is_freed_with_the_error_that_it_got() -> None:
    class Sent:
        """A call that failed, with what it was called with."""

        def __aiter__(self) -> Sent:
            return self

        async def __anext__(self) -> int:
            raise RequestError("no")

        def cancel(self) -> None: ...

    gc.disable()
    try:
        kept = weakref.ref(sent := Sent())
        try:
            await anext(pulled([sent].pop))
        except RequestError as error:
            assert str(error) == "no"
        del sent
        await asyncio.sleep(0)
        assert kept() is None, "it waits for the garbage collector"
    finally:
        gc.enable()


async def test_after_a_loss_nobody_waits_for_ever() -> None:
    calls = iter([Answers(1, ConnectionError("gone")), Answers(3_600.0)])
    with pytest.raises(RenderError, match=r"within 1\.2 s"):
        async for _ in repulled(lambda within_s: pulled(lambda: next(calls), None, within_s), "mux", tries=3, timeout_s=1.2, failure=RenderError):
            pass


async def test_a_replica_that_falls_silent_is_a_lost_one(monkeypatch: pytest.MonkeyPatch) -> None:
    alive = iter([True, False])

    async def answers(argument: object) -> bool:
        return next(alive)

    monkeypatch.setattr(remote, "QUIET_S", 0.01)
    monkeypatch.setattr(silence, "answers", answers)
    stream = pulled(lambda: Answers(1, 3_600.0), object())
    assert await anext(stream) == 1
    with pytest.raises(ConnectionError, match="silent"):
        await anext(stream)


def test_a_call_is_sent_twice_in_time_for_its_viewer_but_not_before_the_first_should_have_answered() -> None:
    hedges = Hedges()
    assert hedges.wait_s(0.0) == 2 * Hedges.UNKNOWN_S
    for _ in range(Hedges.KNOWN):
        hedges.answered(0.1)
    assert hedges.wait_s(-1.0) == hedges.wait_s(0.0) == pytest.approx(0.2)
    assert hedges.wait_s(2.0) == pytest.approx(2.0 - 0.1 - Hedges.SPARE_S)
    assert hedges.wait_s(10.0) == Hedges.MOST_S
    for _ in range(200):
        hedges.answered(0.001)
    assert hedges.wait_s(0.0) == Hedges.LEAST_S


class Replicas:
    """Answers each call after the next of `times`; stands for the router where two replicas are known."""

    def __init__(self, *times: float, others: bool = True) -> None:
        self.times, self.sent, self.cancelled, self.others = list(times), 0, 0, others
        self.silent = False
        self.due_s: list[float] = []

    def call(self, argument: SpeechWindow) -> Awaitable[int]:
        self.due_s.append(argument.due_s)
        self.sent += 1
        return asyncio.ensure_future(self._answer(self.sent, self.times[self.sent - 1]))  # as a response, it can be cancelled

    async def _answer(self, number: int, after_s: float) -> int:
        try:
            await asyncio.sleep(abs(after_s))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if after_s < 0:
            raise ConnectionError("gone")
        return number

    def suspect(self, argument: object) -> bool:
        return self.others

    def is_silent(self, argument: object) -> bool:
        return self.silent


def hedges_for(replicas: Replicas, monkeypatch: pytest.MonkeyPatch) -> Hedges:
    monkeypatch.setattr(silence, "suspect", replicas.suspect)
    monkeypatch.setattr(silence, "is_silent", replicas.is_silent)
    hedges = Hedges()
    for _ in range(Hedges.KNOWN):
        hedges.answered(0.01)
    return hedges


@pytest.mark.parametrize(
    ("times", "others", "answer", "sent", "cancelled"),
    [
        ((0.01,), True, 1, 1, 0),
        ((3_600.0, 0.01), True, 2, 2, 1),
        ((0.25, 3_600.0), True, 1, 2, 1),
        ((0.25, -0.01), True, 1, 2, 0),  # the second is lost; the first still counts
        ((-0.25, 0.3), True, 2, 2, 0),
        ((0.3,), False, 1, 1, 0),  # nobody else is there
    ],
)
async def test_whichever_replica_answers_first_counts(
    times: tuple[float, ...], others: bool, answer: int, sent: int, cancelled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    replicas, hedged = Replicas(*times, others=others), list[int]()
    hedges = hedges_for(replicas, monkeypatch)
    assert await hedges.first_of(replicas.call, WINDOW, lambda: hedged.append(1)) == answer
    await asyncio.sleep(0)
    assert (replicas.sent, len(hedged), replicas.cancelled) == (sent, sent - 1, cancelled)
    assert replicas.due_s[0] == 0.0 and all(due_s < -0.1 for due_s in replicas.due_s[1:]), "by then it is more urgent"


async def test_only_few_calls_are_sent_twice_to_replicas_that_are_merely_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    replicas = Replicas()
    hedges = hedges_for(replicas, monkeypatch)
    assert [hedges.allow(object()) for _ in range(12)].count(True) == Hedges.BURST
    for _ in range(round(1 / Hedges.SHARE)):
        hedges.answered(0.01)
    assert hedges.allow(object()) and not hedges.allow(object())
    replicas.silent = True
    assert all(hedges.allow(object()) for _ in range(50)), "of a silent one, all"


async def test_hanging_up_cancels_both(monkeypatch: pytest.MonkeyPatch) -> None:
    replicas = Replicas(3_600.0, 3_600.0)
    hedges = hedges_for(replicas, monkeypatch)
    call = asyncio.create_task(hedges.first_of(replicas.call, WINDOW, lambda: None))
    await asyncio.sleep(0.3)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert replicas.sent == replicas.cancelled == 2
