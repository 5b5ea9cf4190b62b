"""The page at `/`: plain files with no build step, read once and served as they are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

WEB_DIR = Path(__file__).parents[2] / "web"

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ts": "text/plain; charset=utf-8",  # types for editors; browsers never ask for them
}

# Nothing outside the service is ever loaded. blob: is the MediaSource, the finished-video fallback and the upload's preview.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Asset:
    """One file of the page with the headers it is answered with, among them Content-Type and ETag."""

    body: bytes
    headers: tuple[tuple[str, str], ...]

    @property
    def etag(self) -> str:
        return dict(self.headers)["etag"]


def load_assets() -> dict[str, Asset]:
    """URL path -> file: `/` is `index.html`, every other file is `/<its path below this folder>`. Paths are known beforehand: none leads outside."""
    found = {}
    for path in sorted(WEB_DIR.rglob("*")):
        if path.suffix in CONTENT_TYPES:
            found["/" if path == WEB_DIR / "index.html" else f"/{path.relative_to(WEB_DIR).as_posix()}"] = _asset(path)
    return found


def _asset(path: Path) -> Asset:
    body = path.read_bytes()
    headers = (
        ("content-type", CONTENT_TYPES[path.suffix]),
        ("etag", f'"{hashlib.sha256(body).hexdigest()[:20]}"'),
        ("cache-control", "no-cache"),
        ("content-security-policy", CONTENT_SECURITY_POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    )
    return Asset(body, headers)
