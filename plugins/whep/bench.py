"""A talk of twelve utterances, four of them interrupted, through the gateway: what comes out at the other end of WebRTC, and what it costs.

    python bench.py --url http://127.0.0.1:8001 [--rounds 10] [--viewers 1] [--json FILE]

A round takes about a minute. The talk is the same for the same seed. Lips are compared with those of the same sound over HTTP, at the places of the
sound that was received; pictures and sound of one moment with one another by when they come. The first viewer talks and is measured; the others look.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from museserve_client import Client
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE / "tests")]

from viewer import Seen, looking  # noqa: E402

from plugins.bench_common import (  # noqa: E402
    CUT_AFTER_S,
    INTERRUPTED,
    RATE,
    SENTENCES,
    UTTERANCES,
    arrivals,
    lips_of,
    lips_off,
    ms,
    openness,
    options,
    pcm_of,
    rss_mb,
    tell,
)
from tests.peer_media import LOUD, PEER_RATE, last_loud  # noqa: E402

SPEED = 1.1  # the gateway's, where nothing else is asked for


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--viewers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    tell(asyncio.run(bench(asked.url, asked.rounds, asked.viewers, asked.seed)), asked.json)


async def bench(url: str, rounds: int, viewers: int, seed: int) -> dict[str, Any]:
    async with Client(url) as client:
        spoken = [await pcm_of(client, sentence, SPEED) for sentence in SENTENCES]
        lips = [await lips_of(client, pcm) for pcm in spoken]
    every: list[dict[str, Any]] = []
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        gateway, address = await stack.enter_async_context(running(url, viewers, http))
        seen = await stack.enter_async_context(looking(address, http, hold_sound=False))
        for _ in range(viewers - 1):
            await stack.enter_async_context(looking(address, http, decode=False))
        await asyncio.sleep(3.0)
        for i in range(rounds):
            before = processor_s(gateway)
            told = await one_round(http, seen, spoken, lips, random.Random(seed + i))
            told["processor_ms_a_second_and_viewer"] = round(1_000 * (processor_s(gateway) - before) / told["seconds"] / viewers, 1)
            told["memory_mb"] = round(rss_mb(gateway), 1)
            every.append(told)
    return {"rounds": every}


@asynccontextmanager
async def running(url: str, viewers: int, http: aiohttp.ClientSession) -> AsyncIterator[tuple[int, str]]:
    """A gateway in a process of its own: its pid, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ("-m", "museserve_whep", "--url", url, "--port", str(port), "--viewers", str(viewers))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            with suppress(aiohttp.ClientError):
                async with http.get(f"{address}/health"):
                    break
            await asyncio.sleep(0.1)
        yield process.pid, address
    finally:
        process.terminate()
        await process.wait()


def processor_s(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def one_round(
    http: aiohttp.ClientSession, seen: Seen, spoken: list[bytes], lips: list[NDArray[np.float64]], dice: random.Random
) -> dict[str, Any]:
    cut = set(dice.sample(range(UTTERANCES), INTERRUPTED))
    seen.pictures.clear()
    seen.sound.clear()
    began, first_sound, silence, wrong, lip_offsets = time.perf_counter(), [], [], 0, []
    for i in range(UTTERANCES):
        which = dice.randrange(len(spoken))
        asked = time.perf_counter()
        saying = asyncio.create_task(say(http, seen.resource, SENTENCES[which]))
        await seen.until(lambda asked=asked: loud(seen, asked) > 0)
        first_sound.append(loud(seen, asked) - asked)
        if i in cut:
            await asyncio.sleep(CUT_AFTER_S)
            interrupted = time.perf_counter()
            async with http.post(f"{seen.resource}/interrupt") as answer:
                assert answer.status == 204
            told = await saying
            await asyncio.sleep(1.0)
            silence.append(max(0.0, last_loud([(came, samples) for came, _, samples in seen.sound]) - interrupted))
            wrong += not told["interrupted"]
        else:
            told = await saying
            wrong += told != {"heard_ms": round(len(spoken[which]) / 2 / RATE * 1_000), "interrupted": False}
            await asyncio.sleep(0.5)
            lip_offsets.append(offset_of_lips(seen, asked, spoken[which], lips[which]))
            await asyncio.sleep(dice.uniform(0.0, 1.0))
    took = time.perf_counter() - began
    return {
        "seconds": round(took, 1),
        "pictures_per_s": round(len(seen.pictures) / took, 2),
        "speak_to_sound_ms": ms(first_sound, 50, 95),
        "lips_to_sound_ms": ms(lip_offsets, 50, 95, 100),
        "picture_after_sound_ms": ms(apart(seen), 5, 50, 95),
        "absolute_ms": ms([abs(one) for one in apart(seen)], 50, 95),
        "interruption_to_silence_ms": ms(silence, 50, 100),
        "told_wrong": wrong,
    }


async def say(http: aiohttp.ClientSession, resource: str, text: str) -> dict[str, Any]:
    async with http.post(f"{resource}/speak", json={"text": text}) as answer:
        assert answer.status == 200, await answer.text()
        return dict(await answer.json())


def loud(seen: Seen, since: float) -> float:
    """When the first sample came that is heard; 0 of none."""
    return next((came for came, _, samples in seen.sound if came > since and np.abs(samples.astype(int)).max() > LOUD), 0.0)


def apart(seen: Seen) -> list[float]:
    """By how much each picture came behind the sound of its own moment, by the clock that both tracks are stamped with."""
    by_clock = {round(at * 50): came for came, at, _ in seen.sound}
    return [came - by_clock[round(at * 50)] for came, at, _ in seen.pictures if round(at * 50) in by_clock]


def offset_of_lips(seen: Seen, since: float, pcm: bytes, wanted: NDArray[np.float64]) -> float:
    """By how much the lips that came are behind those of the film, in seconds of the sound that came."""
    arrived = arrivals(pcm, [(came, samples) for came, _, samples in seen.sound if came > since])
    assert len(arrived) > 3, "the sound did not come"
    places, times = np.array(arrived).T
    shown = [(came, picture) for came, _, picture in seen.pictures if times[0] <= came <= times[-1]]
    opened = np.array([openness(picture) for _, picture in shown])
    return lips_off(np.interp([came for came, _ in shown], times, places / PEER_RATE), opened, wanted)


if __name__ == "__main__":
    main()
