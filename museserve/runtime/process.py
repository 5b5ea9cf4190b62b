"""What a replica's process is told about itself when it starts: how its heap behaves, and how its threads share Python."""

from __future__ import annotations

import sys

from museserve.runtime import malloc

LARGEST_BLOCK = 32 * 2**20
KEPT_BYTES = 64 * 2**20


def tune_for_latency() -> None:
    """For replicas that draw or encode beside an event loop which moves megabytes.

    The loop need not wait 5 ms for Python each time that a message comes in, and the pages of a message that was sent serve the next one.
    """
    sys.setswitchinterval(0.001)
    malloc.keep_freed(LARGEST_BLOCK, KEPT_BYTES)
