"""Bodies are bounded as they arrive, because a chunked one declares no length."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from museserve.errors import PayloadTooLargeError


class BodyLimit:
    """ASGI middleware of a route: reading more than `most` bytes raises PayloadTooLargeError, which is answered with 413."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > self._most:
            raise PayloadTooLargeError(f"the body is {int(declared):,} bytes; at most {self._most:,} are accepted")
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most:
                raise PayloadTooLargeError(f"the body is longer than the {self._most:,} bytes accepted")
            return message

        await self._app(scope, counted, send)
