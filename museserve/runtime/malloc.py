"""glibc's heap: which freed memory a process keeps. Other C libraries have no such knobs, and go without."""

from __future__ import annotations

import ctypes
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


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") else None
