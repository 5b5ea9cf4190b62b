"""Which pages may use the service: those it serves itself, and those of the origins in `server.cors_origins`."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.websockets import WebSocket

# What a page of another origin may read of a response, beside its body.
EXPOSED = (
    "Content-Length",
    "ETag",
    "Link",
    "Location",
    "Retry-After",
    "Server-Timing",
    "X-Cache",
    "X-Codecs",
    "X-Engine",
    "X-Notice",
    "X-Speech-Engine",
    "X-Utterance-Id",
)


def middleware(origins: tuple[str, ...]) -> list[Middleware]:
    """None when no other origin is listed: then browsers refuse by themselves."""
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["GET", "POST", "DELETE"], allow_headers=["*"], expose_headers=EXPOSED, max_age=600
        )
    ]


def refused_origin(socket: WebSocket, origins: tuple[str, ...]) -> str | None:
    """The origin of a page that may not open this WebSocket, else None.

    Browsers let every page open a WebSocket to every address and only say which page it was; programs that are no browsers say nothing. Host and
    port are compared without the scheme, because a proxy in front may have ended TLS.
    """
    origin = socket.headers.get("origin")
    if origin is None or origin in origins or "*" in origins:
        return None
    return None if urlsplit(origin).netloc.lower() == socket.headers.get("host", "").lower() else origin
