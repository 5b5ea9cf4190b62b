"""Work for many viewers on few cores: whoever runs dry first is served first.

A voice speaks many times faster than a listener listens. Without an order, the last sentences of one listener keep another from hearing
his first; and all of them together take the cores from the pictures that are due now. So each piece of work has a deadline; a thread can be
kept free for what is due now, and what is due much later can be left to one of lower priority. Python's executors
know no deadlines.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

from museserve.runtime import cpu

T = TypeVar("T")
P = ParamSpec("P")


class DeadlineExecutor(Executor):
    """One thread for each of `horizons_s`, which takes what is due first, if it is due within so many seconds.

    With `background_s`, one more takes what is due in so many seconds or later, at a lower priority, so that its time
    must be ample: what it has begun, no other can finish.

    As a plain executor it takes all work as due at once.
    """

    def __init__(self, horizons_s: Sequence[float] = (math.inf,), *, background_s: float | None = None) -> None:
        self._jobs: list[tuple[float, int, Callable[[], Any], Future[Any]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        kinds = [(0.0, horizon_s, "deadline") for horizon_s in horizons_s]
        if background_s is not None:
            kinds.append((background_s, math.inf, "background"))
        self._threads = [threading.Thread(target=self._work, args=kind, name=kind[2], daemon=True) for kind in kinds]
        for thread in self._threads:
            thread.start()

    def run(self, due_s: float, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do `work` within `due_s` seconds if that can be; cancelling drops it when it has not begun."""
        return asyncio.wrap_future(self._queue(due_s, work))

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self._queue(0.0, partial(fn, *args, **kwargs))

    def _queue(self, due_s: float, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("work came after the executor was shut down")
            # With the context of whoever asks, as `asyncio.to_thread` does, so that log lines tell for whom it is done.
            work = partial(contextvars.copy_context().run, work)
            self._jobs.append((time.monotonic() + due_s, next(self._numbers), work, future))
            self._changed.notify_all()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more.

        What is queued is still done, with `cancel_futures` only what has begun; with `wait` before this returns.
        """
        with self._changed:
            self._closed = True
            if cancel_futures:
                for job in self._jobs:
                    job[3].cancel()
                self._jobs.clear()
            self._changed.notify_all()
        if wait:
            for thread in self._threads:
                thread.join()

    def _work(self, from_s: float, horizon_s: float, kind: str) -> None:
        if kind == "background":
            cpu.lower_priority()
        while self._do(self._next(from_s, horizon_s)):
            pass  # and hold nothing of what was done while there is nothing to do

    @staticmethod
    def _do(job: tuple[Callable[[], Any], Future[Any]] | None) -> bool:
        """False when no more comes."""
        if job is None:
            return False
        work, future = job
        if future.set_running_or_notify_cancel():
            try:
                result = work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
        return True

    def _next(self, from_s: float, horizon_s: float) -> tuple[Callable[[], Any], Future[Any]] | None:
        """The first that is due in `from_s` to `horizon_s` seconds, as soon as there is one; with a `from_s` of 0
        also what is overdue.

        Once the executor is shut down any that is left, and None when none is.
        """
        with self._changed:
            while True:
                now = time.monotonic()
                mine = (job for job in self._jobs if self._closed or not from_s or job[0] - now >= from_s)
                job = min(mine, default=None)
                if job is not None and (self._closed or job[0] - now < horizon_s):
                    self._jobs.remove(job)
                    return job[2], job[3]
                if self._closed:
                    return None
                self._changed.wait(None if job is None else job[0] - now - horizon_s)
