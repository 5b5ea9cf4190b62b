"""HAProxy as it runs in front of the service: who is silent or does not read is cut, and errors have the service's shape."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from museserve.app import haproxy
from tests.conftest import free_port

WAIT_S = 10.0  # for what takes one second
SETTINGS = haproxy.Settings(request_s=1.0, unread_s=1.0, connections=20, proxies=())


class Answers(BaseHTTPRequestHandler):
    """What stands behind HAProxy.

    /slow: bytes with long pauses; /full and /lost: what Serve says in text; /large: more than any buffer holds; /socket: a tunnel.
    """

    protocol_version = "HTTP/1.1"
    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/socket":
            self.send_response(101)
            self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", "echo")
            self.end_headers()
            time.sleep(2.5)
            self.wfile.write(b"late")
            self.close_connection = True
            return
        status = {"/full": 503, "/lost": 500}.get(self.path, 200)
        pieces = {"/slow": [b"a", b"b"], "/large": [bytes(2**20)] * 64}.get(self.path, [self.headers.get("X-Forwarded-For", "").encode()])
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(sum(map(len, pieces))))
        self.end_headers()
        for piece in pieces:
            if self.path == "/slow":
                time.sleep(2.5)
            try:
                self.wfile.write(piece)
            except OSError:
                self.asked.append(f"cut {self.path}")
                self.close_connection = True
                return

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of an HAProxy by Ray's own configuration, started as Ray starts it."""
    from ray.serve._private import haproxy as rays
    from ray.serve.config import HTTPOptions

    folder = tmp_path_factory.mktemp("haproxy")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    public = free_port()
    cfg = rays.HAProxyConfig(
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        metrics_port=free_port(),
        stats_port=free_port(),
        nbthread=1,
        has_received_routes=True,
        has_received_servers=True,
        is_head=True,
        metrics_enabled=False,
        http_health_check_path=None,
        http_options=HTTPOptions(host="127.0.0.1", port=public),
    )
    backends = {
        "app": rays.BackendConfig("app", "/", servers=[rays.ServerConfig("one", "127.0.0.1", server.server_port)], http_health_check_path=None),
        "gone": rays.BackendConfig("gone", "/gone", servers=[rays.ServerConfig("none", "127.0.0.1", free_port())], http_health_check_path=None),
    }
    rays.HAProxyApi(cfg, backends, str(folder / "haproxy.cfg"))._generate_config_file_internal()
    launcher = haproxy.write_launcher(folder, SETTINGS)
    assert launcher is not None
    with (folder / "err").open("wb") as err:
        process = subprocess.Popen([launcher, "-db", "-f", str(folder / "haproxy.cfg")], stderr=err)
    try:
        assert until(lambda: answers(public)), (folder / "err").read_text()
        yield public
    finally:
        process.kill()
        process.wait()
        server.shutdown()
        server.server_close()


def until(met: Callable[[], Any]) -> Any:
    end = time.monotonic() + WAIT_S
    while not (seen := met()) and time.monotonic() < end:
        time.sleep(0.05)
    return seen


def answers(port: int) -> bool:
    try:
        return said(port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")[0] == 200
    except (OSError, AssertionError):
        return False


def said(port: int, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """All that is answered until the connection is closed. Raises TimeoutError: it is not."""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as caller:
        caller.sendall(sent)
        got = b""
        while more := caller.recv(65_536):
            got += more
    head, _, body = got.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    status = re.match(r"HTTP/1.1 (\d+)", first)
    assert status, got[:200]
    return int(status[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, body


def code_of(body: bytes) -> str:
    error = json.loads(body)["error"]
    assert set(error) == {"code", "message"}
    return str(error["code"])


def test_what_never_comes_is_answered_and_reaches_nobody(port: int) -> None:
    status, _, _ = said(port, b"GET /half HTTP/1.1\r\nHost: a\r\n")
    assert status == 408
    status, headers, body = said(port, b'POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"text')
    assert (status, headers["content-type"], code_of(body)) == (408, "application/json", "too_slow")
    assert "/half" not in Answers.asked


def test_who_says_nothing_at_all_is_cut(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as silent:
        assert b"408" in silent.recv(1_000) and silent.recv(1) == b""


def test_who_does_not_read_is_cut(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as deaf:
        deaf.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        assert until(lambda: "cut /large" in Answers.asked)


def test_who_waits_for_a_slow_answer_is_not_cut(port: int) -> None:
    asked = b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    status, _, body = said(port, asked)
    assert (status, body) == (200, b"ab")


def test_a_silent_tunnel_is_not_cut(port: int) -> None:
    status, _, body = said(port, b"GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
    assert (status, body) == (101, b"late")


def test_errors_have_the_shape_of_the_services_own(port: int) -> None:
    close = b"Host: a\r\nConnection: close\r\n\r\n"
    status, headers, body = said(port, b"GET /full HTTP/1.1\r\n" + close)
    assert (status, headers["retry-after"], code_of(body)) == (503, "2", "busy")
    status, headers, body = said(port, b"GET /lost HTTP/1.1\r\n" + close)
    assert (status, headers["retry-after"], code_of(body)) == (502, "2", "unavailable")
    status, headers, body = said(port, b"GET /gone HTTP/1.1\r\n" + close)
    assert (status, headers["retry-after"], code_of(body)) == (503, "2", "unavailable")


def test_a_callers_own_address_is_told(port: int) -> None:
    _, _, body = said(port, b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: close\r\n\r\n")
    assert body == b"127.0.0.1"


def test_one_address_has_so_many_connections(port: int) -> None:
    """What is one too many is reset, while it connects or later, or closed."""
    refused = False
    with ExitStack() as stack:
        callers = []
        for _ in range(SETTINGS.connections + 5):
            try:
                callers.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)))
            except ConnectionResetError:
                refused = True
        for caller in callers[-3:] if not refused else ():
            try:
                refused = refused or caller.recv(100) == b""
            except ConnectionResetError:
                refused = True
    assert refused, "all were taken"
    assert until(lambda: answers(port)), "none is taken any more"


def test_only_what_is_believed_says_for_whom_it_asks(tmp_path: Path) -> None:
    from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE

    believed = haproxy.Settings(10, 30, 0, ("10.0.0.0/8",))
    changed = haproxy.changed(HAPROXY_CONFIG_TEMPLATE, believed, tmp_path)
    assert "X-Forwarded-For %[src] unless { src 10.0.0.0/8 }" in changed and "stick-table" not in changed
    assert haproxy.changed(changed, believed, tmp_path) == changed
