"""Which pages may open a session's WebSocket: the service's own, and those of `server.cors_origins`."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.websockets import WebSocket


def refused_origin(socket: WebSocket, origins: tuple[str, ...]) -> str | None:
    """The origin of a page that may not open this WebSocket, else None.

    Browsers let every page open a WebSocket to every address and only say which page it was; programs that are no browsers say nothing. Host and
    port are compared without the scheme, because a proxy in front may have ended TLS.
    """
    origin = socket.headers.get("origin")
    if origin is None or origin in origins or "*" in origins:
        return None
    return None if urlsplit(origin).netloc.lower() == socket.headers.get("host", "").lower() else origin
