"""A session whose ingress replica is killed, or replaced, while it speaks: what its viewer notices. Prints figures, writes JSON.

    python -m benchmarks.moving [--kills N] [--redeploys N] [--out FILE]

Two ingress replicas and a player in headless Chromium. moved_ms: from the kill, or from the notice of a redeploy, until another replica has
the session. still_ms: the longest time without a new picture. late_segments: of idle, where speech should have been.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from benchmarks.player import LONG, spread
from tests.conftest import Replicated, two_ingress_replicas
from tests.web.player_page import CHROMIUM, FLAGS, Stage, opened, wait_until_heard

WHOLE_S = 120.0  # until a killed replica is there again


def speaking(browser: Browser, replicated: Replicated, text: str) -> Stage:
    stage = opened(browser, replicated.service.url)
    stage.connect()
    stage.unlock()
    stage.until("player.state === 'idle'")
    stage.js("text => { player.speak({ text, id: 'long' }) }", text)
    wait_until_heard(stage, "long")
    return stage


def killed(browser: Browser, replicated: Replicated, n: int) -> dict[str, Any]:
    text = f"Round {n} of {time.time_ns() % 100_000}. {LONG} {LONG}"  # nobody heard it before
    stage = speaking(browser, replicated, text)
    stage.page.wait_for_timeout(500 + 370 * (n % 8))
    holder, _ = replicated.holder()
    at = stage.js("performance.now()")
    holder.kill()
    return noticed(stage, replicated, text, at, "restarted")


def redeployed(browser: Browser, replicated: Replicated, n: int) -> dict[str, Any]:
    text = f"Redeploy {n} of {time.time_ns() % 100_000}. " + " ".join([LONG] * 8)
    stage = speaking(browser, replicated, text)
    replicated.redeploy.touch()
    stage.until("gate.got.some(({ type }) => type === 'moving')", 120)
    return noticed(stage, replicated, text, stage.js("performance.now()"), "moved")


def noticed(stage: Stage, replicated: Replicated, text: str, at: float, code: str) -> dict[str, Any]:
    stage.until("said('ended').length === 1", 180)
    over = stage.said("ended")[0]["at"]
    painted = [one for one in stage.js("frames.map(({ at }) => at)") if at - 100 <= one <= over]
    words = [event["index"] for event in stage.said("word")]
    counters = stage.js("player.counters")
    told = {
        "moved_ms": next(e["at"] for e in stage.said("notice") if e["code"] == code) - at,
        "still_ms": max(b - a for a, b in zip(painted, painted[1:], strict=False)),
        "late_segments": counters["late_segments"],
        "dry_ms": counters["dry_ms"],
        "finished": stage.said("ended")[0]["outcome"] == "finished",
        "every_word_once": words == list(range(len(text.split()))),
        "ranges": stage.ranges(),
    }
    stage.js("player.disconnect()")  # and no session of it is left
    stage.close()
    deadline = time.monotonic() + WHOLE_S
    while not replicated.whole() and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(3)
    return told


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        **{name: spread([one[name] for one in rounds]) for name in ("moved_ms", "still_ms", "dry_ms")},
        "late_segments": [one["late_segments"] for one in rounds],
        **{name: sum(one[name] for one in rounds) for name in ("finished", "every_word_once")},
        "one_range": sum(one["ranges"] == 1 for one in rounds),
        "rounds": len(rounds),
        "load": round(os.getloadavg()[0], 2),  # with the measurement's own
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--redeploys", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "moving.json")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, two_ingress_replicas(Path(folder)) as replicated, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        found: dict[str, Any] = {"machine": {"cores": os.cpu_count(), "cpu": platform.processor() or platform.machine()}}
        found |= {
            name: summary([one(browser, replicated, n) for n in range(rounds)])
            for name, one, rounds in (("killed", killed, wanted.kills), ("redeployed", redeployed, wanted.redeploys))
            if rounds
        }
        browser.close()
    print(json.dumps(found, indent=1))
    wanted.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
