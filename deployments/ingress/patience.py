"""How long the service waits for its callers: for bytes of theirs that do not come, and for answers that they do not read.

A request has a place while it is open. Whoever is late loses it; when all are taken, so does the one that has kept the
service waiting longest, for the sake of whoever comes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import anyio
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.models import LimitsConfig
from deployments.ingress.answers import answer_error
from museserve.errors import BusyError, RequestError

logger = logging.getLogger("ray.serve")

PIECE = 256 * 2**10  # of an answer, sent and waited for at a time
YIELDS_S = 1.0  # a caller that was waited for so long gives up its place to another


class TooSlowError(RequestError):
    status = 408
    code = "too_slow"


@dataclass(eq=False)
class Place:
    """cut: ends the request. since: from when the service waits for the caller; None = it does not. begun: the answer has."""

    cut: anyio.CancelScope
    since: float | None = None
    begun: bool = False
    why: str = ""

    def end(self, why: str) -> None:
        self.why = why
        self.cut.cancel()


CURRENT: ContextVar[Place | None] = ContextVar("place", default=None)  # of the request that is worked on


def give_up_one(places: Iterable[Place]) -> Place | None:
    """End the request that has kept the service waiting longest; None: none has for `YIELDS_S`."""
    now = time.monotonic()
    longest = min((place for place in places if place.since is not None), key=lambda place: place.since or now, default=None)
    if longest is None or longest.since is None or now - longest.since < YIELDS_S:
        return None
    longest.end("the service is full, and this caller kept it waiting longest")
    return longest


class Patience:
    """ASGI middleware of the whole application.

    most: requests that are open at once over HTTP. WebSockets are not counted: sessions have limits of their own. free: paths
    that need no place.
    """

    def __init__(self, app: ASGIApp, limits: LimitsConfig, most: int, free: frozenset[str]) -> None:
        self._app, self._limits, self._most, self._free = app, limits, most, free
        self._places: set[Place] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        with anyio.CancelScope() as cut:
            place = Place(cut)
            CURRENT.set(place)
            if scope["path"] not in self._free and not self._take(place):
                most = f"{self._most} requests are open, the most of one ingress replica"
                return await _refuse(scope, receive, send, BusyError(f"{most}; try again in a moment"))
            try:
                await self._app(scope, self._receiving(receive, place), self._sending(send, place))
            finally:
                self._places.discard(place)
        if cut.cancelled_caught:
            logger.info("%s %s was cut: %s", scope["method"], scope["path"], place.why)
            if not place.begun:
                with anyio.move_on_after(YIELDS_S):
                    await _refuse(scope, receive, send, TooSlowError(place.why))

    def _take(self, place: Place) -> bool:
        """Whether there is a place, perhaps by taking another's."""
        if len(self._places) >= self._most:
            if (given_up := give_up_one(self._places)) is None:
                return False
            self._places.discard(given_up)
        self._places.add(place)
        return True

    def _receiving(self, receive: Receive, place: Place) -> Receive:
        began, received, complete = time.monotonic(), 0, False

        async def patient() -> Message:
            nonlocal received, complete
            if complete:  # whoever listens now wants to know when the caller hangs up
                return await receive()
            place.since = now = time.monotonic()
            on_average_s = began + self._limits.request_s + received / self._limits.body_bytes_per_s - now
            with anyio.move_on_after(max(0.0, min(on_average_s, self._limits.request_s))) as wait:
                message = await receive()
            place.since = None
            if wait.cancelled_caught:
                rate = f"{self._limits.body_bytes_per_s:,} bytes a second"
                raise TooSlowError(
                    f"{received:,} bytes of the body came in {time.monotonic() - began:.0f} s; at least {rate} are "
                    f"accepted, without a pause of {self._limits.request_s:g} s"
                )
            received += len(message.get("body", b""))
            complete = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        return patient

    def _sending(self, send: Send, place: Place) -> Send:
        async def patient(message: Message) -> None:
            place.begun = True
            for piece in _pieces(message):
                place.since = time.monotonic()
                with anyio.move_on_after(self._limits.unread_s) as wait:
                    await send(piece)
                place.since = None
                if wait.cancelled_caught:
                    place.end(f"nothing of the answer was read for {self._limits.unread_s:g} s")
                    await anyio.sleep_forever()

        return patient


def _pieces(message: Message) -> Iterator[Message]:
    body = message.get("body", b"")
    if len(body) <= PIECE:
        yield message
        return
    view = memoryview(body)
    for at in range(0, len(body), PIECE):
        last = at + PIECE >= len(body)
        yield {**message, "body": bytes(view[at : at + PIECE]), "more_body": not last or message.get("more_body", False)}


async def _refuse(scope: Scope, receive: Receive, send: Send, error: BusyError | TooSlowError) -> None:
    answer = await answer_error(Request(scope, receive), error)
    answer.headers["Connection"] = "close"  # what is left of the body is not read
    await answer(scope, receive, send)
