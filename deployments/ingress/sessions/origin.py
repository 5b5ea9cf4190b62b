"""What the handshake of a session's WebSocket tells of the page: those of the service and of `server.cors_origins` may open one."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.websockets import WebSocket

SUBPROTOCOL = "museserve.v1"


def subprotocol_of(socket: WebSocket) -> str | None:
    """What the handshake is answered with: never the one that carries a key."""
    return SUBPROTOCOL if SUBPROTOCOL in socket.scope.get("subprotocols", ()) else None


def refused_origin(socket: WebSocket, origins: tuple[str, ...]) -> str | None:
    """The origin of a page that may not open this WebSocket, else None.

    Browsers let every page open a WebSocket to every address and only say which page it was; programs that are no browsers say nothing. Host and
    port are compared without the scheme, because a proxy in front may have ended TLS.
    """
    origin = socket.headers.get("origin")
    if origin is None or origin in origins or "*" in origins:
        return None
    return None if urlsplit(origin).netloc.lower() == socket.headers.get("host", "").lower() else origin
