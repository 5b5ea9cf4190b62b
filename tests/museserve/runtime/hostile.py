"""What a parser may do with a stranger's bytes. Run in a reader."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from museserve.errors import AudioError


def doubled(data: bytes) -> NDArray[np.float32]:
    return np.frombuffer(data, np.uint8).astype(np.float32).reshape(2, -1) * 2


def counted(n: int) -> Iterator[NDArray[np.uint8]]:
    for i in range(n):
        yield np.full((4, 3), i, np.uint8)
    return {"n": n}  # type: ignore[return-value]


def refused(data: bytes) -> None:
    raise AudioError(f"{len(data)} bytes are no sound")


def confused(data: bytes) -> None:
    raise KeyError("an accident")


def dies(data: bytes) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs(data: bytes) -> None:
    time.sleep(600)


def burns(data: bytes) -> None:
    while True:
        pass


def hoards(data: bytes) -> NDArray[np.uint8]:
    return np.ones(10**9, np.uint8)


def shouts(data: bytes) -> NDArray[np.uint8]:
    os.write(1, b"this is no answer")
    return np.zeros(3, np.uint8)


def looks_around(data: bytes) -> dict[str, object]:
    return {"environment": sorted(os.environ)}


def whole_number(data: bytes) -> NDArray[np.int64]:
    return np.zeros(3, np.int64)
