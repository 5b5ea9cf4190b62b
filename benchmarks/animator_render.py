"""What a talking frame of the animator costs, step by step, and how its rig weighs.

OMP_NUM_THREADS=1 python -m benchmarks.animator_render [--size 512] [--avatar interviewer_woman] [--frames 300] [--threads 1] [--json FILE]

Times are CPU time of the drawing thread (a busy machine does not change what is counted, only how fast its shared caches are) beside
wall time. The row moves through the shapes of speech, so that the mouth is now wide open, now shut.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from museserve.messages import FloatArray
from musetalk.animator import render
from musetalk.animator.rig import Rig
from musetalk.avatars.builtin import shipped_portrait
from musetalk.speech_cues.controls import BROW_UP, GAZE_X, JAW, LIP_CLOSE, LOWER_DROP, N_CONTROLS, NOD, ROUND, UPPER_RAISE, WIDE

STEPS = ("_source_grid", "_combined_maps", "sample_at", "texture_with_eyes", "draw_relief", "_draw_mouth")


def load(name: str, size: int) -> Rig:
    shipped = shipped_portrait(name)
    return Rig.build(shipped.portrait, shipped.landmarks, size)


def babble(frames: int) -> FloatArray:
    """Rows (frames, N_CONTROLS) of something like speech: four syllables a second, some rounded, some shut."""
    t = np.arange(frames) / 25
    rows = np.zeros((frames, N_CONTROLS), np.float32)
    opening = np.maximum(np.sin(2 * np.pi * 4 * t), 0)
    rows[:, JAW] = 0.1 + 0.5 * opening
    rows[:, LOWER_DROP], rows[:, UPPER_RAISE] = 0.3, 0.25
    rows[:, ROUND] = np.maximum(np.sin(2 * np.pi * 1.1 * t), 0) * 0.8
    rows[:, WIDE] = np.maximum(-np.sin(2 * np.pi * 1.1 * t), 0) * 0.5
    rows[:, LIP_CLOSE] = np.where(np.sin(2 * np.pi * 1.7 * t) > 0.9, rows[:, JAW], 0)
    rows[:, NOD], rows[:, BROW_UP], rows[:, GAZE_X] = 0.5 * np.sin(3 * t), 0.3 * opening, 0.3 * np.sin(2 * t)
    return rows


def timed(work: Callable[[int], Any], count: int) -> tuple[list[float], list[float]]:
    """CPU and wall milliseconds of each call."""
    cpu, wall = [], []
    for n in range(count):
        cpu_start, wall_start = time.thread_time(), time.perf_counter()
        work(n)
        cpu.append((time.thread_time() - cpu_start) * 1e3)
        wall.append((time.perf_counter() - wall_start) * 1e3)
    return cpu, wall


def steps_of(rig: Rig, rows: FloatArray) -> dict[str, float]:
    """Mean CPU milliseconds a frame of each step of a talking frame, without those of the steps that it calls."""
    spent: dict[str, float] = defaultdict(float)
    within = [0.0]  # what the steps called by the running one have taken
    originals = {name: getattr(render, name) for name in STEPS}

    def clocked(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.thread_time()
            within.append(0.0)
            try:
                return originals[name](*arguments, **options)
            finally:
                took = (time.thread_time() - start) * 1e3
                spent[name] += took - within.pop()
                within[-1] += took

        return call

    try:
        for name in STEPS:
            setattr(render, name, clocked(name))
        for n, row in enumerate(rows):
            render.render_crop(rig, n, row)
    finally:
        for name, original in originals.items():
            setattr(render, name, original)
    return {name: round(spent[name] / len(rows), 3) for name in STEPS}


def nbytes(thing: Any) -> int:
    """Bytes of all arrays in nested dataclasses and tuples."""
    if isinstance(thing, np.ndarray):
        return thing.nbytes
    if isinstance(thing, tuple):
        return sum(map(nbytes, thing))
    return sum(map(nbytes, vars(thing).values())) if hasattr(thing, "__dict__") else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--avatar", default="interviewer_woman")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)

    build_start = time.thread_time()
    rig = load(options.avatar, options.size)
    build_ms = (time.thread_time() - build_start) * 1e3
    arrays = rig.to_arrays()
    load_cpu, _ = timed(lambda _: Rig.from_arrays(arrays), 5)
    rows = babble(options.frames)
    for n in range(20):
        render.render_crop(rig, n, rows[n])
    cpu, wall = timed(lambda n: render.render_crop(rig, n, rows[n]), options.frames)
    idle_cpu, _ = timed(lambda n: render.idle_frame(rig, n), min(options.frames, 100))

    start = time.perf_counter()
    with ThreadPoolExecutor(options.threads) as pool:
        list(pool.map(lambda n: render.render_crop(rig, n, rows[n]), range(options.frames)))
    together = options.frames / (time.perf_counter() - start)

    report = {
        "size": options.size,
        "box": [rig.box.x, rig.box.y, rig.box.w, rig.box.h],
        "crop_cpu_ms": {"median": round(statistics.median(cpu), 2), "p95": round(float(np.percentile(cpu, 95)), 2)},
        "crop_wall_ms": {"median": round(statistics.median(wall), 2), "p95": round(float(np.percentile(wall, 95)), 2)},
        "idle_frame_cpu_ms": round(statistics.median(idle_cpu), 2),
        "steps_cpu_ms": steps_of(rig, rows),
        "frames_per_second": {"threads": options.threads, "value": round(together, 1), "live_streams": round(together / 25, 1)},
        "build_cpu_ms": round(build_ms, 1),
        "load_cpu_ms": round(statistics.median(load_cpu), 1),
        "rig_mb": round(nbytes(rig) / 1e6, 2),
        "stored_mb": round(sum(array.nbytes for array in arrays.values()) / 1e6, 2),
    }
    text = json.dumps(report, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
