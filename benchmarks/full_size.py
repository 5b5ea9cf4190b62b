"""The real size on a CPU: the 850 M parameter UNet, the autoencoder and Whisper, with generated weights in the published formats, film one segment
through the whole graph. Prints seconds and memory, and writes benchmarks/results/full_size.json.

    python -m benchmarks.full_size [--folder FOLDER]

Needs 4.5 GB of disk, about 10 GB of memory and some minutes. FOLDER keeps the generated files for the next time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.generated_avatars import write_avatars
from benchmarks.generated_models import write_models
from benchmarks.machine import machine
from configs.models import AppConfig, parse_config
from museserve.app import local
from museserve.timebase import SEGMENT_FRAMES, SPEECH_RATE
from tests.decoded import frames
from tests.musetalk.faces.parser_weights import save_parser
from tests.sounds import encoded

OUT = Path("benchmarks/results/full_size.json")
AUDIO_S = 0.32
BATCH = 2  # frames at once: what bounds the memory


def deployment(process: psutil.Process) -> str:
    """The deployment whose replica this process is; empty for others."""
    name = (process.cmdline() or [""])[0]
    return name.split(":")[4].split("#")[0].split(".")[0] if name.startswith("ray::ServeReplica:museserve:") else ""


def drawing_cpu_s() -> float:
    """Processor time that LipSync has taken so far: on a busy machine it says more than seconds."""
    replicas = [p for p in psutil.Process().children(recursive=True) if deployment(p) == "LipSync"]
    return float(sum(sum(p.cpu_times()[:2]) for p in replicas))


class Memory(threading.Thread):
    """The most memory that each deployment's process had, looked at five times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_mb: dict[str, int] = {}
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                try:
                    box = deployment(process)
                    if box:
                        self.peak_mb[box] = max(self.peak_mb.get(box, 0), process.memory_info().rss // 2**20)
                except psutil.NoSuchProcess:
                    continue

    def end(self) -> dict[str, int]:
        self._ended.set()
        self.join()
        return self.peak_mb


def configured(folder: Path, home: str, threads: int) -> AppConfig:
    return parse_config(
        {
            "server": {"port": 0, "dashboard_port": 0},
            "weights": {"uri": str(folder), "unpublished": True},
            "avatars": {"uri": home},
            "lipsync": {"engine": "musetalk", "musetalk": {"device": "cpu", "threads": threads, "batch_sizes": [BATCH]}},
            "mux": {"segment_timeout_s": 3_600},
            "cache": {"uri": home + "-utterances"},
        }
    )


def segment(url: str) -> dict[str, Any]:
    """One segment of recorded speech over HTTP."""
    t = np.arange(round(AUDIO_S * SPEECH_RATE)) / SPEECH_RATE
    sound = encoded((0.3 * np.sin(2 * np.pi * 150 * t)).astype(np.float32), "wav")
    began, before = time.perf_counter(), drawing_cpu_s()
    answer = httpx.post(f"{url}/v1/videos", files={"audio": ("a.wav", sound)}, data={"stream": "false"}, timeout=3_600)
    took, cpu = time.perf_counter() - began, drawing_cpu_s() - before
    answer.raise_for_status()
    return {
        "segments": len(frames(answer.content)) / SEGMENT_FRAMES,
        "seconds": round(took, 1),
        "drawing_cpu_seconds": round(cpu, 1),
        "engine": answer.headers["x-engine"],
    }


def measure(folder: Path, scratch: Path, threads: int) -> dict[str, Any]:
    """Write the models into `folder` unless they are there, start the service on them and film a segment. Megabytes are resident ones, at most."""
    results: dict[str, Any] = {"machine": machine(), "threads": threads, "batch": BATCH}
    if not (folder / "sd-vae").exists():
        write_models(folder, "full")
        save_parser(folder / "face-parse-bisent/79999_iter.pth")
    results["weights_gb"] = round(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e9, 2)
    config = configured(folder, str(scratch / "home"), threads)
    write_avatars(config)
    local._rehearse = lambda url, access: None  # three sentences at seconds a frame
    memory = Memory()
    memory.start()
    began = time.perf_counter()
    with local.running(config) as url:
        results["start_s"] = round(time.perf_counter() - began, 1)
        results["segment"] = segment(url)
        results["health"] = httpx.get(f"{url}/health", timeout=60).json()["engine"]
        results["peak_rss_mb"] = memory.end()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        results = measure(args.folder or Path(scratch) / "models", Path(scratch), args.threads)
    print(json.dumps(results, indent=1))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
