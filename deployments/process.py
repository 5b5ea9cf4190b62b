"""What a replica's process is told about itself when it starts: how its heap behaves, and how its threads share Python."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 64 * 2**20
LARGEST_BLOCK = 32 * 2**20  # the most that glibc accepts


def prompt() -> None:
    """For replicas that draw or encode beside an event loop which moves megabytes.

    The loop need not wait 5 ms for Python each time that a message comes in, and the pages of a message that was sent serve the next one:
    by default glibc returns them, and the kernel has to clear others.
    """
    sys.setswitchinterval(0.001)
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
