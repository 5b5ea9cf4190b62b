"""A file server on this machine that behaves like the hub and like releases, well or badly."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """cuts: after how many bytes each of the next answers breaks off. statuses: what the next answers are instead. ranges: whether it resumes."""

    content: bytes
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    content_type: str = "application/octet-stream"
    redirect: str = ""
    tag: str = ""  # what the hub tells of the content; its SHA-256 when empty
    lag_s: float = 0.0


@dataclass
class FileServer:
    url: str
    files: dict[str, Served] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, Range
    tokens: list[str] = field(default_factory=list)
    sent: int = 0  # bytes of bodies

    def gets(self, path: str) -> list[str]:
        """The Range of each GET of this path."""
        return [asked_range for method, asked, asked_range in self.asked if method == "GET" and asked == path]


@contextmanager
def file_server() -> Iterator[FileServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            wanted = self.headers.get("Range", "")
            state.asked.append((self.command, self.path, wanted))
            state.tokens.append(self.headers.get("Authorization", ""))
            file = state.files.get(self.path)
            if file is None or (body and file.statuses):
                self.finish_with(404 if file is None else file.statuses.pop(0))
                return
            if file.redirect:
                self.send_response(302)
                self.tell(file)
                self.send_header("Location", file.redirect)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(found[1]) if file.ranges and (found := re.fullmatch(r"bytes=(\d+)-", wanted)) else 0
            if start >= len(file.content) > 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(file.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(file.content) - 1}/{len(file.content)}")
            self.tell(file)
            self.send_header("Content-Type", file.content_type)
            self.send_header("Content-Length", str(len(file.content) - start))
            self.end_headers()
            if not body:
                return
            time.sleep(file.lag_s)
            rest = file.content[start:]
            if file.cuts:
                rest = rest[: file.cuts.pop(0)]
                self.close_connection = True
            state.sent += len(rest)
            with suppress(ConnectionError):  # the other side has seen enough
                self.wfile.write(rest)

        def tell(self, file: Served) -> None:
            tag = file.tag or hashlib.sha256(file.content).hexdigest()
            self.send_header("ETag", f'"{tag}"')
            self.send_header("X-Linked-Etag", f'"{tag}"')
            self.send_header("X-Linked-Size", str(len(file.content)))
            self.send_header("X-Repo-Commit", "0" * 40)

        def finish_with(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state = FileServer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
