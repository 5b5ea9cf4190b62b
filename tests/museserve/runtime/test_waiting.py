"""Waits that end when they are told to."""

from __future__ import annotations

import asyncio

import pytest

from museserve.runtime.waiting import within


async def test_it_gives_the_answer_or_the_error() -> None:
    assert await within(asyncio.sleep(0, "here"), 5) == "here"

    async def wrong() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await within(wrong(), 5)


async def test_what_takes_too_long_is_cancelled() -> None:
    work = asyncio.ensure_future(asyncio.sleep(60))
    with pytest.raises(TimeoutError, match="no answer within 0.0 s"):
        await within(work, 0.01)
    await asyncio.sleep(0)
    assert work.cancelled()


async def test_a_cancellation_in_the_moment_of_the_answer_is_not_lost() -> None:
    answer = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(within(answer, 60))
    await asyncio.sleep(0)
    answer.set_result("too late")
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
