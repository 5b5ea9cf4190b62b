"""How many clients a service carries: more and more of them, each speaking without a pause, until an objective breaks.

    python -m benchmarks.load [--url http://... [--key KEY]] [--clients sessions|videos|both] [--soak MINUTES] [--out FILE]

Clients play at 25 fps and judge what they get: first fragment, underruns, the order of both tracks, and by watermarks in
sound and picture whether it is theirs. Then the highest number without a fault is held for --soak minutes, a step less
where that was too many, and after it one step more, where the service should refuse and never let those dry whom it
admitted. Without --url a service of its own is started. Exits 1 when the long run has a fault, or the step above an underrun.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.load import report
from benchmarks.load.clients import Client, Service, Talker, Viewer, mark_avatars, unmark_avatars

APART_S = 0.4  # between clients that join
KINDS: dict[str, list[type[Client]]] = {"sessions": [Talker], "videos": [Viewer], "both": [Talker, Viewer]}
SETTLE_S = 5.0  # after which those that joined are judged


@contextmanager
def own_service(config: dict[str, Any]) -> Iterator[tuple[str, psutil.Process]]:
    """A service in processes of its own, with an empty store. It ends with this process, also when that is told to."""
    from tests.conftest import start, stop

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))

    with tempfile.TemporaryDirectory() as folder:
        process, service = start(Path(folder), {"server": {"port": 0, "dashboard_port": 0}, **config})
        try:
            yield service.url, psutil.Process(service.pid)
        finally:
            stop(process)


def cpu_seconds(process: psutil.Process | None) -> float | None:
    """Of a process and all below it."""
    if process is None:
        return None
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        try:
            total += sum(each.cpu_times()[:2])
        except psutil.Error:
            continue
    return total


def own_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Crowd:
    """Clients that run side by side."""

    def __init__(self, service: Service, kinds: str, server: psutil.Process | None) -> None:
        self._service, self._server = service, server
        self._kinds = KINDS[kinds]
        self._running: list[tuple[Client, asyncio.Task[None]]] = []
        self._made = 0

    async def grow(self, n: int) -> None:
        while len(self._running) < n:
            client = self._kinds[self._made % len(self._kinds)](self._service, f"client{self._made}")
            self._made += 1
            self._running.append((client, asyncio.create_task(client.run())))
            await asyncio.sleep(APART_S)

    async def shrink(self, n: int) -> None:
        leaving, self._running = self._running[n:], self._running[:n]
        for client, _ in leaving:
            client.stop.set()
        await asyncio.gather(*(task for _, task in leaving))

    async def hold(self, seconds: float) -> dict[str, Any]:
        """What those that run see in the next `seconds`; utterances count where they end."""
        await asyncio.sleep(SETTLE_S)
        began, cpu, own = time.perf_counter(), cpu_seconds(self._server), own_cpu_seconds()
        await asyncio.sleep(seconds)
        took, after = time.perf_counter() - began, cpu_seconds(self._server)
        for client, task in self._running:
            if task.done():
                raise RuntimeError(f"{client.name} has stopped") from task.exception()
        seen = [each for each in self._service.played if began <= each.over <= began + took]
        return {
            "n": len(self._running),
            "minutes": round(took / 60, 2),
            **report.figures(seen),
            "cores_service": None if cpu is None or after is None else round((after - cpu) / took, 2),
            "cores_clients": round((own_cpu_seconds() - own) / took, 3),
        }


async def measure(args: argparse.Namespace, url: str, server: psutil.Process | None) -> dict[str, Any]:
    service = Service(url, args.key, secrets.token_hex(3), args.speech)
    unmarked = await mark_avatars(service) if args.pictures else "not asked for"
    if unmarked:
        print(f"pictures are not judged: {unmarked}", flush=True)
    crowd = Crowd(service, args.clients, server)
    results: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "cpu": platform.processor() or platform.machine(), "load_before": round(os.getloadavg()[0], 2)},
        "clients": f"{args.clients} of {'texts and recordings' if args.speech == 'both' else args.speech + 's'}",
        "first_ms": args.first_ms,
        "unmarked": unmarked,
        "steps": [],
    }
    try:
        n, most = args.first, 0
        while n <= args.most:
            await crowd.grow(n)
            step = await crowd.hold(args.hold)
            step["broken"] = report.broken(step, args.first_ms)
            results["steps"].append(step)
            print(
                f"  {n}: {'; '.join(step['broken']) or 'good'}; {json.dumps(step['first_fragment_ms'])}, in hand {step['least_in_hand_s']}",
                flush=True,
            )
            if step["broken"]:
                break
            most, n = n, n + args.step
        if args.soak and most:
            while True:  # what went well for some seconds may not for minutes
                await crowd.shrink(most)
                soak = await crowd.hold(args.soak * 60)
                soak["broken"] = report.broken(soak, args.first_ms)
                print(f"  long run of {most}: {'; '.join(soak['broken']) or 'good'}", flush=True)
                if not soak["broken"] or most <= args.step:
                    break
                results["steps"].append(soak)
                most -= args.step
            results["soak"] = soak
            await crowd.grow(most + args.step)
            results["above"] = await crowd.hold(min(args.soak, 2.0) * 60)
            above = results["above"]
            print(f"  one step above: {above['refused']} refused, {above['delayed']} delayed, {above['underruns']} underruns", flush=True)
        results["most"] = most
        await crowd.shrink(0)
        await asyncio.to_thread(service.bench.finish)
        # What was compared after its stretch had been summed up is told as a whole.
        results["whole_run"] = report.figures(service.played)
    finally:
        await unmark_avatars(service, list(service.colours))
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="", help="of a service that runs; without it one is started")
    parser.add_argument("--key", default="", help="API key of that service")
    parser.add_argument("--config", type=Path, help="YAML for the service that is started")
    parser.add_argument("--clients", choices=tuple(KINDS), default="sessions")
    parser.add_argument("--speech", choices=("text", "recording", "both"), default="both")
    parser.add_argument("--pictures", action=argparse.BooleanOptionalAction, default=True, help="make marked avatars, and delete them at the end")
    parser.add_argument("--first", type=int, default=1, help="clients of the first step")
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--most", type=int, default=32)
    parser.add_argument("--hold", type=float, default=30.0, help="seconds of a step")
    parser.add_argument("--soak", type=float, default=0.0, help="minutes at the highest number without a fault")
    parser.add_argument("--first-ms", type=float, default=1_000.0, help="objective of the first fragment's p95")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/load.json"))
    args = parser.parse_args()
    if args.url:
        results = asyncio.run(measure(args, args.url.rstrip("/"), None))
    else:
        config = yaml.safe_load(args.config.read_text()) if args.config else {}
        with own_service(config) as (url, server):
            results = asyncio.run(measure(args, url, server))
    report.write(results, args.out)
    print(report.page(results))
    soak, above = results.get("soak"), results.get("above")
    return int(bool(not results["most"] or (soak and soak["broken"]) or (above and above["underruns"])))


if __name__ == "__main__":
    sys.exit(main())
