"""What a replica's process is told about itself when it starts: how its heap behaves, and how its threads share Python."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
KEPT_BYTES = 64 * 2**20
LARGEST_BLOCK = 32 * 2**20  # the most that glibc accepts


def prompt() -> None:
    """For replicas that draw or encode beside an event loop which moves megabytes.

    The loop need not wait 5 ms for Python each time that a message comes in, and the pages of a message that was sent serve the next one:
    by default glibc returns them, and the kernel has to clear others.
    """
    sys.setswitchinterval(0.001)
    if (libc := _glibc()) is not None:
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def share_heap() -> None:
    """For replicas whose threads take much memory for a short time: what one gives back, the next may have. Later threads only."""
    if (libc := _glibc()) is not None:
        libc.mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """Return the pages that nothing lies on; takes tens of milliseconds, for which no thread gets memory."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") else None
