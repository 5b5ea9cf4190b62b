"""How long the service takes to start, and its memory: at rest, and with live streams. Of one checkout, or of two in turns.

    python -m benchmarks.start_memory [CHECKOUT ...] [--rounds N] [--out FILE]

Each start is a process of its own with a folder of its own, in which the shipped avatars were prepared by a start before, as on a machine
where it is installed. Memory is the proportional set size (PSS): pages that several processes share are counted once. The processor time
until it is ready, of all processes, tells more than the seconds where others use the machine. With two checkouts, each ratio is the
second's to the first's in the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from benchmarks.service import AVATARS, QUESTIONS, TEN_SECONDS
from benchmarks.viewer import watch
from museserve.app.ray_flags import free_port

STREAMS = 8
LOOK_S = 4.0  # into the streams, when all of them are live
START_S = 900.0  # longest wait for the address
OURS = re.compile(r"ray::(?:ServeReplica:museserve:|SERVE_REPLICA::museserve#)(\w+)")
# Every other process by what its command line has, the first that fits.
GROUPS = {
    "gcs and raylet": "core/src/ray/(gcs|raylet)/",
    "readers of foreign bytes": "museserve.runtime import foreign",
    "HAProxy": "haproxy -",
    "Serve's controller and proxies": r"ray::(ServeController|SERVE_|ProxyActor|HAProxyManager)",
    "idle workers": "ray::IDLE|default_worker",
    "agents": "ray::(DashboardAgent|RuntimeEnvAgent)|agent",
    "dashboard": "dashboard/dashboard.py|ray-dashboard|multiprocessing",
    "fork server and monitors": r"museserve.app.fork_|log_monitor|/monitor\.py|serve --config",
}


@dataclass
class Start:
    """One start. seconds until: `/health` is good, the address is printed. processor_s: of all its processes until then."""

    health_s: float
    ready_s: float
    processor_s: float
    rest_mib: dict[str, float]
    live_mib: dict[str, float]

    def figures(self) -> dict[str, float]:
        return {
            "health_s": self.health_s,
            "ready_s": self.ready_s,
            "processor_s": self.processor_s,
            "rest_mib": round(sum(self.rest_mib.values()), 1),
            "live_mib": round(sum(self.live_mib.values()), 1),
        }


@contextmanager
def service(checkout: Path, home: Path, fork: bool) -> Iterator[tuple[subprocess.Popen[str], str, float]]:
    """`museserve serve` of a checkout: its process, its address, and when it was started (time.perf_counter)."""
    config = home / "config.yaml"
    everybody = {"lipsync_streams": 100, "mux_streams": 100}
    # Without the cache, a text that was said before costs what a new one does.
    config.write_text(
        yaml.safe_dump(
            {
                "server": {"port": (port := free_port()), **({"fork_workers": True} if fork else {})},
                "cache": {"enabled": False},
                "capacity": everybody,
            }
        )
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("OPENAI_API_KEY", "PYTHONDONTWRITEBYTECODE")}
    environment |= {"PYTHONPATH": str(checkout), "MUSESERVE_HOME": str(home)}
    command = [sys.executable, "-c", "from museserve.app.cli import main; main()", "serve", "--config", str(config)]
    began = time.perf_counter()
    with (home / "service.log").open("w") as log:
        process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield process, f"http://127.0.0.1:{port}", began
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(120)
        process.kill()
        process.wait()


def start(checkout: Path, home: Path, rest_s: float, fork: bool = False) -> Start:
    """Raises RuntimeError: it did not get ready."""
    with service(checkout, home, fork) as (process, url, began):
        seen: list[float] = []
        health = threading.Thread(target=_healthy, args=(process, url, seen), daemon=True)
        health.start()
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"{checkout} did not start: {(home / 'service.log').read_text()[-2000:]}")
        ready_s, processor_s = time.perf_counter() - began, _processor_s(process.pid)
        health.join()
        for i, question in enumerate(QUESTIONS):
            watch(url, {"text": question, "avatar": AVATARS[i % 2]}, silence_s=600)
        time.sleep(rest_s)
        rest = by_group(process.pid)
        viewers = [
            threading.Thread(target=watch, args=(url, {"text": f"{i}. {TEN_SECONDS} {TEN_SECONDS}", "avatar": AVATARS[i % 2]}, None, 600.0))
            for i in range(STREAMS)
        ]
        for viewer in viewers:
            viewer.start()
        time.sleep(LOOK_S)
        live = by_group(process.pid)
        for viewer in viewers:
            viewer.join()
        return Start(round(seen[0] - began, 2), round(ready_s, 2), round(processor_s, 2), rest, live)


def _healthy(process: subprocess.Popen[str], url: str, seen: list[float]) -> None:
    while process.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                seen.append(time.perf_counter())
                return
        time.sleep(0.05)


def _family(pid: int) -> list[psutil.Process]:
    main = psutil.Process(pid)
    return [main, *main.children(recursive=True)]


def _processor_s(pid: int) -> float:
    """Of what runs and of what has ended below it."""
    total = 0.0
    for process in _family(pid):
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def by_group(pid: int) -> dict[str, float]:
    """MiB (PSS) by deployment and by kind of the other processes; a fork of the fork server that gives itself no name counts with it."""
    sizes: dict[str, float] = {}
    for process in _family(pid):
        with suppress(psutil.Error):
            name = "launcher" if process.pid == pid else group(" ".join(process.cmdline()))
            sizes[name] = round(sizes.get(name, 0.0) + process.memory_full_info().pss / 2**20, 1)
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def group(command: str) -> str:
    """What a process is, by its command line."""
    if replica := OURS.match(command):
        return replica.group(1)
    return next((name for name, pattern in GROUPS.items() if re.search(pattern, command)), "others")


def summary(starts: Sequence[Sequence[Start]]) -> dict[str, Any]:
    """starts: of each checkout, a round after the other."""
    last = [checkout[-1] for checkout in starts]
    told: dict[str, Any] = {
        "medians": [{key: statistics.median(s.figures()[key] for s in checkout) for key in checkout[0].figures()} for checkout in starts],
        "by_group": [{"rest_mib": one.rest_mib, "live_mib": one.live_mib} for one in last],
        "rounds": [[one.figures() for one in checkout] for checkout in starts],
    }
    if len(starts) == 2:
        pairs = [(a.figures(), b.figures()) for a, b in zip(*starts, strict=True)]
        told["second_to_first"] = {key: round(statistics.median(b[key] / a[key] for a, b in pairs), 3) for key in pairs[0][0]}
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path()], help="one folder with the project in it, or two")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fork", action="store_true", help="the last one with server.fork_workers; `. . --fork` compares with and without")
    parser.add_argument("--rest", type=float, default=15.0, help="seconds without a caller before memory is looked at")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/start_memory.json"))
    args = parser.parse_args()
    if len(args.checkouts) > 2:
        parser.error("one checkout, or two")
    checkouts = [checkout.resolve() for checkout in args.checkouts]
    starts: list[list[Start]] = [[] for _ in checkouts]
    machine = {"cores": os.cpu_count(), "cpu": platform.processor() or platform.machine(), "python": platform.python_version()}
    results: dict[str, Any] = {"machine": machine | {"load_average_before": round(os.getloadavg()[0], 1)}, "streams": STREAMS}
    with tempfile.TemporaryDirectory(prefix="start-", dir="/tmp") as folder:
        homes = [Path(folder) / str(i) for i in range(len(checkouts))]
        for round_ in range(args.rounds + 1):
            for number, (checkout, home, made) in enumerate(zip(checkouts, homes, starts, strict=True), 1):
                home.mkdir(exist_ok=True)
                one = start(checkout, home, args.rest if round_ else 0.0, args.fork and number == len(checkouts))
                print(f"{'prepared' if not round_ else f'round {round_}'}: {checkout}: {one.figures()}", flush=True)
                if round_:  # the one before it prepares the avatars and the bytecode
                    made.append(one)
    results |= summary(starts)
    print(json.dumps({key: results[key] for key in ("medians", "second_to_first", "by_group") if key in results}, indent=1))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
