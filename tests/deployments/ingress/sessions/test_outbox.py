from __future__ import annotations

import asyncio
import json

import pytest

from deployments.ingress.sessions.outbox import Outbox
from deployments.ingress.sessions.protocol import Finished, Pong


def fragment(outbox: Outbox, n: int, first_frame: int, size: int = 100) -> None:
    outbox.post(lambda seq: seq.to_bytes(4, "big") + bytes(size - 4), n, first_frame)


async def taken(outbox: Outbox, count: int) -> list[int]:
    """Sequence numbers of the next entries."""
    payloads = [await asyncio.wait_for(outbox.next(), 1) for _ in range(count)]
    return [int.from_bytes(p[:4], "big") if isinstance(p, bytes) else json.loads(p)["seq"] for p in payloads]


async def test_messages_are_numbered_in_the_order_in_which_they_were_added() -> None:
    outbox = Outbox(1_000)
    outbox.say(Finished(id="a", n=1, frames=8, phase=8))
    fragment(outbox, 1, 0)
    outbox.say_once(Pong())
    assert await taken(outbox, 3) == [1, 2, 0] and outbox.last_seq == 2


async def test_what_is_not_acknowledged_is_sent_again_once_and_in_order() -> None:
    outbox = Outbox(10_000)
    for i in range(6):
        fragment(outbox, 1, 8 * i)
    outbox.say_once(Pong())
    await taken(outbox, 4)
    assert outbox.acknowledge(2)
    assert outbox.rewind(3)
    assert await taken(outbox, 3) == [4, 5, 6]
    assert outbox.acknowledge(6) and outbox.held_bytes == 0


@pytest.mark.parametrize("seq", [1, 7])
async def test_a_place_that_is_gone_or_never_was_is_refused(seq: int) -> None:
    outbox = Outbox(10_000)
    for i in range(6):
        fragment(outbox, 1, 8 * i)
    await taken(outbox, 6)
    outbox.acknowledge(3)
    assert not outbox.rewind(seq)


async def test_only_what_was_sent_can_be_acknowledged() -> None:
    outbox = Outbox(10_000)
    fragment(outbox, 1, 0)
    fragment(outbox, 1, 8)
    await taken(outbox, 1)
    assert not outbox.acknowledge(2) and outbox.acknowledge(1) and outbox.acknowledge(0)


async def test_the_window_bounds_what_is_held() -> None:
    outbox = Outbox(250)
    for i in range(3):
        fragment(outbox, 1, 8 * i)
    waiting = asyncio.create_task(outbox.room())
    await taken(outbox, 3)
    await asyncio.sleep(0)
    assert not waiting.done() and outbox.full
    outbox.acknowledge(1)
    await asyncio.wait_for(waiting, 1)
    assert outbox.held_bytes == 200


async def test_without_resuming_nothing_is_kept_once_it_was_taken() -> None:
    outbox = Outbox(250, keep=False)
    for i in range(3):
        fragment(outbox, 1, 8 * i)
    await taken(outbox, 3)
    assert outbox.held_bytes == 0 and not outbox.rewind(2)


async def test_fragments_of_an_utterance_can_be_dropped() -> None:
    outbox = Outbox(10_000)
    for i in range(4):
        fragment(outbox, 1, 8 * i)
    fragment(outbox, 2, 0)
    await taken(outbox, 2)
    assert outbox.drop(1) == 16 and outbox.drop(1) is None
    assert await taken(outbox, 1) == [5]
    assert outbox.rewind(0) and await taken(outbox, 1) == [5]


async def test_draining_waits_for_the_last_to_be_taken() -> None:
    outbox = Outbox(1_000)
    fragment(outbox, 1, 0)
    waiting = asyncio.create_task(outbox.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    await taken(outbox, 1)
    await asyncio.wait_for(waiting, 1)
