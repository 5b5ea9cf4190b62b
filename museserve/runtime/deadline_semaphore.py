"""Who is drawn next: the viewer who runs dry first, not the one who asked first."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class DeadlineSemaphore:
    """Lets in work of at most `capacity` units at a time (or one larger piece alone), in the order in which it is due. For one event loop."""

    def __init__(self, capacity: int) -> None:
        self._free = self._capacity = capacity
        self._waiting: list[tuple[float, int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    @asynccontextmanager
    async def held(self, due_s: float, size: int) -> AsyncIterator[None]:
        """Wait until everything that is due earlier was let in and there is room; due in `due_s` seconds from now."""
        place = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (time.monotonic() + due_s, next(self._numbers), size, place))
        self._let_in()
        try:
            await place
            yield
        finally:
            if place.done() and not place.cancelled():
                self._free += size
            else:
                place.cancel()
            self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            _, _, size, place = self._waiting[0]
            if not place.cancelled():
                if size > self._free and self._free < self._capacity:
                    return
                self._free -= size
                place.set_result(None)
            heapq.heappop(self._waiting)
