"""Who calls, and whether they may: every request has its `Caller`, and every route says whom it lets in."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope
from starlette.websockets import WebSocket

from configs.models import AccessConfig
from deployments.ingress.sessions import protocol as p
from deployments.ingress.sessions.origin import subprotocol_of
from deployments.ingress.sessions.registry import RefusedError, turn_away
from museserve.access import tokens
from museserve.access.caller import EVERYBODY, Caller, Scope
from museserve.access.keys import Keys
from museserve.errors import ForbiddenError, MuseserveError, UnauthorizedError

NOBODY = Caller(scopes=frozenset())
# Whom a route lets in: callers with any of these scopes; where there is none, everybody, without a key.
May = tuple[Scope, ...]
ANYBODY: May = ()
SPEAK: May = ("speak",)
MANAGE: May = ("avatars",)
USE: May = ("speak", "avatars")
BEARER = "museserve.bearer."  # and a key or token: a sub-protocol, because a page cannot give its WebSocket headers


class Gate:
    """Knows callers by their key or session token. Raises ConfigError, when made: there are no keys to know them by."""

    def __init__(self, config: AccessConfig) -> None:
        self.keys = Keys(config.keys_path) if config.auth == "keys" else None
        self._longest_s = config.token_max_s
        self._used: OrderedDict[str, tuple[int, float]] = OrderedDict()  # by a token's id: how often, and since when

    def caller(self, connection: HTTPConnection) -> Caller:
        """Raises UnauthorizedError."""
        if self.keys is None:
            return EVERYBODY
        shown = _shown(connection)
        if not shown.startswith(tokens.PREFIX):
            return self.keys.caller(shown)
        caller = tokens.read(self.keys.token_secret, shown, connection.headers.get("origin")).caller
        if not self.still_in(caller):
            raise UnauthorizedError("the key that this session token was made with is no longer valid")
        return caller

    def still_in(self, caller: Caller) -> bool:
        """Whether one who was let in before may stay."""
        return self.keys is None or caller.key == tokens.OPERATOR or self.keys.valid(caller.key)

    def use(self, caller: Caller) -> None:
        """Count that one begins something. Raises UnauthorizedError: its session token has begun all that it may, at this replica."""
        if not caller.token:
            return
        now = time.monotonic()
        while self._used and now - next(iter(self._used.values()))[1] > self._longest_s:
            self._used.popitem(last=False)
        used, first = self._used.get(caller.token, (0, now))
        if used >= caller.uses:
            raise UnauthorizedError(f"the session token was for {caller.uses} {'uses' if caller.uses > 1 else 'use'}; ask the backend for another")
        self._used[caller.token] = used + 1, first


class KnowCaller:
    """ASGI middleware: `caller_of` knows who calls; where nobody does, routes with a `Guard` say why."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            told: dict[str, Any] = {"caller": NOBODY, "gate": self._gate}
            try:
                told["caller"] = self._gate.caller(HTTPConnection(scope))
            except UnauthorizedError as error:
                told["unauthorized"] = error
            scope["state"] = {**scope.get("state", {}), **told}
        await self._app(scope, receive, send)


class Guard:
    """ASGI middleware of a route: lets in who has one of the scopes `may`, and raises for all others, or closes their WebSocket."""

    def __init__(self, app: ASGIApp, may: May) -> None:
        self._app, self._may = app, may

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        try:
            self._check(scope["state"], scope.get("method", ""))
        except MuseserveError as error:
            if scope["type"] != "websocket":
                raise
            socket = WebSocket(scope, receive, send)
            await socket.accept(subprotocol_of(socket))  # a page is told of a close code, but not of a status
            code = p.CloseCode.UNAUTHORIZED if isinstance(error, UnauthorizedError) else p.CloseCode.FORBIDDEN
            await turn_away(socket, RefusedError(code, str(error), error.code))
            return
        await self._app(scope, receive, send)

    def _check(self, state: dict[str, Any], method: str) -> None:
        if (refused := state.get("unauthorized")) is not None:
            raise refused
        caller: Caller = state["caller"]
        if not caller.may(self._may):
            has = ", ".join(sorted(caller.scopes))
            raise ForbiddenError(f"this takes a key with the scope {' or '.join(self._may)}; this one has {has}")
        if method == "POST":  # a session counts when it begins, not each of its connections
            state["gate"].use(caller)


def caller_of(connection: HTTPConnection) -> Caller:
    caller: Caller = connection.state.caller
    return caller


def route(path: str, endpoint: Callable[..., Any], may: May, method: str = "GET", *inner: Middleware) -> Route:
    """inner: middleware behind the guard."""
    return Route(path, endpoint, methods=[method], middleware=[*_guard(may), *inner])


def socket_route(path: str, endpoint: Callable[..., Any], may: May) -> BaseRoute:
    return WebSocketRoute(path, endpoint, middleware=_guard(may))


def _guard(may: May) -> list[Middleware]:
    return [Middleware(Guard, may=may)] if may else []


def _shown(connection: HTTPConnection) -> str:
    """The key or token of a request. Raises UnauthorizedError: there is none."""
    kind, _, shown = connection.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and shown.strip():
        return shown.strip()
    for protocol in connection.scope.get("subprotocols", ()):
        if protocol.startswith(BEARER):
            return str(protocol.removeprefix(BEARER))
    raise UnauthorizedError("a key is needed: send Authorization: Bearer and the key, or a session token")
