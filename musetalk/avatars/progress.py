"""The steps of a long piece of work: timed for the log, told to whoever watches, and broken off when nobody does any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, float], None]  # step, part of the whole that is done; it may raise to break off

PREPARING_SHIPPED = "preparing the shipped avatars for MuseTalk"  # begins each line about it; whoever starts the service looks for it in the logs
TOLD_EVERY_S = 10.0


def in_lines(tell: Callable[[str], object], what: str, every_s: float = TOLD_EVERY_S) -> Progress:
    """Progress as lines of text: each step as it begins, and so often how much is done."""
    last, told_at = "", 0.0

    def progress(step: str, done: float) -> None:
        nonlocal last, told_at
        now = time.monotonic()
        if step != last or now - told_at >= every_s:
            tell(f"{what}: {100 * done:.0f} %, {step}")
            last, told_at = step, now

    return progress


class Steps:
    """Attributes: ms: what each step took."""

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress
        self.ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str, begin: float, end: float) -> Iterator[Callable[[float], None]]:
        """A step that brings the whole from `begin` to `end`; what it yields is told the part of the step that is done."""

        def tick(part: float) -> None:
            if self._progress is not None:
                self._progress(step, begin + (end - begin) * min(max(part, 0.0), 1.0))

        tick(0.0)
        began = time.perf_counter()
        yield tick
        self.ms[step] = self.ms.get(step, 0.0) + (time.perf_counter() - began) * 1000

    def __str__(self) -> str:
        return " ".join(f"{step.replace(' ', '_')}_ms={ms:.0f}" for step, ms in self.ms.items())
