"""What traces cost: processor time of four streams with tracing off, and with every request traced into files.

    python -m benchmarks.tracing [--rounds N] [--out FILE]

The shares are those of a stream's processor time: spans that a second of stream makes, as the traced run counts them, times
what one takes, while tracing is off and with the file exporter. The service's own time, both ways, what it takes at rest
subtracted, stands beside them: on a machine with other work it differs by more than traces cost.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from benchmarks.service import TEN_SECONDS, at_once, cpu_seconds
from benchmarks.viewer import watch
from configs.models import SPANS_DIR, load_config
from deployments import tracing
from museserve.app.local import running
from museserve.timebase import FPS, SEGMENT_FRAMES

STREAMS = 4
REST_S = 4.0
SERVES = ("route_to_replica", "replica_handle_request")


def streams(traced: bool, rounds: int) -> dict[str, Any]:
    """Processor milliseconds that a second of stream takes, one figure a round, and the spans that it leaves."""
    over = {"server": {"port": 0, "dashboard_port": 0}, "tracing": {"enabled": traced, "exporter": "file", "sampling_ratio": 1.0}}
    with tempfile.TemporaryDirectory() as folder:
        os.environ[SPANS_DIR] = folder
        figures, seconds = [], 0.0
        with running(load_config("local", over)) as url:
            for round_ in range(rounds + 1):
                rest = cpu_seconds()
                time.sleep(REST_S)
                idle = (cpu_seconds() - rest) / REST_S
                before, began = cpu_seconds(), time.perf_counter()
                bodies = [{"text": f"Round {round_}, number {i}. {TEN_SECONDS}"} for i in range(STREAMS)]
                seen = at_once([lambda body=body: watch(url, body) for body in bodies])  # type: ignore[misc]
                used = cpu_seconds() - before - idle * (time.perf_counter() - began)
                spoken = sum(one.fragments[-1][1] + SEGMENT_FRAMES / FPS for one in seen)
                if round_:  # the first fills what is cold
                    figures.append(round(1e3 * used / spoken, 2))
                seconds += spoken
        names = [json.loads(line)["name"] for path in Path(folder).glob("*.jsonl") for line in path.read_text().splitlines()]
    ours = sum(not name.startswith(SERVES) for name in names)
    return {"cpu_ms_a_stream_second": figures, "spans_a_stream_second": round(len(names) / seconds, 1), "ours": round(ours / seconds, 1)}


def call() -> None:
    with tracing.span("render", root=True, engine="animator", frames=8) as span:
        tracing.note_on(span, queue_ms=1.0)


def each_us(calls: int = 10_000) -> float:
    """Microseconds of one span, or of none while tracing is off."""
    return min(timeit.repeat(call, number=calls, repeat=5)) / calls * 1e6


def shares(results: dict[str, Any]) -> dict[str, float]:
    off, on = (statistics.median(results[run]["cpu_ms_a_stream_second"]) for run in ("off", "on"))
    tracing._tracer = None
    idle_us = each_us()
    with tempfile.TemporaryDirectory() as folder:
        os.environ[SPANS_DIR] = folder
        provider = TracerProvider()
        provider.add_span_processor(tracing.file()[0])
        tracing._tracer = provider.get_tracer("benchmark")
        span_us = each_us(1_000)
    return {
        "call_while_off_us": round(idle_us, 2),
        "span_us": round(span_us, 1),
        "off_percent": round(idle_us * results["on"]["ours"] / off / 10, 4),
        "on_percent": round(span_us * results["on"]["spans_a_stream_second"] / off / 10, 2),
        "on_against_off_percent": round(100 * (on / off - 1), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tracing.json"))
    parser.add_argument("--run", choices=("off", "on"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        print(json.dumps(streams(args.run == "on", args.rounds)))
        return
    results: dict[str, Any] = {}
    for run in ("off", "on"):  # each in a process of its own, because Ray reads its environment once
        command = [sys.executable, "-m", "benchmarks.tracing", "--run", run, "--rounds", str(args.rounds)]
        results[run] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()[-1])
        print(run, json.dumps(results[run]), flush=True)
    results["shares"] = shares(results)
    print(json.dumps(results["shares"]))
    args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
