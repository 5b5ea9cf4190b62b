"""What avatars and the cache cost on S3: memory, opening, a replica's start, and the requests of an utterance.

    python -m benchmarks.storage [--server moto|seaweed] [--out FILE]

The server runs on the same machine, so its times are those of a near one. "memory" is a store that reads into each process, "copies" one that
maps files of the local disk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from configs.models import AppConfig
from museserve.app.inprocess import LocalPipeline
from museserve.messages import SpeechRequest, VideoRequest
from musetalk.avatars.builtin import BUILTIN
from musetalk.avatars.store import AvatarStore
from musetalk.avatars.stores import shipped_store
from tests.object_store import KEYS, ObjectStore

RESULTS = Path(__file__).parent / "results" / "storage.json"
REPLICAS = 3
ROUNDS = 3
TTL_S = 3.0


def child(uri: str, copies: str) -> None:
    """A replica: opens both shipped avatars, tells what that took, and holds them until its input ends."""
    store = AvatarStore(uri, copies=Path(copies) if copies else None)
    before, began = _memory(), time.perf_counter()
    for avatar_id in BUILTIN:
        store.load(avatar_id).open()
    took = time.perf_counter() - began
    print(json.dumps({"open_s": round(took, 2), "before": before, "after": _memory()}), flush=True)
    sys.stdin.read()


def _memory() -> dict[str, int]:
    """MB of this process: its own, and what it maps of files."""
    status = Path("/proc/self/status").read_text()
    return {name: int(re.search(rf"{name}:\s+(\d+)", status)[1]) // 1_024 for name in ("RssAnon", "RssFile")}  # type: ignore[index]


def replicas(uri: str, copies: str) -> dict[str, Any]:
    """Replicas that open the avatars one after the other and hold them."""
    command = [sys.executable, "-m", "benchmarks.storage", "--child", uri, "--copies", copies]
    started, told = [], []
    for _ in range(REPLICAS):
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout is not None
        told.append(json.loads(started[-1].stdout.readline()))
    pss = [int(re.search(r"Pss:\s+(\d+)", Path(f"/proc/{p.pid}/smaps_rollup").read_text())[1]) // 1_024 for p in started]  # type: ignore[index]
    for process in started:
        process.communicate()
    return {
        "open_s": [one["open_s"] for one in told],
        "own_mb": [one["after"]["RssAnon"] - one["before"]["RssAnon"] for one in told],
        "mapped_mb": [one["after"]["RssFile"] - one["before"]["RssFile"] for one in told],
        "all_mb": sum(pss),
    }


def best_ms(call: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return round(min(times) * 1e3, 1)


def starts(config: AppConfig, uri: str) -> dict[str, Any]:
    """`shipped_store` where all is prepared: by metadata alone as replicas do it, and as it was when each read every file."""
    placed = config.model_copy(update={"avatars": config.avatars.model_copy(update={"uri": uri})})
    return {
        "shipped_store_ms": best_ms(lambda: shipped_store(placed, 2**30)),
        "reading_every_file_ms": best_ms(lambda: shipped_store(placed, 2**30, verify=True)),
    }


async def utterances(config: AppConfig, server: ObjectStore) -> dict[str, Any]:
    """Requests of one utterance, as the server counted them."""
    local = LocalPipeline(config, cache=True)

    async def say(text: str, wait_s: float = 0.0) -> dict[str, Any]:
        await asyncio.sleep(wait_s)
        before = len(server.requests())
        speech = SpeechRequest(text, "espeak-f", 1.0, "en")
        fragments = await local.fragments(VideoRequest("x", BUILTIN[0], speech, paced=False))
        head = fragments[0].head
        assert head is not None
        await asyncio.sleep(1.0)  # for what is kept beside the answer
        kinds = [f"{line.split(' ')[0]} {_what(line)}" for line in server.requests()[before:]]
        return {"requests": len(kinds), "of": {kind: kinds.count(kind) for kind in sorted(set(kinds))}, "found": head.cached}

    await say("To warm up.")
    return {
        "a new text, after the time to live": await say("Tell me about yourself.", TTL_S + 0.5),
        "a new text, within it": await say("Tell me about your team."),
        "the same again": await say("Tell me about your team."),
        "and again": await say("Tell me about your team."),
    }


def _what(line: str) -> str:
    return "current.json" if "current.json" in line else "cache" if "/cache" in line else "listing" if "list-type" in line else "file of an avatar"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=["moto", "seaweed"], default="moto")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("--copies", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child, asked.copies)
        return
    os.environ.update(KEYS)
    load = round(os.getloadavg()[0], 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["MUSESERVE_HOME"] = str(folder / "home")
        server = getattr(ObjectStore, asked.server)(folder)
        try:
            figures = measure(server, folder)
        finally:
            server.kill()
    result = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "load_average_before": load},
        "server": asked.server,
        **figures,
    }
    text = json.dumps(result, indent=2)
    print(text)
    asked.out.write_text(text + "\n")


def measure(server: ObjectStore, folder: Path) -> dict[str, Any]:
    server.filesystem().create_dir("bench")
    uri = server.uri("bench/avatars")
    settings = {"avatars": {"uri": uri, "current_ttl_s": TTL_S}, "cache": {"uri": server.uri("bench/cache")}}
    config = AppConfig.model_validate({**settings, "speech": {"engine": "offline"}, "lipsync": {"engine": "animator"}})
    began = time.perf_counter()
    shipped_store(config, 2**30)
    prepared_s = round(time.perf_counter() - began, 1)
    shipped_store(AppConfig(), 2**30)  # the same in a local folder
    figures: dict[str, Any] = {
        "both avatars prepared and uploaded_s": prepared_s,
        "one replica after the other opens both avatars": {
            "memory": replicas(uri, ""),
            "copies": replicas(uri, str(folder / "copies")),
        },
        "a replica starts": {"s3": starts(config, uri), "local folder": starts(config, "")},
    }
    if "moto" in str(server.log):
        figures["requests of an utterance"] = asyncio.run(utterances(config, server))
    return figures


if __name__ == "__main__":
    main()
