"""The page at `/`: plain files with no build step, served as they are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

import museserve

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ts": "text/plain; charset=utf-8",  # types for editors; browsers never ask for them
}
FOLDERS = ("page", "player")  # and what lies beside them; the rest is its developers'

# Nothing outside the service is ever loaded. blob: is the MediaSource, the finished-video fallback and the upload's preview.
HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob:; media-src 'self' blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def folder() -> Path:
    """Where the page lies: inside the installed package, or beside it in a checkout or a shipped working directory."""
    inside = Path(museserve.__file__).parent / "web"
    return inside if inside.is_dir() else inside.parent.parent / "web"


def files() -> Iterator[Path]:
    """The page's files, by their paths below its folder."""
    top = folder()
    for path in sorted(found for part in (".", *FOLDERS) for found in (top / part).iterdir()):
        if path.suffix in TYPES and not path.name.endswith(".config.js"):
            yield path.relative_to(top)


def routes() -> list[Route]:
    """`/` is `index.html`, every other file is `/<its path below the folder>`. They are known beforehand."""
    static = StaticFiles(directory=folder())
    urls = {Path("index.html"): "/"}
    return [Route(urls.get(path, f"/{path.as_posix()}"), _answer(static, path)) for path in files()]


def _answer(static: StaticFiles, path: Path) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        response = await static.get_response(str(path), request.scope)
        response.headers.update(HEADERS)
        if response.status_code == 200:
            response.headers["content-type"] = TYPES[path.suffix]
        return response

    return answer
