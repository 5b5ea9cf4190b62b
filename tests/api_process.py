"""`tests.one_process` as a process of its own, for tests of clients that run in an environment without museserve. Standard library alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent


def interpreter() -> str | None:
    """One that has museserve; None when there is none."""
    own = Path(os.environ.get("MUSESERVE_PYTHON", ROOT / ".venv" / "bin" / "python"))
    return sys.executable if find_spec("ray") else str(own) if own.exists() else None


@dataclass
class Api:
    """stdin: of its process; None where it was there before."""

    url: str
    stdin: IO[str] | None

    def move(self) -> None:
        """Tell all its sessions to move."""
        assert self.stdin is not None
        self.stdin.write("move\n")
        self.stdin.flush()


@contextmanager
def process(folder: Path) -> Iterator[Api]:
    """One that runs already where MUSESERVE_URL names it. Raises LookupError: nothing here has museserve."""
    if given := os.environ.get("MUSESERVE_URL"):
        yield Api(given, None)
        return
    if (python := interpreter()) is None:
        raise LookupError("NO MUSESERVE: neither this environment nor .venv has it, and MUSESERVE_PYTHON names none")
    log = folder / "api.log"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [python, "-m", "tests.one_process", str(folder)]
    with log.open("wb") as errors:
        started = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert started.stdout is not None and started.stdin is not None
    try:
        url = started.stdout.readline().strip()
        assert url.startswith("http"), log.read_text(errors="replace")[-4000:]
        yield Api(url, started.stdin)
    finally:
        started.stdin.close()
        started.wait(60)


class Line:
    """A connection to a service that can be cut without a word, and be gone for a while."""

    def __init__(self, url: str) -> None:
        self._host, port = url.removeprefix("http://").rsplit(":", 1)
        self._port = int(port)
        self._writers: set[asyncio.StreamWriter] = set()
        self.down = False

    async def __aenter__(self) -> Line:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.down:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(self._host, self._port)
        self._writers |= {writer, back}
        await asyncio.gather(_pipe(reader, back), _pipe(there, writer))


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.transport.abort()
