"""Bodies are bounded as they arrive, because a chunked one declares no length: each by itself, and all together."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments import quotas
from museserve.errors import BusyError, PayloadTooLargeError
from museserve.runtime.malloc import Tidy

LARGE = 2**20  # bytes of a body, whose memory is given back after it
TIDY = Tidy()


class HeldBytes:
    """Of the bodies of all requests that are open. What is declared counts from the beginning."""

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0

    @property
    def held(self) -> int:
        return self._held

    def take(self, n: int) -> None:
        """Raises BusyError, before anything of it is read."""
        if self._held + n > self._most:
            raise BusyError(f"uploads of {self._held:,} bytes are held, and of {self._most:,} at most; try again in a moment")
        self._held += n

    def give_back(self, n: int) -> None:
        self._held -= n


class BodyLimit:
    """ASGI middleware of a route: reading more than `most` bytes raises PayloadTooLargeError, which is answered with 413.

    Reading more than all requests together may hold raises BusyError, more than the caller's key may send QuotaError.
    """

    def __init__(self, app: ASGIApp, most: int, together: HeldBytes) -> None:
        self._app, self._most, self._together = app, most, together

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = Headers(scope=scope).get("content-length", "")
        declared = int(length) if length.isdecimal() else 0
        if declared > self._most:
            raise PayloadTooLargeError(f"the body is {declared:,} bytes; at most {self._most:,} are accepted")
        quotas.charge("upload_bytes", declared)
        self._together.take(declared)
        received, taken = 0, declared

        async def counted() -> Message:
            nonlocal received, taken
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most:
                raise PayloadTooLargeError(f"the body is longer than the {self._most:,} bytes accepted")
            if received > taken:
                quotas.charge("upload_bytes", received - taken)
                self._together.take(received - taken)
                taken = received
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            self._together.give_back(taken)
            if taken >= LARGE:
                TIDY.soon()
