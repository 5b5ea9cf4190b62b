"""glibc's heap: which freed memory a process keeps. Other C libraries have no such knobs, and go without."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of mallopt


def keep_freed(largest_block: int, freed: int) -> None:
    """Keep blocks of up to `largest_block` bytes for the next that want them, and `freed` bytes of them at the top of the heap.

    By default glibc returns large blocks to the system, which clears each page anew when it is written next.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(_MMAP_THRESHOLD, largest_block)
        libc.mallopt(_TRIM_THRESHOLD, freed)


def single_arena() -> None:
    """One heap for all threads that are started from now on: what one gives back, another may have."""
    if (libc := _glibc()) is not None:
        libc.mallopt(_ARENA_MAX, 1)


def trim() -> None:
    """Return the pages that nothing lies on; takes tens of milliseconds, for which no thread gets memory."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def trim_in_background() -> None:
    """The same, by a thread. To be called in a running loop."""
    asyncio.get_running_loop().run_in_executor(None, trim)


class Tidy:
    """Gives back what large requests had, once nothing of them is needed: one sweep for all that end within `AFTER_S`.

    Ray keeps the errors of failed calls in cycles, arguments and all, until Python's garbage collector comes by, which in a
    process that nobody calls it does not; and pieces of a body lie scattered on the heaps of several threads.
    """

    AFTER_S = 1.0

    def __init__(self) -> None:
        self._due: asyncio.TimerHandle | None = None

    def soon(self) -> None:
        """To be called in a running loop."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(self.AFTER_S, self._sweep)

    def _sweep(self) -> None:
        self._due = None
        gc.collect()
        trim_in_background()


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") else None
