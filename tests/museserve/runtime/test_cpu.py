"""Cores: quotas of containers, and work done side by side in order."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from museserve.runtime import cpu

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no niceness of their own")


def _bound() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@pytest.mark.parametrize(
    ("written", "granted"),
    [("50000 100000", 1), ("100000 100000", 1), ("150000 100000", 2), ("10000 100000", 1), ("max 100000", None), ("nonsense", None), ("1 0", None)],
)
def test_a_containers_quota(tmp_path: Path, written: str, granted: int | None) -> None:
    (tmp_path / "cpu.max").write_text(written + "\n")
    assert cpu.usable_cores(tmp_path) == (_bound() if granted is None else min(granted, _bound()))


@pytest.mark.parametrize(("quota", "granted"), [("-1", None), ("100000", 1)])
def test_a_quota_of_the_first_version(tmp_path: Path, quota: str, granted: int | None) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cpu.usable_cores(tmp_path) == (granted or _bound())


@pytest.mark.parametrize(("given", "cores"), [(0.0, 1), (0.3, 1), (1.0, 1), (1.5, 2), (500.0, _bound())])
def test_what_a_process_was_given(tmp_path: Path, given: float, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_given", None)
    cpu.keep_to(given)
    assert cpu.usable_cores(tmp_path) == min(cores, _bound())


BUSY = """
import os, threading

def native():
    return len(os.listdir("/proc/self/task")) - threading.active_count()

import numpy as np
a = np.random.default_rng(0).random((700, 700), np.float32)
a @ a
blas = native()

import asyncio, cv2, onnxruntime, pyarrow as pa, pyarrow.compute
from configs.models import ClipConfig, SpeechConfig
from museserve.media.clip import read_clip
from museserve.messages import SpeechRequest
from museserve.speech.synthesizer import Synthesizer
from tests.museserve.media.films import film, hdr_film, marked

async def speak(synthesizer):
    for voice in ("nova", "onyx"):
        async for _ in synthesizer.stream(SpeechRequest("Hello there, how are you?", voice)):
            pass

pa.compute.sort_indices(pa.array([3, 1, 2]))  # its allocator has a thread of its own, and so has onnxruntime
before = native()
pa.compute.sort_indices(pa.array(a.reshape(-1)))
cv2.resize(np.repeat(a[:, :, None], 3, 2), (3000, 3000))
asyncio.run(speak(Synthesizer(SpeechConfig(engine="offline"))))
for clip in (film(marked(i, 1280, 720) for i in range(30)), hdr_film([marked(i, 640, 480) for i in range(30)], "HLG", codec="libx264")):
    for _ in read_clip(clip, ClipConfig()):
        pass
print(blas, native() - before)
"""


@linux
def test_libraries_start_no_threads() -> None:
    """BLAS, Arrow, OpenCV, onnxruntime and FFmpeg, as in the processes of Ray and in those that read uploads."""
    root = Path(__file__).resolve().parents[3]
    ran = subprocess.run(
        [sys.executable, "-c", BUSY], env={**os.environ, **cpu.ONE_THREAD_EACH}, cwd=root, capture_output=True, text=True, timeout=300
    )
    assert ran.stdout.split() == ["0", "0"], ran.stdout + ran.stderr


def test_no_quota(tmp_path: Path) -> None:
    assert cpu.usable_cores(tmp_path) == _bound()


def test_side_by_side_keeps_the_order() -> None:
    def slow_when_even(n: int) -> int:
        time.sleep(0.01 * (n % 2 == 0))
        return n * n

    assert list(cpu.parallel_map(slow_when_even, iter(range(20)), 3)) == [n * n for n in range(20)]


def test_two_at_a_time() -> None:
    both = threading.Barrier(2, timeout=10)
    assert len(list(cpu.parallel_map(lambda _: both.wait(), range(6), 2))) == 6


def test_whoever_stops_listening_ends_the_work() -> None:
    begun: list[int] = []
    results = cpu.parallel_map(lambda n: begun.append(n), range(1_000), 2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    seen = len(begun)
    time.sleep(0.05)
    assert len(begun) == seen <= 5


def test_an_error_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        list(cpu.parallel_map(lambda n: 1 // n, [1, 0], 2))


@linux
def test_its_threads_go_last() -> None:
    def niceness(_: int) -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    own = niceness(0)
    assert set(cpu.parallel_map(niceness, range(4), 2)) == {min(own + cpu.NICENESS, 19)}
    assert niceness(0) == own
