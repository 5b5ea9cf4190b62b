from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from museserve.runtime.deadline_executor import DeadlineExecutor


def hold(begun: threading.Event, gate: threading.Event) -> None:
    begun.set()
    gate.wait()


@asynccontextmanager
async def all_busy(pool: DeadlineExecutor, threads: int) -> AsyncIterator[None]:
    """Every thread of the pool is held until the block ends."""
    gate, busy = threading.Event(), [threading.Event() for _ in range(threads)]

    holding = [pool.run(0.0, partial(hold, event, gate)) for event in busy]
    for event in busy:
        await asyncio.to_thread(event.wait)
    try:
        yield
    finally:
        gate.set()
        await asyncio.gather(*holding)


async def test_the_most_urgent_waiting_work_comes_first() -> None:
    pool, done = DeadlineExecutor([math.inf]), list[float]()
    async with all_busy(pool, 1):
        waiting = [pool.run(slack, partial(done.append, slack)) for slack in (2.0, 60.0, 0.5, 1.0)]
    await asyncio.gather(*waiting)
    pool.shutdown(cancel_futures=True)
    assert done == [0.5, 1.0, 2.0, 60.0]


async def test_a_thread_stays_free_for_what_is_due_now() -> None:
    pool = DeadlineExecutor([0.2, 60.0])
    gate, begun = threading.Event(), threading.Event()
    later = pool.run(30.0, partial(hold, begun, gate))
    await asyncio.to_thread(begun.wait)
    waits = pool.run(31.0, lambda: "later")
    assert await asyncio.wait_for(pool.run(0.0, lambda: "now"), 5) == "now"
    assert not waits.done()
    gate.set()
    assert await asyncio.wait_for(waits, 5) == "later"
    await later
    pool.shutdown(cancel_futures=True)


async def test_what_becomes_due_is_taken_although_nothing_new_comes() -> None:
    pool = DeadlineExecutor([0.05])
    assert await asyncio.wait_for(pool.run(0.15, lambda: "due"), 5) == "due"
    pool.shutdown(cancel_futures=True)


async def test_background_work_is_done_although_nobody_waits_for_it() -> None:
    pool = DeadlineExecutor([0.2], background_s=3.0)
    assert await asyncio.wait_for(pool.run(3_600.0, lambda: threading.current_thread().name), 5) == "background"
    pool.shutdown(cancel_futures=True)


async def test_as_an_executor_all_is_due_at_once() -> None:
    with DeadlineExecutor([0.2]) as pool:
        assert await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(pool, int, "12"), 5) == 12


async def test_shutdown_finishes_what_was_queued_and_waits_for_it() -> None:
    pool, done = DeadlineExecutor([0.05]), list[int]()
    gate = threading.Event()

    def wait(i: int) -> None:
        gate.wait()
        done.append(i)

    work = [pool.submit(wait, i) for i in range(3)]
    threading.Timer(0.1, gate.set).start()
    pool.shutdown()
    assert done == [0, 1, 2] and all(future.done() for future in work)
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(int)


async def test_shutdown_can_drop_what_has_not_begun() -> None:
    pool, gate, begun = DeadlineExecutor(), threading.Event(), threading.Event()
    running = pool.submit(hold, begun, gate)
    waiting = pool.submit(int)
    begun.wait()
    pool.shutdown(wait=False, cancel_futures=True)
    assert waiting.cancelled() and not running.done()
    gate.set()
    pool.shutdown()
    assert running.done()


async def test_errors_arrive_and_cancelled_work_is_dropped() -> None:
    pool, done = DeadlineExecutor([math.inf]), list[int]()
    with pytest.raises(ZeroDivisionError):
        await pool.run(0.0, lambda: 1 // 0)
    async with all_busy(pool, 1):
        dropped = pool.run(0.0, lambda: done.append(1))
        dropped.cancel()
        await asyncio.sleep(0)
    await pool.run(0.0, lambda: None)
    pool.shutdown(cancel_futures=True)
    assert not done


async def test_the_background_thread_leaves_what_is_due_soon_to_the_others() -> None:
    pool = DeadlineExecutor([1.0], background_s=3.0)
    async with all_busy(pool, 1):
        soon = pool.run(2.0, lambda: threading.current_thread().name)
        # Long after it, so that the background thread had the choice.
        assert await asyncio.wait_for(pool.run(3_600.0, lambda: threading.current_thread().name), 5) == "background"
        assert not soon.done()
    assert await asyncio.wait_for(soon, 5) == "deadline"
    pool.shutdown(cancel_futures=True)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no niceness of their own")
async def test_the_background_thread_has_a_lower_priority_than_the_process() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    pool = DeadlineExecutor([1.0], background_s=3.0)
    patient, urgent = await pool.run(3_600.0, niceness), await pool.run(0.0, niceness)
    pool.shutdown(cancel_futures=True)
    assert urgent == niceness()
    assert patient == min(niceness() + 10, 19) > urgent


def test_what_was_done_is_not_held_while_there_is_nothing_to_do() -> None:
    class Large:
        def work(self) -> None: ...

    executor, large = DeadlineExecutor(), Large()
    kept = weakref.ref(large)
    executor.submit(large.work).result(10)
    del large
    until = time.monotonic() + 10
    while kept() is not None and time.monotonic() < until:
        time.sleep(0.01)
    assert kept() is None
    executor.shutdown()
