"""Streams whose device is a thread: work is done later and in order, errors are met by whoever waits, as with a card's."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

PATIENCE_S = 300.0  # for a machine that has other things to do; nothing here takes a second


class ThreadMark:
    def __init__(self) -> None:
        self.reached = threading.Event()
        self.error: RuntimeError | None = None

    def synchronize(self) -> None:
        assert self.reached.wait(PATIENCE_S), "the stream does not get there"
        if self.error is not None:
            raise self.error


class ThreadStream:
    """seed: dawdle a little, at random, before each piece of work, so that threads meet in many orders."""

    def __init__(self, seed: int | None = None) -> None:
        self._gate = threading.Event()
        self._gate.set()
        self._dawdles = None if seed is None else random.Random(seed)
        self._error: RuntimeError | None = None
        self._work: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    @contextmanager
    def held(self) -> Iterator[None]:
        """The device does nothing, until `go` or the end."""
        self._gate.clear()
        try:
            yield
        finally:
            self.go()

    def go(self) -> None:
        self._gate.set()

    def put(self, work: Callable[[], object]) -> None:
        def done() -> None:
            if self._dawdles is not None:
                time.sleep(self._dawdles.random() * 0.002)
            assert self._gate.wait(PATIENCE_S)
            if self._error is None:
                try:
                    work()
                except RuntimeError as error:
                    self._error = error

        self._work.put(done)

    def mark(self) -> ThreadMark:
        mark = ThreadMark()

        def reach() -> None:
            mark.error, self._error = self._error, None
            mark.reached.set()

        self._work.put(reach)
        return mark

    def after(self, mark: Any) -> None:
        def follow() -> None:
            assert mark.reached.wait(PATIENCE_S)
            self._error = self._error or mark.error

        self._work.put(follow)

    @torch.inference_mode()
    def _run(self) -> None:
        while True:
            self._work.get()()
