"""Which pages may use the service: those it serves itself, and those of the origins in `server.cors_origins`."""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

# What a page of another origin may read of a response, beside its body.
EXPOSED = (
    "Content-Length",
    "ETag",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
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
    """Nothing when no other origin is listed: then browsers refuse by themselves."""
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["GET", "POST", "DELETE"], allow_headers=["*"], expose_headers=EXPOSED, max_age=600
        )
    ]
