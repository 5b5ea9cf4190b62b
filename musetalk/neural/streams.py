"""Work that a device does later, in its order: what the renderer needs of CUDA's streams and events, and no more.

A test gives it streams that are threads, so that what overlaps on a card overlaps there, too, on the same buffers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch


class Mark(Protocol):
    """A point in a stream's work."""

    def synchronize(self) -> None:
        """Wait until the device has come so far. Raises RuntimeError when it failed before."""


class Stream(Protocol):
    """Work is done one piece after the other, some time after `put` has returned."""

    def put(self, work: Callable[[], object]) -> None: ...

    def mark(self) -> Mark:
        """Behind all that was put so far."""

    def after(self, mark: Mark) -> None:
        """What is put from now on waits for a mark of another stream."""


class CudaStream:
    """A stream of a card. `put` calls at once: what is called gives the card its kernels and copies, and returns."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def put(self, work: Callable[[], object]) -> None:
        with torch.cuda.stream(self.stream):
            work()

    def mark(self) -> torch.cuda.Event:
        return self.stream.record_event()  # type: ignore[no-any-return]

    def after(self, mark: Mark) -> None:
        assert isinstance(mark, torch.cuda.Event)
        self.stream.wait_event(mark)
