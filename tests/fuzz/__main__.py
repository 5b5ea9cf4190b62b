"""Everything that is fuzzed, for long: python -m tests.fuzz [parsers] [media] [http] [sessions] [--seed N] ...

parsers: each under atheris, which looks for inputs that reach new code; where it is not installed, mutants of the corpus. media: mutated recordings,
portraits, clips and stored arrays in a process under limits. http, sessions: against a service that is started here, or --url. Exits 1 at any fault.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.conftest import CONFIG, start, stop
from tests.fuzz.targets import MEDIA, TARGETS
from tests.fuzz.trial import faults

PARTS = ("parsers", "media", "http", "sessions")
SHARES = {"recording": 0.4, "portrait": 0.4, "clip": 0.1, "avatar_arrays": 0.1}  # of the media


def parsers(seconds: int, seed: int) -> int:
    guided = importlib.util.find_spec("atheris") is not None
    if not guided:
        print("atheris is not installed (pip install '.[fuzz]'): mutants of the corpus instead, which do not look for new code", flush=True)
    wrong = 0
    for name in (each for each in TARGETS if each not in MEDIA):
        if guided:
            command = [
                sys.executable,
                "-m",
                "tests.fuzz.guided",
                name,
                f"-max_total_time={seconds}",
                f"-seed={seed + 1}",
                "-timeout=10",
                "-verbosity=0",
            ]
            # libFuzzer writes what it found into the folder that it runs in.
            done = subprocess.run([*command, f"-artifact_prefix=fuzz-{name}-", "-print_final_stats=1"], capture_output=True, text=True, check=False)
            runs = next((line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line), "?")
            print(f"{name}: {runs} inputs in {seconds} s, {'good' if not done.returncode else 'A FAULT'}", flush=True)
            if done.returncode:
                print(done.stderr[-3_000:], flush=True)
            wrong += bool(done.returncode)
        else:
            wrong += mutants(name, 20 * seconds, seed)
    return wrong


def media(count: int, seed: int) -> int:
    return sum(mutants(name, round(count * share), seed) for name, share in SHARES.items())


def mutants(name: str, count: int, seed: int) -> int:
    began, wrong = time.monotonic(), 0
    for fault in faults(name, seed * count, count):
        print(json.dumps(fault), flush=True)
        wrong += 1
    print(f"{name}: {count} mutants in {time.monotonic() - began:.0f} s, {wrong} with a fault", flush=True)
    return wrong


@contextmanager
def served(url: str) -> Iterator[str]:
    if url:
        yield url
        return
    with tempfile.TemporaryDirectory() as folder:
        process, service = start(Path(folder), CONFIG)
        try:
            yield service.url
        finally:
            stop(process)


def against(url: str, args: argparse.Namespace) -> int:
    """Requests and sessions side by side, as they come to a service; then nothing may be left of them."""
    common = ["--url", url, "--seed", str(args.seed), *(["--key", args.key] if args.key else []), "--seconds", str(args.seconds)]
    commands = {
        "http": ["tests.fuzz.http", *common, "--requests", str(args.requests)],
        "sessions": ["tests.fuzz.sessions", *common, "--traces", str(args.traces)],
    }
    running = [subprocess.Popen([sys.executable, "-m", *command]) for name, command in commands.items() if name in args.parts]
    wrong = sum(bool(each.wait()) for each in running)
    end, health = time.monotonic() + 120, {}
    while time.monotonic() < end:
        health = httpx.get(f"{url}/health", timeout=30, headers={"Authorization": f"Bearer {args.key}"} if args.key else None).json()
        if not health["live_sessions"] and not health["live_utterances"]:
            return wrong
        time.sleep(1)
    print(f"left: {health['live_sessions']} sessions, {health['live_utterances']} utterances", flush=True)
    return wrong + 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parser-s", type=int, default=120, help="seconds for each parser")
    parser.add_argument("--media", type=int, default=5_000, help="mutated files")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--traces", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="longest time for requests and traces")
    parser.add_argument("--url", default="", help="of a service that runs")
    parser.add_argument("--key", default="")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    wrong = 0
    if "parsers" in args.parts:
        wrong += parsers(args.parser_s, args.seed)
    if "media" in args.parts:
        wrong += media(args.media, args.seed)
    if {"http", "sessions"} & set(args.parts):
        with served(args.url) as url:
            wrong += against(url, args)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
