"""The service as its clients see it: time to the first fragment, streams at once, the graph's cost, memory. Prints figures and writes JSON.

python -m benchmarks.service [latency] [streams] [graph] [memory] [--out FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.viewer import Viewing, watch
from configs.models import AppConfig, load_config
from museserve.app.inprocess import LocalPipeline, render_to_file
from museserve.app.local import running
from museserve.messages import SpeechRequest, VideoRequest
from museserve.timebase import FPS

QUESTIONS = (
    "Tell me about a project you are proud of, and what made it hard.",
    "How would you design a rate limiter for a public REST API?",
    "What is the difference between a process and a thread?",
    "Describe a conflict in your team and how you solved it.",
    "가장 자랑스러운 프로젝트를 소개해 주시고, 어려웠던 점을 말씀해 주세요.",
    "프로세스와 스레드의 차이를 설명해 주세요.",
)
TEN_SECONDS = (
    "Thank you for joining today. I would like you to walk me through a system that you designed, from the first sketch "
    "to production, and to tell me which decision you would make differently now."
)
REST_S = 12.0  # after which a replica has given back what its last work took for a moment
AVATARS = ("interviewer_woman", "interviewer_man")


def latency(url: str, clients: int, rounds: int) -> dict[str, Any]:
    """Text to first fragment over HTTP with so many clients asking at the same moment; each leaves when it has played to the end."""
    seen: list[Viewing] = []
    for r in range(rounds):
        # A number makes each text new, so that nothing can be remembered.
        bodies = [
            {"text": f"Question {r * clients + c + 1}. {QUESTIONS[(r + c) % len(QUESTIONS)]}", "avatar": AVATARS[c % 2]} for c in range(clients)
        ]
        seen += at_once([lambda b=b: watch(url, b) for b in bodies])  # type: ignore[misc]
        time.sleep(0.3)
    firsts = sorted(v.first_s * 1e3 for v in seen)
    stages = [dict(part.split(";dur=") for part in v.headers["server-timing"].split(", ")) for v in seen]
    return {
        "clients": clients,
        "requests": len(seen),
        "first_fragment_ms": {"p50": percentile(firsts, 50), "p95": percentile(firsts, 95), "max": round(firsts[-1], 1)},
        "server_stages_p50_ms": {k: round(statistics.median(float(s[k]) for s in stages), 1) for k in stages[0]},
    }


def streams(url: str, most: int, rounds: int, avatars: Sequence[str]) -> dict[str, Any]:
    """More and more viewers of about 10 s each, a quarter of a second apart, until one of them runs dry.

    A viewer starts to play when the first segment (0.32 s) is complete.
    """
    steps = []
    for n in range(1, most + 1):
        if n not in (1, 2, 4) and n < 5:
            continue
        late: list[float] = []
        first: list[float] = []
        others = 0.0
        for r in range(rounds):
            bodies = [{"text": f"Take {r}, number {i}. {TEN_SECONDS}", "avatar": avatars[i % len(avatars)]} for i in range(n)]
            before, machine = cpu_seconds(), machine_seconds()
            began = time.perf_counter()
            seen = at_once([lambda b=b, i=i: watch_later(url, b, 0.25 * i) for i, b in enumerate(bodies)])  # type: ignore[misc]
            took = time.perf_counter() - began
            cpu = (cpu_seconds() - before) / took
            others = max(others, (machine_seconds() - machine) / took - cpu)
            late += [v.worst_lateness_s * 1e3 for v in seen]
            first += [v.first_s * 1e3 for v in seen]
        steps.append(
            {
                "streams": n,
                "worst_lateness_ms": round(max(late), 1),
                "underrun": max(late) > 0,
                "first_fragment_p95_ms": percentile(sorted(first), 95),
                "cores_used": round(cpu, 2),
                "cores_used_by_others": round(others, 2),
            }
        )
        print("   ", steps[-1], flush=True)
        if max(late) > 0:
            break
    good = [s["streams"] for s in steps if not s["underrun"]]
    return {"most_without_underrun": max(good, default=0), "steps": steps}


def watch_later(url: str, body: dict[str, object], delay_s: float) -> Viewing:
    time.sleep(delay_s)
    return watch(url, body)


def graph_cost(url: str, config: AppConfig, rounds: int) -> dict[str, Any]:
    """A 10 s utterance as a finished file through the service and in this process, in turns."""
    local = LocalPipeline(config)
    request = VideoRequest("", "interviewer_woman", SpeechRequest(TEN_SECONDS, "nova", 1.1), paced=False)
    through, alone, length = [], [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        for r in range(rounds + 1):
            began = time.perf_counter()
            answer = httpx.post(f"{url}/v1/videos", json={"text": TEN_SECONDS, "voice": "nova", "stream": False}, timeout=120)
            answer.raise_for_status()
            middle = time.perf_counter()
            made, _ = asyncio.run(render_to_file(local, request, Path(folder) / "a.mp4"))
            if r:  # the first round warms both
                through.append(middle - began)
                alone.append(time.perf_counter() - middle)
            length = (made[-1].total_frames or 0) / FPS
    ratios = [a / b for a, b in zip(through, alone, strict=True)]
    return {
        "video_s": length,
        "service_s": round(statistics.median(through), 2),
        "one_process_s": round(statistics.median(alone), 2),
        "ratio": round(statistics.median(ratios), 2),
        "one_process_per_10_s_of_video_s": round(statistics.median(alone) / length * 10, 2),
    }


def memory(url: str, utterances: int) -> dict[str, Any]:
    """Memory by process before, with six live, and at rest after many utterances. PSS where the system tells it: shared pages are counted once."""
    for _ in range(5):
        httpx.post(f"{url}/v1/videos", json={"text": QUESTIONS[0], "stream": False}, timeout=60)
    before = by_process()
    live: dict[str, float] = {}

    def look() -> None:
        time.sleep(2.0)
        live.update(by_process())

    at_once([look, *[lambda i=i: watch(url, {"text": f"{i}. {TEN_SECONDS}", "avatar": AVATARS[i % 2]}) for i in range(6)]])
    half: dict[str, float] = {}
    for i in range(utterances):
        httpx.post(f"{url}/v1/videos", json={"text": f"{i}. {QUESTIONS[i % len(QUESTIONS)]}", "avatar": AVATARS[i % 2], "stream": False}, timeout=60)
        if i == utterances // 2:
            time.sleep(REST_S)
            half = by_process()
    time.sleep(REST_S)
    after = by_process()
    return {
        "mib_before": before,
        "mib_total_before": round(sum(before.values())),
        "mib_per_live_utterance": round((sum(live.values()) - sum(before.values())) / 6, 1),
        "mib_after": after,
        "grown_mib": grown(before, after),
        "grown_second_half_mib": grown(half, after),
        "utterances": utterances,
    }


def grown(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Of Serve's processes that were seen both times."""
    return {name: round(after[name] - before[name], 1) for name in after if "Serve" in name and name in before}


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    results: list[Any] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def run(i: int) -> None:
        gate.wait()
        results[i] = calls[i]()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [r for r in results if r is not None]


def by_process() -> dict[str, float]:
    """MiB of this process's children by name, replicas of a deployment added up."""
    sizes: dict[str, float] = {}
    for process in psutil.Process().children(recursive=True):
        try:
            name = " ".join(process.cmdline()[:1]).split("#")[0][-60:] or process.name()
            info = process.memory_full_info()
        except (psutil.Error, OSError):
            continue
        name = name.rsplit("/", 1)[-1]
        sizes[name] = round(sizes.get(name, 0.0) + getattr(info, "pss", info.rss) / 2**20, 1)
    return sizes


def cpu_seconds() -> float:
    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            total += sum(process.cpu_times()[:2])
        except psutil.Error:
            continue
    return total


def machine_seconds() -> float:
    """Processor time that the whole machine has spent so far; beside `cpu_seconds` it tells what others took from a figure."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0))


def percentile(ordered: list[float], p: int) -> float:
    return round(ordered[min(len(ordered) - 1, round(p / 100 * (len(ordered) - 1)))], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["latency", "streams", "graph", "memory"])
    parser.add_argument("--config", default="local")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/service.json"))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    # Without the cache: a text that was asked before costs nothing. Nobody is refused: how many are too many is what is measured.
    everybody = {"lipsync_streams": 100, "mux_streams": 100}
    config = load_config(args.config, {"server": {"port": 0, "dashboard_port": 0}, "cache": {"enabled": False}, "capacity": everybody})
    results: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "cpu": platform.processor() or platform.machine(), "python": platform.python_version()}
    }
    with running(config) as url:
        watch(url, {"text": QUESTIONS[0]})
        for part in args.parts:
            if part == "latency":
                results["latency_1"] = latency(url, 1, 40)
                results["latency_4"] = latency(url, 4, 10)
            elif part == "streams":
                # The man's English voice costs eight times the woman's, so both figures are worth knowing.
                results["streams_woman"] = streams(url, 14, args.rounds, AVATARS[:1])
                results["streams_both"] = streams(url, 14, args.rounds, AVATARS)
            elif part == "graph":
                results["graph"] = graph_cost(url, config, args.rounds + 2)
            elif part == "memory":
                results["memory"] = memory(url, 200)
            else:
                parser.error(f"unknown part {part}")
            print(json.dumps({k: v for k, v in results.items() if k.startswith(part)}, indent=1, ensure_ascii=False), flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
