"""All live conversations of one ingress replica: who may begin, who may go on, and that none is left behind."""

from __future__ import annotations

import asyncio
import contextvars
import hmac
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from configs.models import AppConfig
from deployments import logs, quotas
from deployments.ingress.sessions import protocol as p
from deployments.ingress.sessions.connection import Connection
from deployments.ingress.sessions.draining import PROXIES_LOOK_S, draining_period_s, leaving_proxies, until_draining
from deployments.ingress.sessions.metrics import SessionMetrics
from deployments.ingress.sessions.origin import refused_origin, subprotocol_of
from deployments.ingress.sessions.session import Session
from deployments.ingress.sessions.speaker import Film, SessionAvatar, Signing
from museserve.access.caller import Caller
from museserve.errors import ForbiddenError, MuseserveError, QuotaError, RequestError, UnauthorizedError
from museserve.media.provenance import Origin, Signer
from museserve.messages import CallIds, ServiceInfo
from museserve.speech.request import parse_delivery

logger = logging.getLogger("ray.serve")

SWEEP_S = 1.0
MOST_STARTING = 16  # connections that wait for their first message, of `configs.models.SPARE_REQUESTS`
GRACE_S = 2.0  # from the loss of a connection to its last message
# Of connections. 1005, "no code", is also what Ray Serve says when it does not know, so it counts as lost.
ENDING = frozenset({p.CloseCode.NORMAL, p.CloseCode.FLOOD, p.CloseCode.TOO_BIG, p.CloseCode.EXPIRED, p.CloseCode.RESTART, p.CloseCode.UNAUTHORIZED})


@dataclass
class LiveSession:
    """A session with the connection that has it. owner: the key or address that began it. lost: since when it has none."""

    session: Session
    ready: p.Ready
    caller: Caller
    owner: str
    connection: Connection | None = None
    lost: float = 0.0

    @property
    def proxy(self) -> str | None:
        """Address that the connection came in from: of another node, or on one machine of the caller. None: of this node."""
        return None if self.connection is None else self.connection.came_through


class RefusedError(Exception):
    """A connection that gets no session."""

    def __init__(self, code: p.CloseCode, message: str, kind: str = "bad_start", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code, self.kind = code, kind
        self.retry_after_s = retry_after_s if code != p.CloseCode.BUSY else retry_after_s or 2.0


async def turn_away(socket: WebSocket, error: RefusedError) -> None:
    """Tell why, and close. socket: accepted."""
    said = p.Failure(code=error.kind, message=str(error), closing=error.code, retry_after_s=error.retry_after_s)
    try:
        await socket.send_text(said.model_dump_json(exclude_none=True))
        await socket.close(error.code, error.code.name.lower())
    except (RuntimeError, WebSocketDisconnect):
        pass  # it is gone already


class Sessions:
    """`serve` is the endpoint of `WS /v1/sessions`.

    Args:
        film: one utterance as fragments; open_avatar: an avatar by the name that a caller gives it; info: what runs.
        use: counts that a caller begins a session; raises UnauthorizedError. still_in: whether one who was let in may stay.
        signer: of what is sent; None = nothing is signed.
    """

    def __init__(
        self,
        config: AppConfig,
        film: Film,
        open_avatar: Callable[[Caller, str | None], Awaitable[SessionAvatar]],
        info: Callable[[], Awaitable[ServiceInfo]],
        use: Callable[[Caller], None] = lambda caller: None,
        still_in: Callable[[Caller], bool] = lambda caller: True,
        signer: Signer | None = None,
    ) -> None:
        self._signer = signer
        self._app, self._config = config, config.sessions
        self._film, self._open_avatar, self._info = film, open_avatar, info
        self._use, self._still_in = use, still_in
        self._live: dict[str, LiveSession] = {}
        self._entering = 0
        self._starting: list[asyncio.Future[None]] = []  # connections whose first message has not come, the oldest first
        self._metrics = SessionMetrics()
        self._sweeper: asyncio.Task[None] | None = None
        self._watchers: list[asyncio.Task[None]] = []
        self._ends_at: float | None = None  # when connections are closed, because this replica is being stopped
        self._tasks: set[asyncio.Task[None]] = set()
        self._context = contextvars.copy_context()

    def configure(self, config: AppConfig) -> None:
        """For the sessions that begin from now on."""
        self._app, self._config = config, config.sessions

    @property
    def live(self) -> int:
        return len(self._live)

    async def serve(self, socket: WebSocket) -> None:
        """One connection, in a task of its own with a context of its own.

        When a client is gone, Serve cancels its request, and, through the context, the calls that were made for it. But a session outlives its
        connection, and why the connection ended stands in the last message.
        """
        task = self._context.copy().run(asyncio.create_task, self._serve(socket))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task}, timeout=GRACE_S)
            task.cancel()
            raise

    async def _serve(self, socket: WebSocket) -> None:
        await socket.accept(subprotocol_of(socket))
        code: int = p.CloseCode.FAILED
        try:
            live = await self._admit(socket)
            code = await self._connect(live, socket)
        except WebSocketDisconnect as gone:
            code = gone.code
        except RefusedError as error:
            code = error.code
            await turn_away(socket, error)
        except Exception:
            logger.exception("a session failed")
            await turn_away(socket, RefusedError(p.CloseCode.FAILED, "the service failed on this session; its log has the details", "failed"))
        finally:
            self._metrics.closed(code)
            self._count()

    async def _admit(self, socket: WebSocket) -> LiveSession:
        origins = self._app.server.cors_origins
        if (origin := refused_origin(socket, origins)) is not None:
            accepted = ", ".join(origins) or "none but its own"
            message = f"a page of {origin!r} may not use this service; server.cors_origins accepts: {accepted}"
            raise RefusedError(p.CloseCode.ORIGIN, message, "origin")
        try:
            first = p.parse_query(dict(socket.query_params)) or p.parse_first(await self._first_text(socket))
            caller: Caller = socket.state.caller
            quotas.CURRENT.set(socket.state.usage)
            quotas.charge("requests")
            owner = caller.key or (socket.client.host if socket.client is not None else "")
            return self._resumed(first, caller) if isinstance(first, p.Resume) else await self._new(first, caller, owner)
        except QuotaError as error:
            raise RefusedError(p.CloseCode.BUSY, str(error), error.code, error.retry_after_s) from None
        except UnauthorizedError as error:
            raise RefusedError(p.CloseCode.UNAUTHORIZED, str(error), error.code) from None
        except ForbiddenError as error:
            raise RefusedError(p.CloseCode.FORBIDDEN, str(error), error.code) from None
        except MuseserveError as error:
            raise RefusedError(p.CloseCode.BAD_START, str(error), error.code) from None

    async def _first_text(self, socket: WebSocket) -> str:
        receiving = asyncio.create_task(socket.receive())
        given_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if len(self._starting) >= MOST_STARTING:
            self._starting.pop(0).set_result(None)
        self._starting.append(given_up)
        either: set[asyncio.Future[Any]] = {receiving, given_up}
        try:
            await asyncio.wait(either, timeout=self._config.start_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if given_up in self._starting:
                self._starting.remove(given_up)
        if not receiving.done():
            receiving.cancel()
            within = "before others needed the place" if given_up.done() else f"within {self._config.start_s:g} s"
            raise RefusedError(p.CloseCode.START_TIMEOUT, f"no start or resume came {within}")
        message = receiving.result()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code") or 1005)
        text: str | None = message.get("text")
        if text is None:
            raise RequestError('the first message was binary; send {"type":"start"} or {"type":"resume",…}')
        if len(text) > self._config.message_bytes:
            raise RefusedError(p.CloseCode.TOO_BIG, f"a message of {len(text):,} is longer than the {self._config.message_bytes:,} accepted")
        return text

    async def _new(self, start: p.Start, caller: Caller, owner: str) -> LiveSession:
        if self._ends_at is not None:
            message = "this replica is being stopped; connect again, and another one answers"
            raise RefusedError(p.CloseCode.RESTART, message, "moving")
        parse_delivery(start.voice, start.speed, start.language)
        if self.live + self._entering >= self._config.max_sessions and not await self._give_up_lost():
            raise RefusedError(p.CloseCode.BUSY, f"{self.live} sessions are live, the most this service takes; try again in a moment", "busy")
        self._entering += 1
        try:
            avatar = await self._open_avatar(caller, start.avatar)
            info = await self._info()
        finally:
            self._entering -= 1
        self._use(caller)
        name = f"s_{secrets.token_hex(8)}"
        logs.carry(CallIds(session=name))
        signing = None if self._signer is None else Signing(self._signer, info.lipsync.name)
        session = Session(start, avatar, self._app, self._film, self._metrics, name, caller.tenant, signing)
        live = LiveSession(session, self._ready(session, avatar, info), caller, owner, lost=time.monotonic())
        self._live[session.id] = live
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.create_task(self._sweep())
        return live

    async def _give_up_lost(self) -> bool:
        """Free a seat that nobody sits in: of the owner who has most of those, the one left longest ago. Whether there was one."""
        left = [live for live in self._live.values() if live.connection is None]
        if not left:
            return False
        seats = Counter(live.owner for live in left)
        given_up = min(left, key=lambda live: (-seats[live.owner], live.lost))
        logger.info("session %s was without a connection for %.0f s, and gives its seat up", given_up.session.id, time.monotonic() - given_up.lost)
        await self._end(given_up)
        return True

    def _resumed(self, wanted: p.Resume, caller: Caller) -> LiveSession:
        live = self._live.get(wanted.session)
        foreign = live is not None and live.caller.tenant != caller.tenant
        if live is None or foreign or (live.connection is not None and live.connection.closing in ENDING):  # one on its way out is no longer here
            raise RefusedError(
                p.CloseCode.UNKNOWN_SESSION, f"there is no session {wanted.session!r} here, or no longer; start anew", "unknown_session"
            )
        if not hmac.compare_digest(live.session.token.encode(), wanted.token.encode()):
            raise RefusedError(p.CloseCode.BAD_TOKEN, "the token does not belong to this session", "bad_token")
        if live.connection is not None:
            live.connection.close(p.CloseCode.REPLACED)
        outbox = live.session.outbox
        if not outbox.rewind(wanted.seq):
            raise RequestError(
                f"cannot go on after message {wanted.seq}: messages up to {outbox.acknowledged} were acknowledged, {outbox.last_seq} were made"
            )
        self._metrics.resumed()
        return live

    async def _connect(self, live: LiveSession, socket: WebSocket) -> int:
        session = live.session
        logs.carry(CallIds(session=session.id))
        connection = live.connection = Connection(socket, session, self._config)
        resumed = live.ready.seq > 0
        if resumed:
            session.outbox.say_first(live.ready.model_copy(update={"seq": 0, "resumed": True, "queue": session.queue}))
        else:
            session.outbox.say(live.ready)
            live.ready = live.ready.model_copy(update={"seq": session.outbox.last_seq})
        self._count()
        code = int(p.CloseCode.FAILED)
        if self._ends_at is not None:
            self._tell_to_move(session.outbox.say_once, self._ends_at)
        self._watch(socket)
        try:
            code = await connection.run()
            return code
        finally:
            if live.connection is connection:  # it was not replaced
                live.connection, live.lost = None, time.monotonic()
                if code in ENDING or not session.start.resumable:
                    await self._end(live)

    def _ready(self, session: Session, avatar: SessionAvatar, info: ServiceInfo) -> p.Ready:
        limits, engine, speech = self._config, info.lipsync, info.speech
        return p.Ready(
            session=session.id,
            token=session.token,
            avatar=avatar.name,
            avatar_version=avatar.version,
            voice=session.start.voice,
            lips=p.Engine(name=engine.name, reason=engine.reason),
            speech=p.Engine(name=speech.engine, reason=speech.reason),
            idle=avatar.idle,
            media=avatar.media,
            digital_source_type=Origin(avatar.id, avatar.version, avatar.uploaded, speech.engine, engine.name).source_type,
            limits=p.Limits(
                queued_utterances=limits.queued_utterances,
                message_bytes=limits.message_bytes,
                messages_per_s=limits.messages_per_s,
                text_chars=self._app.speech.max_text_chars,
                audio_bytes=limits.audio_bytes,
                audio_s=self._app.limits.max_audio_s,
                window_bytes=limits.window_bytes,
                heartbeat_s=limits.heartbeat_s,
                silent_s=limits.silent_s,
                resume_s=limits.resume_s if session.start.resumable else 0.0,
                idle_s=limits.idle_s,
                session_s=limits.session_s,
            ),
        )

    def _watch(self, socket: WebSocket) -> None:
        """Find out when this replica is stopped, or a proxy that sessions came through. socket: came in where it listens."""
        server = socket.scope.get("server")
        if server and all(watcher.done() for watcher in self._watchers) and self._ends_at is None:
            self._watchers = [asyncio.create_task(self._tell_when_draining(*server)), asyncio.create_task(self._tell_when_proxies_leave())]

    async def _tell_when_draining(self, host: str, port: int) -> None:
        await until_draining(host, port)
        self._ends_at = time.monotonic() + draining_period_s()
        logger.info("this replica is being stopped: %d sessions are told to move", self.live)
        for live in self._live.values():
            if live.connection is not None:
                self._tell_to_move(live.session.outbox.say_first, self._ends_at)

    async def _tell_when_proxies_leave(self) -> None:
        told: set[Connection] = set()
        while self._ends_at is None:
            await asyncio.sleep(PROXIES_LOOK_S)
            through = {live.proxy for live in self._live.values() if live.proxy is not None}
            if not through:
                continue
            try:
                leaving = await asyncio.to_thread(leaving_proxies, through)
            except Exception as error:  # the controller starts anew, or the head is away
                logger.debug("nobody tells which proxies leave: %s", error)
                continue
            told &= {live.connection for live in self._live.values() if live.connection is not None}
            for live in self._live.values():
                if live.connection is not None and live.proxy in leaving and live.connection not in told:
                    logger.info("the proxy of %s takes nothing new: session %s is told to move", live.proxy, live.session.id)
                    told.add(live.connection)
                    self._tell_to_move(live.session.outbox.say_first, time.monotonic() + draining_period_s())

    def _tell_to_move(self, say: Callable[[p.ServerMessage], None], ends_at: float) -> None:
        say(p.Moving(within_s=round(max(0.0, ends_at - time.monotonic()), 1)))
        self._metrics.moving()

    async def _sweep(self) -> None:
        """End what nobody comes back to, and what went on for too long. Lives as long as there are sessions."""
        while self._live:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            for live in list(self._live.values()):
                session = live.session
                if not self._still_in(live.caller):
                    if live.connection is not None:
                        live.connection.close(p.CloseCode.UNAUTHORIZED)
                    else:
                        await self._end(live)
                elif now - session.began > self._config.session_s or now - session.last_active > self._config.idle_s:
                    if live.connection is not None:
                        live.connection.close(p.CloseCode.EXPIRED)  # which ends it
                    else:
                        await self._end(live)
                elif live.connection is None and now - live.lost > self._config.resume_s:
                    await self._end(live)
        for watcher in self._watchers:
            watcher.cancel()
        self._watchers.clear()

    async def _end(self, live: LiveSession) -> None:
        if self._live.pop(live.session.id, None) is not None:
            await live.session.aclose()
            self._count()

    def _count(self) -> None:
        connected = sum(live.connection is not None for live in self._live.values())
        self._metrics.sessions(connected, len(self._live) - connected)
