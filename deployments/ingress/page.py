"""The page at `/`: plain modules, served as they are, or the bundle that was made of them (`web/bundler/`)."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

import museserve
from deployments.ingress.answers import is_known

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ts": "text/plain; charset=utf-8",  # types for editors; browsers never ask for them
}
FOLDERS = ("page", "player")  # and what lies beside them; the rest is its developers'
TOOLS = ("eslint.config.js",)
HASHED = re.compile(r"-[0-9A-Z]{8}\.")  # in the name of what changes its name with its content
CODINGS = {"br": ".br", "gzip": ".gz"}  # the first that the caller takes
SOURCES = "sources.sha256"  # of the modules that were bundled

logger = logging.getLogger("ray.serve")

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
    """The page's files, by their paths below its folder; not those of its bundle."""
    top = folder()
    for path in sorted(found for part in (".", *FOLDERS) for found in (top / part).iterdir()):
        if path.suffix in TYPES and path.name not in TOOLS:
            yield path.relative_to(top)


def bundle() -> Path | None:
    """The folder of the bundle; None where there is none, or one of other modules than those that lie here."""
    made = folder() / "dist"
    if not (made / SOURCES).is_file():
        return None
    digest = hashlib.sha256()
    for path in sorted(path.as_posix() for path in files() if path.suffix != ".ts"):
        digest.update(f"{path}\0".encode() + (folder() / path).read_bytes())
    if digest.hexdigest() == (made / SOURCES).read_text(encoding="ascii"):
        return made
    logger.warning("the page is served as plain modules: %s was made of others; make page makes it anew", made)
    return None


def routes() -> list[Route]:
    """`/` is `index.html`, every other file is `/<its path below the folder>`. They are known beforehand.

    What was bundled takes the place of the modules of the same names; the others stay where they are for whoever imports them.
    """
    static = StaticFiles(directory=folder())
    made = bundle()
    names = sorted(path.name for path in made.iterdir() if path.suffix in TYPES) if made else []
    bundled = [Route(_url(Path(name)), _ready(made, name)) for name in names if made]
    return [*bundled, *(Route(_url(path), _answer(static, path)) for path in files() if path.as_posix() not in names)]


def _url(path: Path) -> str:
    return "/" if path == Path("index.html") else f"/{path.as_posix()}"


def _answer(static: StaticFiles, path: Path) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        response = await static.get_response(str(path), request.scope)
        response.headers.update(HEADERS)
        if response.status_code == 200:
            response.headers["content-type"] = TYPES[path.suffix]
        return response

    return answer


def _ready(made: Path, name: str) -> Callable[[Request], Awaitable[Response]]:
    """A file of the bundle, compressed as the caller likes it."""
    content = {coding: (made / f"{name}{end}").read_bytes() for coding, end in {**CODINGS, "": ""}.items()}
    tag = hashlib.sha256(content[""]).hexdigest()[:16]
    headers = {**HEADERS, "content-type": TYPES[Path(name).suffix], "vary": "Accept-Encoding"}
    if HASHED.search(name):
        headers["cache-control"] = "public, max-age=31536000, immutable"

    async def answer(request: Request) -> Response:
        accepted = {word.split(";")[0].strip() for word in request.headers.get("accept-encoding", "").split(",") if not word.endswith("q=0")}
        coding = next((coding for coding in CODINGS if coding in accepted), "")
        own = {**headers, "etag": f'"{tag}{coding and "-"}{coding}"', **({"content-encoding": coding} if coding else {})}
        if is_known(request, own["etag"]):
            return Response(status_code=304, headers=own)
        return Response(content[coding], headers=own)

    return answer
