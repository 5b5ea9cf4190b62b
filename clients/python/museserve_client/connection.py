"""One session over as many connections as it takes: heartbeats, acknowledgements, resuming, moving, close codes."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import aiohttp

from museserve_client.errors import ClosedError, MuseserveError, UnreachableError
from museserve_client.messages import Failure, Fragment, Moving, Pong, Ready, ServerMessage, parse, parse_fragment

logger = logging.getLogger(__name__)

ACK_S = 0.25
ACK_BYTES = 2**18
PONG_S = 4.0  # a connection that does not answer for so long is dead, though nobody said so
BEAT_S = 5.0
READY_S = 10.0
BACKOFF_S = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
GIVE_UP_S = 60.0  # or what the service keeps a session for, where that is longer
FIRST_TRIES = 3  # before there ever was a session
BUSY_S = 2.0  # unless the service says how long to wait
MOVE_AGAIN_S = 0.3

ABNORMAL = 1006
EXPIRED = 4003
UNKNOWN_SESSION = 4004
UNAUTHORIZED = 4010
# Nothing is to be tried again after these, and why. The others: resume where that makes sense, else a new session.
FINAL = {
    4000: "the service did not accept how the session was begun",
    4005: "the session's token was not accepted",
    4006: "another connection went on with this session",
    4009: "the origin is not accepted by the service",
    UNAUTHORIZED: "the service did not accept the key",
    4011: "the key is not for this",
}
NEW_SESSION = frozenset({1001, 1009, 1011, 1012, 4001, EXPIRED, UNKNOWN_SESSION, 4008, 4013})
WAIT_FIRST = frozenset({4008, 4013})

Dial = Callable[[], Awaitable[aiohttp.ClientWebSocketResponse]]


class Hooks(Protocol):
    def began(self, ready: Ready, anew: bool) -> None: ...
    def caught_up(self) -> None:
        """Behind `began` of a session that was resumed: all that was missed is there."""

    def message(self, message: ServerMessage) -> None: ...
    def fragment(self, fragment: Fragment) -> None: ...
    def lost(self, code: int) -> None: ...


class Connection:
    """`run` once; `send` from the same event loop, at any time."""

    def __init__(self, dial: Dial, start: Mapping[str, Any], hooks: Hooks, patient: bool = False) -> None:
        self._dial, self._start, self._hooks, self._patient = dial, dict(start), hooks, patient
        self._session: Ready | None = None
        self._seq = self._acked = self._unacked = 0
        self._out: deque[tuple[object, str | bytes]] = deque()
        self._out_there = asyncio.Event()
        self._ack_timer: asyncio.TimerHandle | None = None
        self._established = False
        self._catching_up = False
        self._ended = self._had_ready = False
        self._pinged_at: float | None = None
        self._closing: Failure | None = None
        self._told_to_move: asyncio.Future[float] | None = None
        self._moved: tuple[aiohttp.ClientWebSocketResponse, Ready] | None = None

    @property
    def open(self) -> bool:
        return self._established and not self._ended

    def send(self, message: Mapping[str, Any] | bytes, owner: object = None) -> bool:
        """False without a connection. owner: by which it can be dropped again while it is not on its way."""
        if not self.open:
            return False
        self._out.append((owner, message if isinstance(message, bytes) else json.dumps(message)))
        self._out_there.set()
        return True

    def drop(self, owner: object) -> None:
        self._out = deque(entry for entry in self._out if entry[0] is not owner)

    def end(self) -> None:
        """What was sent before goes out, then `end`; `run` returns when the service has closed."""
        self.send({"type": "end"})
        self._ended = True

    async def run(self) -> None:
        """Until `end`. Raises ClosedError, UnreachableError: it cannot go on."""
        tries, lost_at, why = 0, None, ""
        while True:
            socket: aiohttp.ClientWebSocketResponse | None = None
            ready: Ready | None = None
            if self._moved is not None:
                (socket, ready), self._moved = self._moved, None
            code = ABNORMAL
            self._closing = None
            try:
                if socket is None:
                    socket = await self._open()
                code = await self._live(socket, ready)
            except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
                why = str(error) or type(error).__name__
                logger.debug("no connection: %s", why)
            finally:
                self._established = False
                if socket is not None:
                    await socket.close()
            if self._ended:
                return
            if self._moved is not None:
                continue
            if self._had_ready:
                tries, lost_at = 0, None
            lost_at = time.monotonic() if lost_at is None else lost_at
            self._check_refused(code, tries, time.monotonic() - lost_at, why)
            if code in NEW_SESSION:
                if code == UNKNOWN_SESSION and self._session is not None:
                    tries = 0  # another part of the service answered: it can begin at once
                self._session = None
                self._seq = self._acked = self._unacked = 0
            if self._patient:
                self._hooks.lost(code)
            asked_s = max((self._closing.retry_after_s if self._closing else None) or BUSY_S, 1.0)
            wait_s = asked_s if code in WAIT_FIRST else BACKOFF_S[min(tries, len(BACKOFF_S) - 1)]
            tries += 1
            await asyncio.sleep(wait_s * random.uniform(0.8, 1.2))  # not all clients at once

    def _check_refused(self, code: int, tries: int, lost_s: float, why: str) -> None:
        """Raises when it is not to be tried again."""
        reason = self._closing
        if code in FINAL:
            raise ClosedError(reason.message if reason else FINAL[code], close_code=code, code=reason.code if reason else "closed")
        patience_s = max(self._session.limits.resume_s if self._session else 0.0, GIVE_UP_S)
        if lost_s > patience_s or (not self._patient and tries >= FIRST_TRIES):
            why = reason.message if reason else why
            raise UnreachableError(f"the service cannot be reached (close code {code}{f': {why}' if why else ''})")

    async def _open(self) -> aiohttp.ClientWebSocketResponse:
        return await asyncio.wait_for(self._dial(), READY_S)

    async def _live(self, socket: aiohttp.ClientWebSocketResponse, ready: Ready | None) -> int:
        """One connection until it is over; the close code. ready: was received on it already."""
        self._out.clear()
        self._pinged_at, self._had_ready = None, False
        if ready is None:
            session = self._session
            first = (
                {"type": "start", **self._start}
                if session is None
                else {"type": "resume", "session": session.session, "token": session.token, "seq": self._seq}
            )
            await socket.send_str(json.dumps(first))
        else:
            self._session, self._seq, self._acked = None, 0, 0
            self._receive_text_of(ready)
        self._told_to_move = asyncio.get_running_loop().create_future()
        reader, mover = asyncio.create_task(self._read(socket)), asyncio.create_task(self._move(self._told_to_move))
        others = [asyncio.create_task(self._write(socket)), asyncio.create_task(self._beat())]
        waited: set[asyncio.Task[Any]] = {reader, mover, *others}
        try:
            while True:
                done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if mover in done and mover.exception() is None:
                    self._moved = mover.result()
                    with suppress(ConnectionError, aiohttp.ClientError):
                        await socket.send_str('{"type":"end"}')
                    return 1012
                if reader in done:
                    return reader.result()
                if mover not in done:
                    for task in done:
                        task.result()
                    return ABNORMAL
                waited.discard(mover)  # what there is goes on until it is closed
        finally:
            for task in waited:
                task.cancel()
            await asyncio.gather(*waited, return_exceptions=True)
            if self._ack_timer is not None:
                self._ack_timer.cancel()
                self._ack_timer = None

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> int:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self._receive_text(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                self._receive_fragment(message.data)
        return socket.close_code or ABNORMAL

    async def _write(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            while self._out:
                _, payload = self._out.popleft()
                try:
                    await (socket.send_str(payload) if isinstance(payload, str) else socket.send_bytes(payload))
                except (ConnectionError, aiohttp.ClientError):
                    await asyncio.Event().wait()  # the reader knows how it was closed
            self._out_there.clear()
            await self._out_there.wait()

    async def _beat(self) -> None:
        """Returns when the connection is dead."""
        began = time.monotonic()
        last = began
        while True:
            await asyncio.sleep(0.2)
            now = time.monotonic()
            if not self._had_ready:
                if now - began > READY_S:
                    return
                continue
            if self._pinged_at is not None and now - self._pinged_at > PONG_S:
                return
            rest_s = min(BEAT_S, self._session.limits.heartbeat_s / 2) if self._session else BEAT_S
            if now - last >= rest_s:
                last = now
                self._ping()

    def _ping(self) -> None:
        if self.send({"type": "ping"}) and self._pinged_at is None:
            self._pinged_at = time.monotonic()

    def _receive_text(self, text: str) -> None:
        message = parse(text)
        if message is not None:
            self._receive_text_of(message)
        else:  # of a newer service; it counts all the same
            with suppress(ValueError, AttributeError):
                self._is_new(int(json.loads(text).get("seq") or 0))

    def _receive_text_of(self, message: ServerMessage) -> None:
        if not self._is_new(message.seq):
            return
        if isinstance(message, Ready):
            self._session = message
            self._established = self._patient = self._had_ready = True
            self._catching_up = message.resumed
            self._hooks.began(message, not message.resumed)
            self._ping()  # it is answered behind all that was missed
        elif isinstance(message, Pong):
            self._pinged_at = None
            if self._catching_up:
                self._catching_up = False
                self._hooks.caught_up()
        elif isinstance(message, Moving):
            if self._told_to_move is not None and not self._told_to_move.done():
                self._told_to_move.set_result(message.within_s)
                self._hooks.message(message)
        else:
            if isinstance(message, Failure) and message.closing is not None:
                self._closing = message
            self._hooks.message(message)

    async def _move(self, told: asyncio.Future[float]) -> tuple[aiohttp.ClientWebSocketResponse, Ready]:
        """Once it is told, a session on another part of the service. Raises UnreachableError when none begins in time."""
        within_s = await told
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            with suppress(aiohttp.ClientError, OSError, asyncio.TimeoutError, MuseserveError):
                socket = await self._open()
                try:
                    await socket.send_str(json.dumps({"type": "start", **self._start}))
                    said = await asyncio.wait_for(socket.receive(), READY_S)
                    message = parse(said.data) if said.type is aiohttp.WSMsgType.TEXT else None
                    if isinstance(message, Ready):
                        return socket, message
                    await socket.close()  # the part that stops answered once more
                except BaseException:
                    await socket.close()
                    raise
            await asyncio.sleep(MOVE_AGAIN_S)
        raise UnreachableError(f"no other part of the service answered within {within_s:g} s")

    def _receive_fragment(self, data: bytes) -> None:
        fragment = parse_fragment(data)
        if not self._is_new(fragment.seq):
            return
        self._unacked += len(data)
        if self._unacked > ACK_BYTES:
            self._ack()
        elif self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(ACK_S, self._ack)
        self._hooks.fragment(fragment)

    def _ack(self) -> None:
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        if self._seq > self._acked and self.send({"type": "ack", "seq": self._seq}):
            self._acked, self._unacked = self._seq, 0

    def _is_new(self, seq: int) -> bool:
        if seq == 0:
            return True
        if seq <= self._seq:
            return False
        self._seq = seq
        return True
