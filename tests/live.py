"""A client of live sessions for tests: keeps what came, acknowledges it, and knows how to wait."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from deployments.ingress.sessions.protocol import HEADER, FrameHeader


@dataclass(frozen=True)
class Came:
    """One message: `json` of a text frame, or `header` and `data` of a binary one; at: when."""

    at: float
    json: dict[str, Any] = field(default_factory=dict)
    header: FrameHeader | None = None
    data: bytes = b""

    @property
    def seq(self) -> int:
        return self.header.seq if self.header else int(self.json["seq"])

    @property
    def type(self) -> str:
        return "fragment" if self.header else str(self.json["type"])


class Live:
    """`async with Live(service.url, avatar="woman") as live: ...`; the query begins a session, unless `bare`."""

    def __init__(self, url: str, *, acks: bool = True, bare: bool = False, **query: object) -> None:
        query = query if bare else query or {"type": "start"}
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        self._url = f"{url.replace('http', 'ws', 1)}/v1/sessions" + (f"?{asked}" if asked else "")
        self._acks = acks
        self.came: list[Came] = []
        self._news = asyncio.Condition()
        self.close_code: int | None = None
        self._reader: asyncio.Task[None] | None = None
        self.socket: ClientConnection

    async def __aenter__(self) -> Live:
        self.socket = await connect(self._url, max_size=None, compression=None, close_timeout=2)
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.socket.close()
        if self._reader is not None:
            await self._reader

    @property
    def ready(self) -> dict[str, Any]:
        return next(c.json for c in self.came if c.type == "ready")

    @property
    def last_seq(self) -> int:
        return max((c.seq for c in self.came), default=0)

    def of(self, kind: str, utterance: str | None = None) -> list[dict[str, Any]]:
        return [c.json for c in self.came if c.type == kind and utterance in (None, c.json.get("id"))]

    def fragments(self, n: int | None = None) -> list[Came]:
        return [c for c in self.came if c.header is not None and n in (None, c.header.n)]

    async def send(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def until(self, found: Callable[[], Any], seconds: float = 20.0) -> Any:
        """What `found` returns, as soon as it is true."""

        async def look() -> Any:
            async with self._news:
                while not (result := found()):
                    if self.close_code is not None:
                        raise AssertionError(f"closed with {self.close_code}; last: {[c.json or c.header for c in self.came[-4:]]}")
                    await self._news.wait()
                return result

        try:
            return await asyncio.wait_for(look(), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            raise AssertionError(f"nothing in {seconds} s; last: {[c.json or c.header for c in self.came[-6:]]}") from None

    async def answer(self, kind: str, utterance: str | None = None, count: int = 1, seconds: float = 20.0) -> dict[str, Any]:
        """The count-th message of a kind."""
        found = await self.until(lambda: len(got := self.of(kind, utterance)) >= count and got, seconds)
        return dict(found[count - 1])

    async def closed(self, seconds: float = 20.0) -> int:
        assert self._reader is not None
        await asyncio.wait({self._reader}, timeout=seconds)
        assert self.close_code is not None, "the connection stayed open"
        return self.close_code

    def cut(self) -> None:
        """Lose the connection without a word."""
        self.socket.transport.abort()

    async def _read(self) -> None:
        try:
            async for message in self.socket:
                if isinstance(message, bytes):
                    came = Came(time.perf_counter(), header=FrameHeader.unpack(message), data=message[HEADER.size :])
                else:
                    came = Came(time.perf_counter(), json.loads(message))
                self.came.append(came)
                if self._acks and came.header is not None:
                    await self.send(type="ack", seq=came.seq)
                async with self._news:
                    self._news.notify_all()
        except ConnectionClosed:
            pass
        finally:
            self.close_code = self.socket.close_code
            async with self._news:
                self._news.notify_all()


async def soon(check: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until `check` is true."""
    for _ in range(round(seconds / 0.05)):
        if await asyncio.to_thread(check):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not so after {seconds} s")
