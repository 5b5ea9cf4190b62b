"""Which hosts and pages a request may come by, and what browsers may do with the answers."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.models import ServerConfig
from deployments.ingress.answers import answer_error
from museserve.errors import ForbiddenError

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
LOCAL = ("localhost", "localhost.localdomain")


class Boundary:
    """ASGI middleware.

    A page whose own name is made to point at this service (DNS rebinding) has that name as `Host`, so only names that are listed
    pass. Addresses do: nobody can rebind one. What changes something is refused from pages of other sites, which browsers let send forms anywhere.
    """

    def __init__(self, app: ASGIApp, server: ServerConfig) -> None:
        self._app, self._hosts, self._origins = app, server.hosts, server.cors_origins
        self._resource_policy = "cross-origin" if self._origins else "same-origin"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            self._check(Headers(scope=scope), scope.get("method", "GET"))
        except ForbiddenError as error:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008})  # before it is accepted: the handshake gets 403
                return
            await (await answer_error(Request(scope), error))(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Cross-Origin-Resource-Policy"] = self._resource_policy
            await send(message)

        await self._app(scope, receive, marked)

    def _check(self, headers: Headers, method: str) -> None:
        host = headers.get("host", "")
        if not self._known(host):
            raise ForbiddenError(f"this service is not asked for as {host[:100]!r}; server.hosts names the hosts that it is")
        if method in SAFE or "*" in self._origins:
            return
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if site in ("same-origin", "none"):  # the browser knows, also where a proxy has changed the host
            return
        if origin is None:
            foreign = site is not None  # a program says neither
        else:
            foreign = origin not in self._origins and urlsplit(origin).netloc.lower() != host.lower()
        if foreign:
            raise ForbiddenError(f"a page of {(origin or 'another site')[:100]!r} may not do this; server.cors_origins names those that may")

    def _known(self, host: str) -> bool:
        name = host_name(host)
        return "*" in self._hosts or name in LOCAL or name in self._hosts or host == "" or _is_address(name)


def host_name(host: str) -> str:
    """Of a `Host` header, without the port, in small letters."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
