"""Work for many viewers on few cores: whoever runs dry first is served first.

A voice speaks many times faster than a listener listens. Without an order, the last sentences of one listener keep another from hearing
his first; and all of them together take the cores from the pictures that are due now. So each piece of work has a deadline; a thread can be
kept free for what is due now, and what is due much later can be left to one of lower priority.
"""

from __future__ import annotations

import asyncio
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
    """One thread for each of `horizons_s`, which takes what is due first, if it is due within so many seconds. With `patient_s`, one
    more takes what is due in so many seconds or later, at a lower priority, so that its time must be ample: what it has begun, no other can finish.

    As a plain executor it takes all work as due at once.
    """

    def __init__(self, horizons_s: Sequence[float], *, patient_s: float | None = None) -> None:
        self._jobs: list[tuple[float, int, Callable[[], Any], Future[Any]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        for horizon_s in horizons_s:
            threading.Thread(target=self._work, args=(0.0, horizon_s), name="urgency", daemon=True).start()
        if patient_s is not None:
            threading.Thread(target=self._work, args=(patient_s, math.inf, True), name="patience", daemon=True).start()

    def run(self, slack_s: float, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do `work` within `slack_s` if that can be; cancelling drops it when it has not begun."""
        return asyncio.wrap_future(self._queue(slack_s, work))

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self._queue(0.0, partial(fn, *args, **kwargs))

    def _queue(self, slack_s: float, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._changed:
            self._jobs.append((time.monotonic() + slack_s, next(self._numbers), work, future))
            self._changed.notify_all()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.close()

    def close(self) -> None:
        """End the threads; work that has not begun is cancelled."""
        with self._changed:
            self._closed = True
            for job in self._jobs:
                job[3].cancel()
            self._jobs.clear()
            self._changed.notify_all()

    def _work(self, from_s: float, horizon_s: float, patient: bool = False) -> None:
        if patient:
            cpu.lower_priority()
        while (job := self._next(from_s, horizon_s)) is not None:
            work, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

    def _next(self, from_s: float, horizon_s: float) -> tuple[Callable[[], Any], Future[Any]] | None:
        """The first that is due in `from_s` to `horizon_s` seconds, as soon as there is one; with a `from_s` of 0 also what is overdue."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                job = min((job for job in self._jobs if not from_s or job[0] - now >= from_s), default=None)
                if job is None:
                    self._changed.wait()
                elif job[0] - now < horizon_s:
                    self._jobs.remove(job)
                    return job[2], job[3]
                else:
                    self._changed.wait(job[0] - now - horizon_s)
        return None
