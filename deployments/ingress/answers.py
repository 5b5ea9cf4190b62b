"""Errors as answers, and what several answers share."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Match, Route
from starlette.types import Send

from deployments.remote import unwrap
from museserve.errors import EngineError, MuseserveError, RequestError, without_paths

logger = logging.getLogger("ray.serve")

T = TypeVar("T")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE)


async def answer_error(request: Request, error: Exception) -> Response:
    """Our own errors with their status; anything else is logged with its traceback and answered without it."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    error = told(error, f"{request.method} {request.url.path}")
    headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": {"code": error.code, "message": str(error)}}, error.status, headers)


def told(error: BaseException, what: str) -> MuseserveError:
    """The error that a caller is told; what went wrong on our side is logged. what: the call."""
    error = unwrap(error)
    if not isinstance(error, MuseserveError):
        logger.error("request failed: %s", what, exc_info=error)
        return EngineError("the service failed on this request; the log has the details")
    if isinstance(error, RequestError):
        return error
    logger.warning("%s: %s: %s", what, error.code, error)
    return without_paths(error)


async def answer_http_error(request: Request, error: HTTPException) -> Response:
    named = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    headers = dict(error.headers or {})
    if error.status_code == 405:  # a path's methods are routes of their own, and the first of them has answered
        routes = [route for route in request.app.routes if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE]
        headers["Allow"] = ", ".join(sorted({method for route in routes for method in route.methods or ()}))
    plain = error.detail in ("Not Found", "Method Not Allowed")
    message = f"{error.detail}: {request.method} {request.url.path}" if plain else error.detail
    return JSONResponse({"error": {"code": named, "message": message}}, error.status_code, headers)


class Streamed(StreamingResponse):
    """Closes what it streams as soon as it is cut, instead of leaving that to Python's garbage collection."""

    body_iterator: AsyncGenerator[bytes, None]

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        finally:
            with anyio.CancelScope(shield=True):
                await self.body_iterator.aclose()


HANDLERS: dict[Any, Any] = {MuseserveError: answer_error, HTTPException: answer_http_error, Exception: answer_error}


def is_known(request: Request, etag: str) -> bool:
    """Whether the caller has what `etag` names: one of a list, weak or strong (RFC 9110, 13.1.2)."""
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return etag in known or known == ["*"]


def whole(request: Request, data: bytes, media_type: str, headers: dict[str, str]) -> Response:
    """All of `data`, or the one range of it that the caller asks for (RFC 9110, 14): Safari plays no video from a server that knows none.

    headers: with the ETag that `If-Range` is held against. Several ranges, and ranges that make no sense, get the whole.
    """
    headers = headers | {"Accept-Ranges": "bytes"}
    asked, condition = _RANGE.fullmatch(request.headers.get("range", "")), request.headers.get("if-range")
    if asked is None or asked.groups() == ("", "") or (condition is not None and condition != headers.get("ETag")):
        return Response(data, media_type=media_type, headers=headers)
    first, last = asked.groups()
    start = int(first) if first else max(0, len(data) - int(last))
    end = min(int(last), len(data) - 1) if first and last else len(data) - 1
    if first and last and int(last) < start:
        return Response(data, media_type=media_type, headers=headers)
    if start >= len(data):
        raise HTTPException(
            416, f"there are {len(data):,} bytes, and the range begins behind them", headers | {"Content-Range": f"bytes */{len(data)}"}
        )
    headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
    return Response(data[start : end + 1], 206, media_type=media_type, headers=headers)


async def begun(items: AsyncGenerator[T, None]) -> tuple[T, AsyncGenerator[T, None]]:
    """The first item, before which errors still have a status of their own, and all items, that one included."""
    first = await anext(items)

    async def everything() -> AsyncGenerator[T, None]:
        try:
            yield first
            async for item in items:
                yield item
        finally:
            await items.aclose()

    return first, everything()
