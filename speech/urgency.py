"""Work for many viewers on few cores: whoever runs dry first is served first.

A voice speaks many times faster than a listener listens. Without an order, the last sentences of one listener keep another from hearing
his first; and all of them together take the cores from the pictures that are due now. So each piece of work has a deadline, and speech that is
due later than `PATIENT_S` is left to one thread of lower priority.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

PATIENT_S = 1.5
NICENESS = 10  # of the patient thread: a tenth of the share of a thread that draws, while one does


class UrgencyPool(Executor):
    """`threads` that take what is due first. With `patient`, they leave what is due later than `PATIENT_S` to one more thread, of lower priority.

    As a plain executor it takes all work as due at once.
    """

    def __init__(self, threads: int, *, patient: bool = True) -> None:
        self._jobs: list[tuple[float, int, Callable[[], Any], Future[Any]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._leaves = patient
        for is_patient in [False] * threads + [True] * patient:
            threading.Thread(target=self._work, args=(is_patient,), name="urgency", daemon=True).start()

    def run(self, slack_s: float, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do `work` within `slack_s` if that can be; cancelling drops it when it has not begun."""
        return asyncio.wrap_future(self._queue(slack_s, work))

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self._queue(0.0, partial(fn, *args, **kwargs))

    def _queue(self, slack_s: float, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._changed:
            heapq.heappush(self._jobs, (time.monotonic() + slack_s, next(self._numbers), work, future))
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

    def _work(self, patient: bool) -> None:
        if patient and hasattr(os, "setpriority"):
            # On Linux this is the thread's own niceness; elsewhere it would be the whole process's.
            if os.uname().sysname == "Linux":
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while (job := self._next(patient)) is not None:
            work, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

    def _next(self, patient: bool) -> tuple[Callable[[], Any], Future[Any]] | None:
        with self._changed:
            while not self._closed:
                if not self._jobs:
                    self._changed.wait()
                    continue
                slack = self._jobs[0][0] - time.monotonic()
                if patient or not self._leaves or slack < PATIENT_S:
                    _, _, work, future = heapq.heappop(self._jobs)
                    return work, future
                self._changed.wait(slack - PATIENT_S)
        return None
