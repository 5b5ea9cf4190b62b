"""What keys cost: first fragments of two services, one that asks for keys and one that does not, asked in turn.

    python -m benchmarks.access [--pairs N] [--out FILE]

Both run at once, so that what else the machine does meets both; which one is asked first changes with each pair. Of two services of the
same kind the one that was started first answers later by up to a tenth, so half of the pairs are asked after they were started the other
way round. Beside it stands what the check of a request takes by itself, with a key and with a session token.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from starlette.requests import HTTPConnection

from benchmarks.machine import machine
from benchmarks.viewer import watch
from configs.models import AccessConfig, load_config
from deployments.ingress.access import Gate
from museserve.access import tokens
from museserve.access.keys import create_key, read_keys

TEXT = "Question {}, please."
WARM = 4
READY_S = 300.0


@contextmanager
def service(folder: Path, name: str, access: dict[str, str]) -> Iterator[str]:
    """Its address. Raises RuntimeError, with what it said, when it does not get ready."""
    config = load_config("local", {"server": {"port": 0, "dashboard_port": 0}, "access": access, "cache": {"uri": str(folder / f"cache-{name}")}})
    file, log = folder / f"{name}.yaml", folder / f"{name}.log"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude={"speech": {"openai": {"api_key"}}})))
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "museserve.app.cli", "serve", "--config", str(file)], stdout=out, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + READY_S
        while (ready := re.search(r"open (http://[\d.]+:\d+)/", log.read_text(errors="replace"))) is None:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(log.read_text(errors="replace")[-3000:])
            time.sleep(0.2)
        yield ready[1]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def checks_us(keys_file: Path, key: str) -> dict[str, float]:
    """Microseconds that it takes to know a caller."""
    gate = Gate(AccessConfig(auth="keys", keys_file=keys_file))
    stored = read_keys(keys_file)
    token = tokens.mint(bytes.fromhex(stored.token_secret), tokens.Grant("acme", stored.keys[0].id, int(time.time()) + 600, 1))
    told = {}
    for name, shown in (("key", key), ("token", token)):
        connection = HTTPConnection({"type": "http", "headers": [(b"authorization", f"Bearer {shown}".encode())]})
        told[name] = round(min(timeit.repeat(lambda: gate.caller(connection), number=2_000, repeat=5)) / 2_000 * 1e6, 1)  # noqa: B023
    return told


def paired(urls: dict[str, str], key: str, pairs: int) -> dict[str, list[float]]:
    """Milliseconds to the first fragment, by service."""
    first_ms: dict[str, list[float]] = {name: [] for name in urls}
    for number in range(-WARM, pairs):
        for name in sorted(urls, reverse=bool(number % 2)):
            seen = watch(urls[name], {"text": TEXT.format(number + WARM + 1)}, key=key if name == "keys" else "")
            assert seen.status == 200 and seen.ended, seen
            if number >= 0:
                first_ms[name].append(round(1e3 * seen.first_s, 2))
    return first_ms


def judged(first_ms: dict[str, list[float]]) -> dict[str, Any]:
    """By how much the median with keys lies above the one without, and its 95 % interval over resampled pairs."""
    both = list(zip(first_ms["keys"], first_ms["none"], strict=True))
    seeded = random.Random(1)

    def above(pairs: list[tuple[float, float]]) -> float:
        with_keys, without = zip(*pairs, strict=True)
        return 100 * (statistics.median(with_keys) / statistics.median(without) - 1)

    resampled = sorted(above(seeded.choices(both, k=len(both))) for _ in range(2_000))
    return {
        "p50_ms": {name: round(statistics.median(figures), 1) for name, figures in first_ms.items()},
        "median_difference_ms": round(statistics.median(a - b for a, b in both), 2),
        "p50_above_percent": round(above(both), 1),
        "interval_percent": [round(resampled[50], 1), round(resampled[-51], 1)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100, help="rounded up to an even number")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/access.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        keys_file = folder / "keys.json"
        key, _ = create_key(keys_file, "acme", ["speak"])
        results: dict[str, Any] = {"machine": machine(), "check_us": checks_us(keys_file, key)}
        access = {"keys": {"auth": "keys", "keys_file": str(keys_file)}, "none": {"auth": "none"}}
        first_ms: dict[str, list[float]] = {name: [] for name in access}
        for begun in (list(access), list(access)[::-1]):
            with ExitStack() as stack:
                urls = {name: stack.enter_context(service(folder, name, access[name])) for name in begun}
                for name, figures in paired(urls, key, -(-args.pairs // 2)).items():
                    first_ms[name] += figures
    results |= judged(first_ms) | {"first_ms": first_ms}
    print(json.dumps({name: value for name, value in results.items() if name != "first_ms"}, indent=1))
    args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
