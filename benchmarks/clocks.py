"""A card's clocks, power and what holds them down, several times a second while something else is measured: `nvidia-smi` writes them."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Any

FIELDS = "clocks.sm,clocks.mem,power.draw,temperature.gpu"  # MHz, MHz, W, degrees
HELD_DOWN = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")  # a bit mask, by its names in newer drivers and older ones
EVERY_MS = 100
REASONS = {
    0x1: "idle",
    0x2: "clocks were set",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "heat, by software",
    0x40: "heat, by hardware",
    0x80: "power brake",
    0x100: "display clocks",
}


@dataclass(frozen=True)
class Sample:
    at: float  # of `time.perf_counter`
    sm_mhz: float
    memory_mhz: float
    watts: float
    celsius: float
    reasons: int

    @classmethod
    def parse(cls, at: float, line: str) -> Sample | None:
        """A line of `nvidia-smi`; None where the card does not tell one of the values."""
        try:
            sm, memory, watts, celsius, reasons = (part.strip() for part in line.split(","))
            return cls(at, float(sm), float(memory), float(watts), float(celsius), int(reasons, 16))
        except ValueError:
            return None


class Clocks:
    """Sampled from `with` to its end, by a process of its own; without `nvidia-smi` there is nothing to tell."""

    def __init__(self) -> None:
        self._samples: list[Sample] = []
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Clocks:
        queries = [["nvidia-smi", f"--query-gpu={FIELDS},{name}", "--format=csv,noheader,nounits", "--id=0"] for name in HELD_DOWN]
        known = (query for query in queries if shutil.which(query[0]) and _answers(query))
        if (query := next(known, None)) is not None:
            self._process = subprocess.Popen([*query, f"-lms={EVERY_MS}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            sample = Sample.parse(time.perf_counter(), line)
            if sample is not None:
                self._samples.append(sample)

    def between(self, began: float, ended: float) -> dict[str, Any] | None:
        """What was seen from one `time.perf_counter` to another; None where nothing was."""
        return summary([sample for sample in self._samples if began <= sample.at <= ended])


def _answers(query: list[str]) -> bool:
    asked = subprocess.run(query, capture_output=True, text=True, check=False, timeout=60)
    return asked.returncode == 0 and Sample.parse(0.0, asked.stdout) is not None


def summary(seen: list[Sample]) -> dict[str, Any] | None:
    if not seen:
        return None
    named: dict[str, float] = {}
    for bit, name in REASONS.items():
        part = sum(bool(sample.reasons & bit) for sample in seen) / len(seen)
        if part:
            named[name] = round(part, 3)
    return {
        "samples": len(seen),
        "sm_mhz": _spread([sample.sm_mhz for sample in seen]),
        "memory_mhz": _spread([sample.memory_mhz for sample in seen]),
        "watts": _spread([sample.watts for sample in seen]),
        "celsius_at_most": max(sample.celsius for sample in seen),
        "held_down_by": named,  # part of the samples
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"least": min(values), "median": statistics.median(values), "most": max(values)}
