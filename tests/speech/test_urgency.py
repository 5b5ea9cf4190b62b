from __future__ import annotations

import asyncio
import threading

import pytest

from speech.urgency import UrgencyPool


async def test_the_most_urgent_waiting_work_comes_first() -> None:
    pool = UrgencyPool(1)
    gate, busy, done = threading.Event(), [threading.Event(), threading.Event()], []

    def hold(i: int) -> None:
        busy[i].set()
        gate.wait()

    holding = [pool.run(0.0, lambda i=i: hold(i)) for i in range(2)]  # both threads, the patient one too
    for event in busy:
        await asyncio.to_thread(event.wait)
    waiting = [pool.run(slack, lambda slack=slack: done.append(slack)) for slack in (2.0, 60.0, 0.5, 1.0)]
    gate.set()
    await asyncio.gather(*holding, *waiting)
    pool.close()
    assert sorted(done[:3]) == [0.5, 1.0, 2.0] and done[3] == 60.0


async def test_patient_work_is_done_although_nobody_waits_for_it() -> None:
    pool = UrgencyPool(1)
    assert await asyncio.wait_for(pool.run(3_600.0, lambda: threading.get_ident()), 5) != threading.get_ident()
    pool.close()


async def test_errors_arrive_and_cancelled_work_is_dropped() -> None:
    pool = UrgencyPool(1)
    with pytest.raises(ZeroDivisionError):
        await pool.run(0.0, lambda: 1 // 0)
    gate, begun, done = threading.Event(), [threading.Event(), threading.Event()], []

    def hold(i: int) -> None:
        begun[i].set()
        gate.wait()

    holding = [pool.run(0.0, lambda i=i: hold(i)) for i in range(2)]
    for event in begun:
        await asyncio.to_thread(event.wait)
    dropped = pool.run(0.0, lambda: done.append(1))
    dropped.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*holding)
    await pool.run(0.0, lambda: None)
    pool.close()
    assert not done
