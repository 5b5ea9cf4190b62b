"""The processor cores of this process: how many it may use, and threads that leave them to others."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

NICENESS = 10  # of what can wait, beside the process's own: a tenth of the share of a thread that draws, while one does
LEAST_PRIORITY = 19
CGROUPS = Path("/sys/fs/cgroup")

# In a process's environment from its start, for BLAS, PyTorch, Arrow and OpenCV. onnxruntime and FFmpeg are told where they are called.
ONE_THREAD_EACH = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}
SHARED = "MUSESERVE_SHARED_CORES"  # set where processes share all cores of their machine, whatever each was given

_given: float | None = None


def keep_to(cores: float) -> None:
    """What this process was given, of which `usable_cores` is no more from now on; parts of a core count as one."""
    global _given
    _given = cores


def usable_cores(cgroups: Path = CGROUPS) -> int:
    """At least 1: the machine's cores, or fewer where this process is bound to some of them, was given some of them, or its container has a
    quota of their time."""
    bound = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    limits = [bound, *([] if (quota := _quota(cgroups)) is None else [round(quota)]), *([] if _given is None else [math.ceil(_given)])]
    return max(1, min(limits))


def lower_priority() -> None:
    """Let the threads that somebody waits for go first, for as long as this one lives. Only Linux tells threads apart."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(os.getpriority(os.PRIO_PROCESS, thread) + NICENESS, LEAST_PRIORITY))


def parallel_map(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """`work` of each item, in order, by threads that go last. Takes a few items more than there are threads before the first result is wanted."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="patience", initializer=lower_priority)
    ahead: deque[Future[R]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _quota(cgroups: Path) -> float | None:
    """Seconds of processor time that a container's control group grants a second, None = no limit. Version 2 keeps both numbers in one file."""
    try:
        if (both := cgroups / "cpu.max").is_file():
            granted, period = both.read_text().split()
        else:
            granted, period = ((cgroups / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return None if granted in ("max", "-1") else int(granted) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
