"""Requests are counted for their key, and every answer says how much is left."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.ingress.access import caller_of
from deployments.ingress.answers import answer_error
from deployments.quotas import CURRENT, Quotas
from museserve.errors import QuotaError


class RateLimit:
    """ASGI middleware behind `KnowCaller`. free: paths that cost nothing. A session charges itself (`sessions/registry.py`)."""

    def __init__(self, app: ASGIApp, quotas: Quotas, free: frozenset[str]) -> None:
        self._app, self._quotas, self._free = app, quotas, free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        connection = HTTPConnection(scope)
        address = connection.client.host if connection.client is not None else ""
        key = caller_of(connection).key
        usage = self._quotas.of(key, address)
        scope["state"] |= {"usage": usage, "quota": self._quotas.quota(key)}
        if usage is None or scope["type"] == "websocket" or scope["path"] in self._free:
            return await self._app(scope, receive, send)

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(usage.headers())
            await send(message)

        reset = CURRENT.set(usage)
        try:
            usage.charge("requests")
        except QuotaError as error:
            await (await answer_error(Request(scope), error))(scope, receive, told)
        else:
            await self._app(scope, receive, told)
        finally:
            CURRENT.reset(reset)
