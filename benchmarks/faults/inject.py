"""Making each fault happen, and mending it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pyarrow.fs as pafs

from benchmarks.faults.line import Mode, StoreLine
from benchmarks.faults.plan import Fault
from benchmarks.load.clients import KeyedLive, Service
from tests.conftest import Service as Started

DISK_BYTES = 1_200 * 2**20  # copies of some avatars, 100 MB each, and uploads
KEPT_FREE = 64 * 2**10


@contextmanager
def small_disk(folder: Path, size: int = DISK_BYTES) -> Iterator[Path | None]:
    """A file system of its own that can be filled; None where we may not mount one."""
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "museserve", str(folder)], capture_output=True, check=False)
    if made.returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


class Injector:
    """started: the service's processes; line: to its store; bucket: of the cache and the avatars; disk: where copies and uploads lie."""

    def __init__(self, service: Service, started: Started, line: StoreLine, store: pafs.FileSystem, bucket: str, disk: Path | None) -> None:
        self._service, self._started, self._line, self._store, self._bucket, self._disk = service, started, line, store, bucket, disk
        self.done: list[dict[str, Any]] = []

    async def happen(self, fault: Fault, now: Callable[[], float]) -> None:
        """Do it, wait while it lasts, and mend it. What was done is noted with its times."""
        dice = random.Random(fault.dice)
        kind, _, what = fault.kind.partition(" ")
        noted: dict[str, Any] = {"fault": fault.kind, "at_s": round(now(), 2), "until_s": None, "what": ""}
        self.done.append(noted)
        doing: Coroutine[Any, Any, str]
        if kind in ("kill", "freeze"):
            doing = self._signal(what, kind == "freeze", fault.for_s, dice)
        elif kind == "store":
            doing = self._store_is("silent" if what == "silent" else what, fault.for_s)  # type: ignore[arg-type]
        else:
            doing = {
                "disk full": self._fill_disk,
                "corrupt cache": self._corrupt_cache,
                "corrupt copy": self._corrupt_copy,
                "reader that does not read": self._do_not_read,
                "bodies half sent": self._send_half,
                "sessions dropped": self._drop_sessions,
            }[fault.kind](fault.for_s, dice)
        try:
            noted["what"] = await doing
        except (OSError, psutil.Error) as error:
            noted["what"] = f"could not be done: {type(error).__name__}: {error}"
        noted["until_s"] = round(now(), 2)

    async def _signal(self, deployment: str, freeze: bool, seconds: float, dice: random.Random) -> str:
        replicas = await asyncio.to_thread(self._started.replicas, deployment)
        if not replicas:
            return "no replica was there"
        victim = dice.choice(sorted(replicas, key=lambda each: each.pid))
        victim.send_signal(signal.SIGSTOP if freeze else signal.SIGKILL)
        if freeze:
            await asyncio.sleep(seconds)
            with suppress(psutil.NoSuchProcess):
                victim.send_signal(signal.SIGCONT)
        return f"pid {victim.pid}"

    async def _store_is(self, mode: Mode, seconds: float) -> str:
        self._line.mode = mode
        await asyncio.sleep(seconds)
        self._line.mode = "whole"
        return f"for {seconds:g} s"

    async def _fill_disk(self, seconds: float, dice: random.Random) -> str:
        if self._disk is None:
            return "left out: no disk of its own could be mounted"
        filler, room = self._disk / "filler", 0

        def fill() -> int:
            free = os.statvfs(str(self._disk))
            size = max(0, free.f_bavail * free.f_frsize - KEPT_FREE)
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(1, size))
            return size

        try:
            room = await asyncio.to_thread(fill)
            await asyncio.sleep(seconds)
        finally:
            filler.unlink(missing_ok=True)
        return f"{room:,} bytes for {seconds:g} s"

    async def _corrupt_cache(self, seconds: float, dice: random.Random) -> str:
        """Change some bytes of some entries, at their place or at their end."""

        def corrupt() -> str:
            found = [each for each in self._store.get_file_info(pafs.FileSelector(f"{self._bucket}/cache", True, True)) if (each.size or 0) > 64]
            chosen = dice.sample(sorted(found, key=lambda each: each.path), min(5, len(found)))
            for entry in chosen:
                with self._store.open_input_stream(entry.path) as stream:
                    data = bytearray(stream.read())
                at = dice.randrange(len(data))
                data = data[:at] if dice.random() < 0.3 else data[:at] + dice.randbytes(8) + data[at + 8 :]
                with self._store.open_output_stream(entry.path) as out:
                    out.write(bytes(data))
            return f"{len(chosen)} of {len(found)} entries"

        return await asyncio.to_thread(corrupt)

    async def _corrupt_copy(self, seconds: float, dice: random.Random) -> str:
        """Cut short a copy of an avatar on the node's disk. One that is mapped must not be written to: a torn page is the disk's fault, not ours."""

        def corrupt() -> str:
            copies = sorted(path for path in (self._disk or Path("/nowhere")).rglob("*.arrow") if path.is_file())
            if not copies:
                return "no copy was there"
            victim = dice.choice(copies)
            short = victim.read_bytes()[: dice.randrange(victim.stat().st_size)]
            beside = victim.with_name(f"{victim.name}.short")
            beside.write_bytes(short)
            beside.replace(victim)  # whoever has the old one mapped keeps it
            return victim.name

        return await asyncio.to_thread(corrupt)

    async def _do_not_read(self, seconds: float, dice: random.Random) -> str:
        """Ask for long films and recordings of speech, and read nothing."""
        text = "I would like you to walk me through a system that you designed, from the first sketch to production. " * 8
        calls = [("/v1/videos", {"text": text}), ("/v1/audio/speech", {"input": text, "response_format": "wav"})]
        ends = []
        for _ in range(dice.randint(2, 6)):
            path, body = dice.choice(calls)
            ends.append(await self._raw(path, body, whole=True))
        await asyncio.sleep(seconds)
        for end in ends:
            end.close()
        return f"{len(ends)} for {seconds:g} s"

    async def _send_half(self, seconds: float, dice: random.Random) -> str:
        ends = [await self._raw("/v1/videos", {"text": "x" * 500}, whole=False) for _ in range(dice.randint(5, 40))]
        await asyncio.sleep(seconds)
        for end in ends:
            end.close()
        return f"{len(ends)} for {seconds:g} s"

    async def _raw(self, path: str, body: dict[str, str], whole: bool) -> socket.socket:
        import json

        place, data = urlsplit(self._service.url), json.dumps(body).encode()
        head = {"Host": place.netloc, "Content-Type": "application/json", "Content-Length": str(len(data)), **self._service.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        request = f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + (data if whole else data[: len(data) // 2])

        def send() -> socket.socket:
            end = socket.create_connection((place.hostname or "", place.port or 80), timeout=10)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            end.sendall(request)
            return end

        return await asyncio.to_thread(send)

    async def _drop_sessions(self, seconds: float, dice: random.Random) -> str:
        """Begin sessions, let one of them speak, and lose their connections without a word."""
        count = dice.randint(2, 8)
        for n in range(count):
            live = KeyedLive(self._service, avatar="woman")
            try:
                await live.__aenter__()
                await live.answer("ready", seconds=10)
                if n == 0:
                    await live.send(type="speak", text="This sentence is cut off in the middle of it, because nobody is there any more.")
                    await asyncio.sleep(0.3)
            except (AssertionError, OSError):
                continue
            finally:
                with suppress(Exception):
                    live.cut()
        return f"{count}"
