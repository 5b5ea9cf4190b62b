"""One WebSocket of a session: reads and writes until either side ends it, and watches that both keep up."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketState

from configs.models import SessionsConfig
from deployments.ingress.sessions import protocol as p
from deployments.ingress.sessions.session import Session
from museserve.errors import PayloadTooLargeError, RequestError

LOOK_S = 0.5  # how often silence and slowness are looked at
FLUSH_S = 1.0  # for what explains a closing to go out first
FLOOD = 20.0  # seconds' worth of refused messages after which the connection is cut


class TooFastError(RequestError):
    code = "too_fast"


class Connection:
    """`run` once. `close` may be called from elsewhere, and from then on nothing is read."""

    def __init__(self, socket: WebSocket, session: Session, config: SessionsConfig) -> None:
        self._socket, self._session, self._config = socket, session, config
        self._closing: asyncio.Future[p.CloseCode] = asyncio.get_running_loop().create_future()
        self._heard = time.monotonic()
        self._allowance = 2 * config.messages_per_s
        self._refused = 0
        self._full_since: float | None = None
        self._told_slow = False
        self._writer: asyncio.Task[None] | None = None

    @property
    def came_through(self) -> str | None:
        """Address that it came in from: the proxy of another node, or on one machine the caller. None: this node."""
        here, peer = self._socket.scope.get("server"), self._socket.client
        return peer.host if here and peer is not None and peer.host not in (here[0], "127.0.0.1", "::1") else None

    def close(self, code: p.CloseCode) -> None:
        if not self._closing.done():
            self._closing.set_result(code)
        if code is p.CloseCode.REPLACED and self._writer is not None:
            self._writer.cancel()  # takes nothing more, so that all of it is there for the other connection

    @property
    def closing(self) -> p.CloseCode | None:
        """The code that this side closes with, from the moment it is decided."""
        return self._closing.result() if self._closing.done() else None

    async def run(self) -> int:
        """Until the connection is gone; returns the close code."""
        writer = self._writer = asyncio.create_task(self._write())
        try:
            code = await self._read()
            if code is not None:
                return code
            code = self._closing.result()
            if code not in (p.CloseCode.SLOW, p.CloseCode.REPLACED):
                drained = asyncio.create_task(self._session.outbox.drained())
                await asyncio.wait({drained, writer}, timeout=FLUSH_S, return_when=asyncio.FIRST_COMPLETED)
                drained.cancel()
            writer.cancel()
            await self._shut(code)
            return code
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _read(self) -> int | None:
        """The peer's close code, or None when `close` was called."""
        receiving: asyncio.Task[Message] | None = None
        try:
            while not self._closing.done():
                receiving = receiving or asyncio.ensure_future(self._socket.receive())
                either: set[asyncio.Future[Any]] = {receiving, self._closing}
                await asyncio.wait(either, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                if self._closing.done():
                    break
                if receiving.done():
                    message, receiving = receiving.result(), None
                    if message["type"] == "websocket.disconnect":
                        return int(message.get("code") or 1005)
                    self._take(message.get("text"), message.get("bytes"))
                self._watch()
            return None
        finally:
            if receiving is not None:
                receiving.cancel()
                await asyncio.gather(receiving, return_exceptions=True)

    def _take(self, text: str | None, data: bytes | None) -> None:
        now = time.monotonic()
        rate = self._config.messages_per_s
        self._allowance = min(2 * rate, self._allowance + (now - self._heard) * rate)
        self._heard = now
        size = len(data) if text is None else len(text)  # type: ignore[arg-type]
        if size > self._config.message_bytes:
            self._say(PayloadTooLargeError(f"a message of {size:,} is longer than the {self._config.message_bytes:,} accepted"), p.CloseCode.TOO_BIG)
        elif text is None:
            self._session.handle_bytes(data or b"")
        elif self._allowance < 1:
            self._refused += 1
            flood = self._refused > FLOOD * rate
            self._say(TooFastError(f"more than {rate:g} messages a second; this one was not read"), p.CloseCode.FLOOD if flood else None)
        else:
            self._allowance -= 1
            if self._allowance > rate:
                self._refused = 0
            if isinstance(self._session.handle(text), p.End):
                self.close(p.CloseCode.NORMAL)

    def _say(self, error: RequestError, closing: p.CloseCode | None = None) -> None:
        said = p.Failure(code=error.code, message=str(error), retry_after_s=1.0 if isinstance(error, TooFastError) else None, closing=closing)
        self._session.outbox.say_once(said)
        if closing is not None:
            self.close(closing)

    def _watch(self) -> None:
        now = time.monotonic()
        if now - self._heard > self._config.silent_s:
            self.close(p.CloseCode.SILENT)
        if not self._session.outbox.full:
            self._full_since, self._told_slow = None, False
            return
        self._full_since = self._full_since or now
        waited = now - self._full_since
        if waited > self._config.slow_s:
            self.close(p.CloseCode.SLOW)
        elif waited > self._config.slow_s / 2 and not self._told_slow:
            self._told_slow = True
            message = f"nothing was acknowledged for {waited:.0f} s and {self._session.outbox.held_bytes:,} bytes wait"
            self._session.outbox.say_first(p.Failure(code="slow_client", message=message))

    async def _write(self) -> None:
        while True:
            payload = await self._session.outbox.next()
            if isinstance(payload, str):
                await self._socket.send_text(payload)
            else:
                await self._socket.send_bytes(payload)

    async def _shut(self, code: p.CloseCode) -> None:
        if self._socket.application_state is WebSocketState.CONNECTED:
            closing = asyncio.create_task(self._socket.close(code, code.name.lower()))
            await asyncio.wait({closing}, timeout=FLUSH_S)  # a peer that does not read does not answer either
            closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)
