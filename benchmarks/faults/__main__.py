"""A service under mixed use in which something goes wrong every so often: what its clients saw, and what was left.

    python -m benchmarks.faults [--minutes 120] [--seed 1] [--every 20] [--only "kill Mux" ...] [--out FILE]

Faults and clients are made from the seed: the same arguments give the same faults at the same times, and ask for the same. The service is this
project's own, with its store behind a line that can fail; judged clients play. Reported: cross-talk, wrong successes, requests
that failed without a type, streams that were cut without a loss that explains it, and sessions, calls, files, threads and memory that were left.
Exits 1 when there is any of these.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from benchmarks.faults.inject import DISK_BYTES, Injector, small_disk
from benchmarks.faults.line import StoreLine
from benchmarks.faults.mixed import Mixed
from benchmarks.faults.observe import Held, files_below
from benchmarks.faults.plan import KINDS, Fault, plan
from benchmarks.load.clients import Client, Service, Talker, Viewer, mark_avatars, unmark_avatars
from benchmarks.load.report import figures
from tests.conftest import start, stop
from tests.object_store import KEYS, ObjectStore

TALKERS, VIEWERS, MIXED = 2, 1, 2
LOOK_S = 5.0
REST_S = 120.0  # for sessions without a connection to end, and for replicas to be there again
AFTER_S = 12.0  # for which a loss explains a stream that is cut, or a call that is not answered
RESUME_S = 20.0
# By what a stream may be cut, and a call have no answer: whoever held its connection is gone.
CUTTING = ("kill Ingress", "freeze Ingress")


def config(line_port: int, bucket: str, disk: Path | None) -> dict[str, Any]:
    query = f"endpoint_override=127.0.0.1:{line_port}&scheme=http&region={KEYS['AWS_DEFAULT_REGION']}"
    return {
        "server": {"port": 0, "dashboard_port": 0},
        "avatars": {
            "uri": f"s3://{bucket}/avatars?{query}",
            **({"copies": str(disk / "copies"), "copies_bytes": DISK_BYTES * 2 // 3} if disk else {}),
        },
        "cache": {"uri": f"s3://{bucket}/cache?{query}"},
        "sessions": {"resume_s": RESUME_S},
        "capacity": {"lipsync_streams": 8},
        "deployments": {"lipsync": {"min_replicas": 2, "max_replicas": 2, "num_cpus": 0.2}},
    }


async def measure(args: argparse.Namespace, folder: Path, disk: Path | None, store: ObjectStore) -> dict[str, Any]:
    line = StoreLine(store.port)
    await line.start()
    bucket = store.new_bucket()
    uploads = disk / "tmp" if disk else folder / "uploads"
    uploads.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(uploads))
        for name, value in KEYS.items():
            patch.setenv(name, value)
        process, started = await asyncio.to_thread(start, folder, config(line.port, bucket, disk))
    service = Service(started.url, run=f"s{args.seed}")
    try:
        return await _run(args, service, started, line, store, bucket, disk, [started.home, uploads])
    finally:
        await asyncio.to_thread(stop, process)
        await line.close()


async def _run(
    args: argparse.Namespace, service: Service, started: Any, line: StoreLine, store: ObjectStore, bucket: str, disk: Path | None, folders: list[Path]
) -> dict[str, Any]:
    unmarked = await mark_avatars(service)
    if unmarked:
        print(f"pictures are not judged: {unmarked}", flush=True)
    before = {"avatars": await avatars(service), "files": files_below(*folders)}
    faults = plan(args.seed, args.minutes, args.every, {kind: KINDS[kind] for kind in args.only} if args.only else None)
    injector = Injector(service, started, line, store.filesystem(), bucket, disk)
    held, clients, mixed = Held(), talking(service, args.seed), [Mixed(service, f"mixed{n}", args.seed) for n in range(MIXED)]
    began = time.perf_counter()

    def now() -> float:
        return time.perf_counter() - began

    everybody: list[Client | Mixed] = [*clients, *mixed]
    running = [asyncio.create_task(each.run()) for each in everybody]
    watching = asyncio.create_task(watch(held, started.pid, now))
    happening = [asyncio.create_task(at(fault, injector, now)) for fault in faults]
    end = args.minutes * 60
    while now() < end:
        await asyncio.sleep(min(5.0, max(0.1, end - now())))
        for task in running:
            if task.done():
                raise RuntimeError("a client has stopped") from task.exception()
    await asyncio.gather(*happening)
    for each in everybody:
        each.stop.set()
    await asyncio.gather(*running)
    await asyncio.to_thread(service.bench.finish)
    left = await rest(service, mixed)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    left |= await leftovers(service, before, folders)
    await unmark_avatars(service, list(service.colours))
    found = findings(service, mixed, clients, injector.done, began, left, held)
    return {
        "machine": {"cores": os.cpu_count(), "cpu": platform.processor() or platform.machine()},
        "seed": args.seed,
        "minutes": args.minutes,
        "unmarked": unmarked,
        "faults": dict(Counter(each["fault"] for each in injector.done)),
        "played": figures(service.played),
        "sessions": {
            "resumed": sum(c.resumed for c in clients if isinstance(c, Talker)),
            "begun_anew": sum(c.begun_anew for c in clients if isinstance(c, Talker)),
        },
        "calls": {f"{call} {end}": n for (call, end), n in sorted(Counter((a.call, a.end) for m in mixed for a in m.answers).items())},
        "codes": dict(Counter(a.code for m in mixed for a in m.answers if a.code)),
        "left": left,
        "trends": held.trends(),
        "findings": found,
        "happened": injector.done,
    }


def talking(service: Service, seed: int) -> list[Client]:
    import random

    clients: list[Client] = [Talker(service, f"talker{n}", seed, 1.0) for n in range(TALKERS)]
    clients += [Viewer(service, f"viewer{n}", seed, 1.0) for n in range(VIEWERS)]
    for client in clients:
        if isinstance(client, Talker):
            dice = random.Random(f"interrupts {client.name} {seed}")
            client.interrupt_after = lambda dice=dice: dice.uniform(0.3, 4.0) if dice.random() < 0.3 else None  # type: ignore[misc]
    return clients


async def at(fault: Fault, injector: Injector, now: Any) -> None:
    await asyncio.sleep(max(0.0, fault.at_s - now()))
    print(f"  {now():6.1f} s  {fault.kind}", flush=True)
    await injector.happen(fault, now)


async def watch(held: Held, root: int, now: Any) -> None:
    while True:
        with suppress(psutil.NoSuchProcess):
            await asyncio.to_thread(held.look, root, now())
        await asyncio.sleep(LOOK_S)


async def avatars(service: Service) -> set[str]:
    async with service.client() as http:
        return {each["id"] for each in (await http.get("/v1/avatars")).raise_for_status().json()["data"]}


async def rest(service: Service, mixed: list[Mixed]) -> dict[str, Any]:
    """Wait until nothing is live; delete what a client could not delete."""
    end, health = time.monotonic() + REST_S, {}
    async with service.client() as http:
        while time.monotonic() < end:
            with suppress(httpx.HTTPError, ValueError):
                health = (await http.get("/health")).json()
                if not health["live_sessions"] and not health["live_utterances"]:
                    break
            await asyncio.sleep(1.0)
        for name in {name for each in mixed for name in each.left}:
            with suppress(httpx.HTTPError):
                await http.delete(f"/v1/avatars/{name}")
    return {"sessions": health.get("live_sessions"), "utterances": health.get("live_utterances")}


async def leftovers(service: Service, before: dict[str, Any], folders: list[Path]) -> dict[str, Any]:
    await asyncio.sleep(2.0)
    files = files_below(*folders) - before["files"]
    return {"avatars": sorted(await avatars(service) - before["avatars"]), "files": sorted(files)[:50]}


def findings(
    service: Service, mixed: list[Mixed], clients: list[Client], happened: list[dict[str, Any]], began: float, left: dict[str, Any], held: Held
) -> list[dict[str, Any]]:
    """Each with what happened in the seconds before it."""
    found: list[dict[str, Any]] = []

    def note(what: str, asked: float, over: float, **details: Any) -> None:
        since = [each for each in happened if asked - began - AFTER_S <= (each["until_s"] or each["at_s"]) and each["at_s"] <= over - began]
        # What holds a connection was lost: nobody can say why to whoever was at its other end.
        explained = what in ("cut", "untyped") and any(each["fault"] in CUTTING for each in since)
        told = [f"{each['at_s']:g} s {each['fault']}" for each in since]
        found.append({"what": what, "at_s": round(over - began, 1), "explained_by_a_lost_connection": explained, **details, "happened": told})

    for played in service.played:
        about = {"client": played.client, "key": played.key, "code": played.code, "said": played.said}
        if played.sound or played.picture:
            note("cross-talk or damage", played.asked, played.over, **about, sound=played.sound, picture=played.picture)
        if played.order:
            note("order", played.asked, played.over, **about, order=played.order[:3])
        if played.end in ("cut", "untyped"):
            note(played.end, played.asked, played.over, **about)
    for client in mixed:
        for answer in client.answers:
            if answer.end in ("untyped", "wrong") or answer.status == 500:
                what = answer.end if answer.end in ("untyped", "wrong") else "500"
                note(
                    what,
                    answer.asked,
                    answer.over,
                    client=client.name,
                    call=answer.call,
                    status=answer.status,
                    code=answer.code,
                    said=answer.said[:300],
                )
    found += [{"what": "left", "said": f"{name}: {value}"} for name, value in left.items() if value]
    found += [{"what": "grows", "said": leak} for leak in held.leaks()]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=20.0, help="seconds between faults, on average")
    parser.add_argument("--only", nargs="+", choices=tuple(KINDS), help="these faults alone")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/faults.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mounted = folder / "disk"
        mounted.mkdir()
        store = ObjectStore.moto(folder)
        try:
            with small_disk(mounted) as disk:
                if disk is None:
                    print("the disk is never full: no file system of its own could be mounted (as root it can)", flush=True)
                results = asyncio.run(measure(args, folder, disk, store))
        finally:
            store.kill()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    told = {name: value for name, value in results.items() if name != "happened"}
    print(json.dumps({**told, "findings": results["findings"][:20]}, indent=1, ensure_ascii=False))
    bad = [each for each in results["findings"] if not each.get("explained_by_a_lost_connection")]
    print(f"{len(results['findings'])} findings, {len(bad)} of them not explained by a lost connection")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
