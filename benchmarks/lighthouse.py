"""What Lighthouse says of the page at `/`, with its mobile setting: scores, and the audits that cost some. Prints medians and writes JSON.

    python -m benchmarks.lighthouse [--rounds N] [--url URL] [--own-time] [--tool FOLDER] [--out FILE]

Needs npm, which brings Lighthouse into FOLDER where it is not there yet (186 MB), and a Chromium. The page should be bundled (`make page`).
The setting emulates a phone on 1.6 Mbit/s with 150 ms and a processor four times slower than this one. Lighthouse takes how long a task lasted for
its work, so whatever else the machine does is counted as the page's; `benchmark_index` tells how fast it was meanwhile, the higher the faster.
--own-time: every task of the page's process is given the processor time that it took, as the trace has it, before Lighthouse judges.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.player import CHROMIUM
from configs.models import cache_dir, load_config
from museserve.app.local import running

VERSION = "12.8.2"
CATEGORIES = ("performance", "accessibility", "best-practices")
METRICS = ("first-contentful-paint", "largest-contentful-paint", "speed-index", "total-blocking-time", "cumulative-layout-shift")
FLAGS = "--headless=new --no-sandbox --no-first-run"
ENOUGH = 0.9  # of an audit that is not named


def tool(folder: Path) -> Path:
    """The command, installed into `folder` where it is not there."""
    command = folder / "node_modules" / ".bin" / "lighthouse"
    if not command.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--no-save", "--prefix", folder, f"lighthouse@{VERSION}"], check=True)
    return command


def audit(command: Path, url: str, own_time: bool) -> dict[str, Any]:
    """One visit with an empty cache: Lighthouse's own report."""
    with tempfile.TemporaryDirectory() as folder:
        seen, report = Path(folder) / "seen", Path(folder) / "report.json"
        only = [f"--only-categories={','.join(CATEGORIES)}", "--form-factor=mobile", "--quiet"]
        environment = {**os.environ, "CHROME_PATH": CHROMIUM}
        subprocess.run([command, url, *only, f"--chrome-flags={FLAGS}", f"-G={seen}"], env=environment, check=True)
        if own_time:
            for trace in seen.glob("*race.json"):
                trace.write_text(json.dumps(by_own_time(json.loads(trace.read_text()))))
        subprocess.run([command, url, *only, f"-A={seen}", "--output=json", f"--output-path={report}"], env=environment, check=True)
        found: dict[str, Any] = json.loads(report.read_text())
    assert "runtimeError" not in found, found["runtimeError"]
    return found


def by_own_time(trace: dict[str, Any]) -> dict[str, Any]:
    """Shortens each task of a thread to its processor time (`tdur`), and what happened within it in proportion; tasks begin when they did."""
    threads: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for event in trace["traceEvents"]:
        if "ts" in event:
            threads.setdefault((event["pid"], event["tid"]), []).append(event)
    for events in threads.values():
        events.sort(key=lambda event: (event["ts"], -event.get("dur", 0)))
        began = until = 0
        scale = 1.0
        for event in events:
            outermost = event["ts"] >= until
            if outermost and event["name"].endswith("RunTask") and event.get("dur") and "tdur" in event:
                began, until, scale = event["ts"], event["ts"] + event["dur"], min(1.0, event["tdur"] / event["dur"])
            if event["ts"] < until:
                event["ts"] = round(began + (event["ts"] - began) * scale)
                if "dur" in event:
                    event["dur"] = round(event["dur"] * scale)
    return trace


def told(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over `reports`, and each audit that counts and was not passed in one of them."""
    scores = {name: round(100 * statistics.median(report["categories"][name]["score"] for report in reports)) for name in CATEGORIES}
    metrics = {name: round(statistics.median(report["audits"][name]["numericValue"] for report in reports), 3) for name in METRICS}
    weighed = {ref["id"] for report in reports for name in CATEGORIES for ref in report["categories"][name]["auditRefs"] if ref["weight"]}
    costly = {
        name: min(scored)
        for name in sorted(weighed)
        if (scored := [s for report in reports if (s := report["audits"][name]["score"]) is not None]) and min(scored) < ENOUGH
    }
    return {
        "lighthouse": reports[0]["lighthouseVersion"],
        "rounds": len(reports),
        "benchmark_index": round(statistics.median(report["environment"]["benchmarkIndex"] for report in reports)),
        "scores": scores,
        "metrics": metrics,
        "below_0.9": costly,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--url", help="of a service that runs; else one is started")
    options.add_argument("--own-time", action="store_true")
    options.add_argument("--tool", type=Path, default=cache_dir() / "lighthouse")
    options.add_argument("--out", type=Path, default=Path("benchmarks/results/lighthouse.json"))
    asked = options.parse_args()
    command = tool(asked.tool)
    with ExitStack() as held:
        url = asked.url or held.enter_context(running(load_config("local", {"server": {"port": 0, "dashboard_port": 0}})))
        found = {"time": "own" if asked.own_time else "of the machine"} | told(
            [audit(command, f"{url}/", asked.own_time) for _ in range(asked.rounds)]
        )
    print(json.dumps(found, indent=1))
    asked.out.parent.mkdir(exist_ok=True)
    asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
