"""What a service holds while it runs, and what is left of it afterwards: memory, files, threads, sessions, calls."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

REPLICA = re.compile(r"^ray::ServeReplica:museserve:(\w+)")
ANONYMOUS = re.compile(r"^Pss_Anon: +(\d+) kB", re.MULTILINE)
YOUNG_S = 600.0  # a process fills its pools and caches for so long
LONG_S = 900.0  # a trend over less tells nothing of a leak
FEWEST = 8  # samples of a process that tell a trend
LEAK_MIB_H = 30.0  # a trend whose lower bound is above this is a leak
LEAK_NUMBER_H = 30.0  # the same of threads and open files


@dataclass
class Sample:
    at: float
    memory_mib: float
    threads: int
    files: int


@dataclass
class Held:
    """Samples by deployment and process. `now` on one clock with the faults."""

    samples: dict[tuple[str, int], list[Sample]] = field(default_factory=lambda: defaultdict(list))

    def look(self, root: int, now: float) -> None:
        """Memory is the anonymous part of the proportional set where the system tells it: pages that are shared count once, and mapped
        avatars, whose shares grow when another process that had them dies, do not."""
        for process in psutil.Process(root).children(recursive=True):
            try:
                name = named(process)
                if name and time.time() - process.create_time() > YOUNG_S:
                    self.samples[name, process.pid].append(Sample(now, memory_mib(process), process.num_threads(), process.num_fds()))
            except (psutil.Error, OSError):
                continue

    def trends(self) -> dict[str, dict[str, Any]]:
        """For each deployment the growth an hour of memory, threads and open files, with the bounds of 95 %."""
        names = sorted({name for name, _ in self.samples})
        told = {}
        for name in names:
            runs = [samples for (each, _), samples in self.samples.items() if each == name and len(samples) >= FEWEST]
            if not runs:
                continue
            rates = {
                what: trend([[(sample.at, float(getattr(sample, what))) for sample in samples] for samples in runs])
                for what in ("memory_mib", "threads", "files")
            }
            seconds = max(samples[-1].at - samples[0].at for samples in runs)
            told[name] = {"processes": len(runs), "samples": sum(map(len, runs)), "longest_s": round(seconds), **rates}
        return told

    def leaks(self) -> list[str]:
        found = []
        for name, rates in self.trends().items():
            if rates["longest_s"] < LONG_S:
                continue
            for what, most in (("memory_mib", LEAK_MIB_H), ("threads", LEAK_NUMBER_H), ("files", LEAK_NUMBER_H)):
                rate = rates[what]
                if rate["low"] > most:
                    found.append(f"{name}: {what} grows by {rate['an_hour']:g} an hour (95 %: {rate['low']:g} to {rate['high']:g})")
        return found


def memory_mib(process: psutil.Process) -> float:
    with suppress(OSError):
        found = ANONYMOUS.search(Path(f"/proc/{process.pid}/smaps_rollup").read_text())
        if found:
            return int(found.group(1)) / 1_024
    return process.memory_full_info().rss / 2**20


def named(process: psutil.Process) -> str:
    """The deployment whose replica it is, or haproxy; empty for anything else."""
    words = process.cmdline()
    if not words:
        return ""
    found = REPLICA.match(words[0])
    return found.group(1) if found else "haproxy" if words[0].endswith("haproxy") else ""


def trend(runs: Sequence[Sequence[tuple[float, float]]]) -> dict[str, float]:
    """Growth an hour that several processes share, each from a level of its own: (seconds, value) in order of time.

    Samples that follow each other are alike, so they count for fewer: the bounds are widened by the residuals' own correlation.
    """
    times = [np.array([at for at, _ in run]) / 3_600 for run in runs]
    values = [np.array([value for _, value in run]) for run in runs]
    t = np.concatenate([each - each.mean() for each in times])
    v = np.concatenate([each - each.mean() for each in values])
    spread = float((t**2).sum())
    if spread == 0:
        return {"an_hour": 0.0, "low": 0.0, "high": 0.0}
    slope = float((t * v).sum()) / spread
    rest = v - slope * t
    power = float((rest**2).sum())
    alike = float((rest[1:] * rest[:-1]).sum()) / power if power > 0 else 0.0
    alike = min(max(alike, 0.0), 0.95)
    freedom = max(1.0, (len(v) - len(runs)) * (1 - alike) / (1 + alike) - 1)
    error = (power / freedom / spread) ** 0.5
    return {"an_hour": round(slope, 2), "low": round(slope - 1.96 * error, 2), "high": round(slope + 1.96 * error, 2)}


def files_below(*folders: Path) -> set[str]:
    """Every file, by its path, with what a disk holds under no name left out."""
    return {str(path) for folder in folders for path in folder.rglob("*") if path.is_file()}
