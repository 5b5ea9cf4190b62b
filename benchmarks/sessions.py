"""Live sessions as their clients see them: first fragments, interruptions, and twenty conversations that speak in turn. Prints figures, writes JSON.

    python -m benchmarks.sessions [first] [interrupt] [turns] [--sessions 20] [--rounds N] [--out FILE]

first: `speak` to the first fragment, for text never heard before and for text asked before. interrupt: the client's message to the moment at which no
replica films or draws for anybody. turns: so many connected sessions, each with its own avatar and text, one beginning as another one ends its first
half: whether a viewer of any of them ran dry, and whether anything of another's conversation came.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from benchmarks.service import QUESTIONS, TEN_SECONDS, cpu_seconds, machine_seconds, percentile
from configs.models import load_config
from museserve.app.local import running
from museserve.timebase import FPS, SEGMENT_FRAMES
from tests.live import Live

PARTS = ("first", "interrupt", "turns")
TURN_S = 2.5  # from the beginning of one utterance, of about five seconds, to that of the next: two speak at any time
FRIENDS = ("Ada", "Boris", "Chloe", "Dmitri", "Elena", "Farid", "Greta", "Hugo", "Ingrid", "Jonas")


async def first(url: str, rounds: int) -> dict[str, Any]:
    seen: dict[str, list[float]] = {}
    async with Live(url, avatar="woman") as live:
        await live.answer("ready")
        for r in range(rounds):
            for again in range(2):
                name = f"first-{r}-{again}"
                began = time.perf_counter()
                await live.send(type="speak", id=name, text=f"Question {r + 1}. {QUESTIONS[r % len(QUESTIONS)]}", phase=SEGMENT_FRAMES * r)
                started = await live.answer("started", name)
                fragments = await live.until(partial(live.fragments, started["n"]))
                seen.setdefault(started["cached"], []).append((fragments[0].at - began) * 1e3)
                await live.send(type="interrupt")
                await live.answer("interrupted", name)
                await asyncio.sleep(0.5)  # what was spoken is kept in the background
    return {cached: spread(ms) for cached, ms in seen.items()}


def has_fragments(live: Live, n: int, count: int) -> bool:
    return len(live.fragments(n)) >= count


async def interrupt(url: str, rounds: int) -> dict[str, Any]:
    """From `interrupt` until /health knows of no live utterance; it is asked every few milliseconds, so up to 5 ms belong to the asking."""
    idle: list[float] = []
    answered: list[float] = []
    after = 0
    async with Live(url, avatar="woman") as live, httpx.AsyncClient() as client:
        await live.answer("ready")
        for r in range(rounds):
            name = f"stop-{r}"
            await live.send(type="speak", id=name, text=f"Take {r}. {TEN_SECONDS}")
            started = await live.answer("started", name)
            await live.until(partial(has_fragments, live, started["n"], 2 + r % 9))
            began = time.perf_counter()
            await live.send(type="interrupt")
            await live.answer("interrupted", name)
            answered.append((time.perf_counter() - began) * 1e3)
            got = len(live.fragments(started["n"]))
            for _ in range(1000):
                if not (await client.get(f"{url}/health")).json()["live_utterances"]:
                    break
                await asyncio.sleep(0.004)
            idle.append((time.perf_counter() - began) * 1e3)
            after += len(live.fragments(started["n"])) - got
    return {"rounds": rounds, "answered_ms": spread(answered), "service_idle_ms": spread(idle), "fragments_after_answer": after}


async def turns(url: str, sessions: int) -> dict[str, Any]:
    gate = asyncio.Event()
    cpu, machine, began = cpu_seconds(), machine_seconds(), time.perf_counter()

    async def talk(i: int) -> dict[str, Any]:
        text = f"Session {i + 1}. {FRIENDS[i % len(FRIENDS)]}, please tell me about a project that you are proud of, and what made it hard."
        async with Live(url, avatar=("woman", "man")[i % 2]) as live:
            await live.answer("ready")
            await gate.wait()
            await asyncio.sleep(TURN_S * i)
            asked = time.perf_counter()
            await live.send(type="speak", id=f"turn-{i}", text=text)
            done = await live.answer("finished", f"turn-{i}", seconds=90)
            fragments = live.fragments(done["n"])
            shown = max(c.at for c in fragments if c.header and c.header.first_frame < SEGMENT_FRAMES)
            frames = [n for c in fragments if c.header for n in range(c.header.first_frame, c.header.first_frame + c.header.n_frames)]
            await asyncio.sleep(max(0.0, shown + done["frames"] / FPS - time.perf_counter()))  # it listens for as long as it would play
            return {
                "first_ms": (fragments[0].at - asked) * 1e3,
                "late_ms": max(
                    (c.at - shown - c.header.first_frame / FPS) * 1e3 for c in fragments if c.header and c.header.first_frame >= SEGMENT_FRAMES
                ),
                "whole": frames == list(range(done["frames"])),
                "foreign": sum(c.header.n != done["n"] for c in live.came if c.header)
                + sum(m["id"] != f"turn-{i}" for m in (c.json for c in live.came) if "id" in m),
                "said": " ".join(word["text"] for message in live.of("words") for word in message["words"]) == text,
            }

    talks = [asyncio.create_task(talk(i)) for i in range(sessions)]
    await asyncio.sleep(1.0)
    gate.set()
    found = await asyncio.gather(*talks)
    took = time.perf_counter() - began
    used = cpu_seconds() - cpu
    return {
        "sessions": sessions,
        "seconds": round(took, 1),
        "underruns": sum(f["late_ms"] > 0 for f in found),
        "worst_lateness_ms": round(max(f["late_ms"] for f in found), 1),
        "first_fragment_ms": spread([f["first_ms"] for f in found]),
        "frames_missing_or_repeated_in": sum(not f["whole"] for f in found),
        "messages_of_others": sum(f["foreign"] for f in found),
        "texts_whole": sum(f["said"] for f in found),
        "cores_used": round(used / took, 2),
        "cores_used_by_others": round((machine_seconds() - machine - used) / took, 2),
    }


def spread(ms: list[float]) -> dict[str, float]:
    ordered = sorted(ms)
    return {"p50": round(statistics.median(ordered), 1), "p95": percentile(ordered, 95), "max": round(ordered[-1], 1), "n": len(ordered)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=PARTS)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sessions.json"))
    args = parser.parse_args()
    results: dict[str, Any] = {"machine": {"cores": os.cpu_count(), "cpu": platform.processor() or platform.machine()}}
    with running(load_config("local", {"server": {"port": 0, "dashboard_port": 0}})) as url:
        httpx.post(f"{url}/v1/videos", json={"text": QUESTIONS[0], "stream": False}, timeout=60)
        for part in args.parts:
            if part == "first":
                results[part] = asyncio.run(first(url, args.rounds))
            elif part == "interrupt":
                results[part] = asyncio.run(interrupt(url, args.rounds))
            elif part == "turns":
                results[part] = asyncio.run(turns(url, args.sessions))
            else:
                parser.error(f"unknown part {part}; there are {', '.join(PARTS)}")
            print(part, json.dumps(results[part]), flush=True)
    kept = json.loads(args.out.read_text()) if args.out.exists() else {}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({**kept, **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
