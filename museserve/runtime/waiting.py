"""Waits that end when they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


async def within(work: Awaitable[T], seconds: float) -> T:
    """What `work` gives. Raises TimeoutError, and cancels it, when that takes longer.

    `asyncio.wait_for` before Python 3.12 drops a cancellation that comes in the moment of the answer: whoever is cancelled
    goes on, and waits for ever for what nobody will send.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(heard)
    try:
        if not (await asyncio.wait({task}, timeout=seconds))[0]:
            raise TimeoutError(f"no answer within {seconds:.1f} s")
        return task.result()
    finally:
        task.cancel()


def heard(task: asyncio.Future[Any]) -> None:
    """Callback of a task whose error is of no more interest once nobody waits: it is not told as one that was never seen."""
    if not task.cancelled():
        task.exception()
