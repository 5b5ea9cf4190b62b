"""The player in headless Chromium against the real service, as a viewer sees and hears it. Prints figures and writes JSON.

    python -m benchmarks.player [first_frame] [seam] [dry] [sync] [interrupt] [memory] [--rounds N] [--minutes N] [--rate N] [--out FILE]

first_frame: `speak` to the first speaking picture on the screen. seam: idle, speech, idle, many times: dropped and repeated frames, buffered ranges,
`waiting`, luminance between neighbouring pictures. dry: fragments held back, and the time from the next one to its picture. sync: clicks in recorded
speech, heard behind the element, against the pictures painted. interrupt: silence, the idle face, the service at rest. memory: a long session, at
RATE times real time.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import psutil
from playwright.sync_api import Page, sync_playwright

from benchmarks.service import QUESTIONS, percentile
from configs.models import load_config
from museserve.app.local import running

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync "
    "--autoplay-policy=user-gesture-required --enable-precise-memory-info"
).split()
SCRIPT = (Path(__file__).parent / "player_probe.js").read_text()
LONG = "I would like you to walk me through a system that you designed, from the first sketch to production, and to tell me what you would change."
PARTS = ("first_frame", "seam", "dry", "sync", "interrupt", "memory")
CLICK_EVERY_S = 0.5


@contextmanager
def viewer(url: str) -> Iterator[Page]:
    """A page with a connected, unlocked player; what player_probe.js defines is there."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 900, "height": 700})
        page.add_init_script(SCRIPT)
        page.goto(f"{url}/v1/voices")
        page.evaluate("() => { document.body.innerHTML = '<avatar-player avatar=woman style=width:512px></avatar-player><button>Begin</button>' }")
        page.evaluate("import('/avatar-player.js').then(() => begin())")
        page.click("button")
        page.evaluate("unlocked")
        page.wait_for_timeout(1000)
        yield page
        browser.close()


def spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {"p50": percentile(ordered, 50), "p95": percentile(ordered, 95), "max": round(ordered[-1], 1), "n": len(ordered)}


def first_frame(page: Page, rounds: int) -> dict[str, Any]:
    """Texts that are new, then the same again. `stages_p50_ms`: since the work began, and in the page (`arrived`, the first whole segment)."""
    seen: dict[str, list[float]] = {}
    page.evaluate("speak('A first one, to warm up.')")
    nonce = time.time_ns() % 100_000  # texts of an earlier run are known to the service
    texts = [f"Question {nonce + n}. {QUESTIONS[n % 4]}" for n in range(rounds)]
    stages: dict[str, dict[str, list[float]]] = {}
    for _ in range(3):
        for n, text in enumerate(texts):
            told = page.evaluate("([text, wait]) => startOnly(text, wait)", [text, 200 + 37 * (n % 9)])
            kind = "fresh" if told["cached"] == "no" else f"cached_{told['cached']}"
            seen.setdefault(kind, []).append(told["first_frame_ms"])
            for stage, ms in {**told["timings_ms"], "arrived": told["arrived_ms"]}.items():
                stages.setdefault(kind, {}).setdefault(stage, []).append(ms)
    cached = [ms for kind, times in seen.items() if kind != "fresh" for ms in times]
    return {
        "ms": {kind: spread(times) for kind, times in sorted(seen.items())},
        "cached_ms": spread(cached),
        "stages_p50_ms": {kind: {stage: percentile(sorted(times), 50) for stage, times in took.items()} for kind, took in stages.items()},
    }


def seam(page: Page, passages: int) -> dict[str, Any]:
    """Idle -> speech -> idle. Luma: mean absolute difference of neighbouring painted pictures, levels of 255."""
    told: dict[str, Any] = page.evaluate("passages => seam(passages)", passages)
    steps = told.pop("luma")
    return {**told, "luma": {kind: spread_fine(values) for kind, values in steps.items() if values}}


def spread_fine(values: list[float]) -> dict[str, float]:
    return {
        "mean": round(statistics.fmean(values), 3),
        "p95": round(float(np.percentile(values, 95)), 3),
        "max": round(max(values), 3),
        "n": len(values),
    }


def dry(page: Page, rounds: int) -> dict[str, Any]:
    told = [page.evaluate("([text, n]) => dry(text, n)", [f"{LONG} {LONG}", n]) for n in range(rounds)]
    return {
        "recovery_ms": spread([one["recovery_ms"] for one in told]),
        "longest_still_ms": round(max(one["longest_still_ms"] for one in told), 1),
        "finished": sum(one["outcome"] == "finished" for one in told),
        "words_lost": sum(one["words_lost"] for one in told),
        "rounds": rounds,
    }


def clicks() -> bytes:
    """Ten seconds of clicks as wav, 24 kHz."""
    pcm = np.zeros(240_000, np.int16)
    for k in range(1, 20):
        at = round(k * CLICK_EVERY_S * 24_000)
        pcm[at : at + 48] = (24_000 * np.sin(np.arange(48) * np.pi / 6)).astype(np.int16)
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(24_000)
        file.writeframes(pcm.tobytes())
    return out.getvalue()


def click_times(url: str, recording: bytes) -> list[float]:
    """Where the clicks lie in the media that the service makes of it, in seconds, by decoding it."""
    film = httpx.post(f"{url}/v1/videos", files={"audio": recording}, data={"stream": "false", "avatar": "woman"}, timeout=120).content
    with av.open(io.BytesIO(film), "r") as container:
        frames = list(container.decode(audio=0))
    rate = frames[0].sample_rate
    start = float(frames[0].time or 0.0)
    pcm = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    loud = np.flatnonzero(np.abs(pcm) > 0.15)
    firsts = loud[np.insert(np.diff(loud) > 0.2 * rate, 0, True)]
    return [start + int(at) / rate for at in firsts]


def sync(page: Page, url: str, rounds: int) -> dict[str, Any]:
    """Sound minus picture of the same media time, ms: positive = the sound is late."""
    recording = clicks()
    wanted = click_times(url, recording)
    told = [page.evaluate("([bytes, times]) => sync(bytes, times)", [list(recording), wanted]) for _ in range(rounds)]
    offsets = [offset for one in told for offset in one]
    words = page.evaluate("text => captionLateness(text)", LONG)
    medians = [round(statistics.median(one), 1) for one in told if one]
    return {
        "offset_ms": spread_fine(offsets),
        "utterances_median_ms": medians,
        "abs_offset_ms": spread([abs(o) for o in offsets]),
        "caption_late_ms": spread(words),
    }


def interrupt(page: Page, rounds: int) -> dict[str, Any]:
    told = [page.evaluate("([text, wait]) => cut(text, wait)", [f"Take {n}. {LONG}", 250 + 61 * (n % 10)]) for n in range(rounds)]
    told_ms = {name: spread([one[name] for one in told]) for name in ("silent_ms", "idle_painted_ms", "service_idle_ms")}
    steps = {"tick": round(max(one["tick"] for one in told), 4), "speech_step": round(max(one["step"] for one in told), 4)}
    return {**told_ms, "largest_sample_step": steps, "next_spoke": page.evaluate("speak('Say a.')")["outcome"]}


def memory(page: Page, minutes: float, rate: float) -> dict[str, Any]:
    """Idle with speech now and then, at `rate` times real time.

    What is in hand grows with the rate, but speech comes in its own time, and a page that stands for 50 ms loses `rate` times as much: `waiting` is
    told of a page that is pressed harder than a viewer presses it.
    """
    page.evaluate("rate => race(rate)", rate)
    samples = []
    began, until = time.perf_counter(), page.evaluate("player.internals.video.currentTime") + 60 * minutes
    while (now := page.evaluate("player.internals.video.currentTime")) < until:
        page.evaluate("() => { player.speak('What is a process?') }")
        page.wait_for_timeout(5000)
        told = page.evaluate("footprint()")
        samples.append({**told, "media_s": round(now), "browser_mb": round(browser_mb(), 1)})
        if time.perf_counter() - began > 60 * minutes:
            break
    page.evaluate("race(1)")
    half = len(samples) // 2
    means = {
        name: [round(statistics.fmean(s[name] for s in part), 1) for part in (samples[:half], samples[half:])] for name in ("heap_mb", "browser_mb")
    }
    return {
        "media_minutes": round(samples[-1]["media_s"] / 60, 1),
        "first_and_second_half": means,
        "rate": rate,
        "buffered_s": max(s["buffered_s"] for s in samples),
        "ranges": max(s["ranges"] for s in samples),
        "waiting": samples[-1]["waiting"],
    }


def browser_mb() -> float:
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            if "chromium" in process.name():
                total += process.memory_full_info().pss / 2**20
        except (psutil.Error, OSError):
            continue
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=30.0, help="media minutes of the long session")
    parser.add_argument("--rate", type=float, default=16.0, help="of the long session; 1 = as a viewer has it")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/player.json"))
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"unknown parts {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    results: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {}  # parts that are not measured now stay
    results["machine"] = {"cores": os.cpu_count(), "cpu": platform.processor() or platform.machine()}
    with running(load_config("local", {"server": {"port": 0, "dashboard_port": 0}})) as url:
        measures = {
            "first_frame": lambda page: first_frame(page, args.rounds),
            "seam": lambda page: seam(page, args.rounds),
            "dry": lambda page: dry(page, max(args.rounds // 5, 2)),
            "sync": lambda page: sync(page, url, max(args.rounds // 10, 1)),
            "interrupt": lambda page: interrupt(page, args.rounds),
            "memory": lambda page: memory(page, args.minutes, args.rate),
        }
        for part in args.parts:
            with viewer(url) as page:
                results[part] = measures[part](page)
                results[part]["counters"] = page.evaluate("player.counters")
                results[part]["sound_lead_s"] = page.evaluate("player.internals.timeline.facts.leadS")
                results[part]["load"] = round(os.getloadavg()[0], 2)  # with the measurement's own
            print(json.dumps({part: results[part]}, indent=1), flush=True)
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
