"""Callers that are slow, silent or deaf, over real sockets: they lose their place, and nobody else does."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from configs.models import LimitsConfig
from deployments.ingress.answers import HANDLERS, Streamed
from deployments.ingress.body_limit import BodyLimit, HeldBytes
from deployments.ingress.patience import Patience

WAIT_S = 15.0
LIMITS = LimitsConfig(request_s=1.5, unread_s=2.0, body_bytes_per_s=1_000, held_bytes=100_000)
MOST = 4
ENDED: list[str] = []


async def read(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def stream(request: Request) -> Response:
    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield bytes(100_000)
                await asyncio.sleep(0)
        finally:
            ENDED.append("stream")

    return Streamed(endless())


async def whole(request: Request) -> Response:
    return Response(bytes(64 * 2**20))


async def slow(request: Request) -> Response:
    await asyncio.sleep(4.0)  # longer than either limit
    return PlainTextResponse("done")


async def health(request: Request) -> Response:
    return PlainTextResponse("ok")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    limit = [Middleware(BodyLimit, most=50_000, together=HeldBytes(LIMITS.held_bytes))]
    routes = [
        Route("/read", read, methods=["POST"], middleware=limit),
        Route("/stream", stream),
        Route("/whole", whole),
        Route("/slow", slow),
        Route("/health", health),
    ]
    patience = Middleware(Patience, limits=LIMITS, most=MOST, free=frozenset({"/health"}))
    app = Starlette(routes=routes, middleware=[patience], exception_handlers=HANDLERS)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = server.force_exit = True
    thread.join()
    listening.close()


@contextmanager
def asked(port: int, *said: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as caller:
        for part in said:
            caller.sendall(part)
        yield caller


def answer(caller: socket.socket) -> tuple[int, bytes]:
    got = b""
    while more := caller.recv(2**20):
        got += more
    head, _, body = got.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()


def post(length: int) -> bytes:
    return f"POST /read HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n".encode()


def code_of(body: bytes) -> str:
    return str(json.loads(body)["error"]["code"])


def until(met: Callable[[], Any]) -> bool:
    end = time.monotonic() + WAIT_S
    while not met() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(met())


def test_a_body_that_stops_is_answered(port: int) -> None:
    with asked(port, post(100), b"half") as caller:
        status, body = answer(caller)
    assert (status, code_of(body)) == (408, "too_slow") and b"4 bytes" in body


def test_a_body_that_trickles_is_answered(port: int) -> None:
    with asked(port, post(20_000)) as caller:
        for _ in range(12):  # never silent for long
            try:
                caller.sendall(b"a")
            except OSError:
                break
            time.sleep(0.25)
        assert answer(caller)[0] == 408


def test_a_slow_body_that_keeps_the_rate_is_read(port: int) -> None:
    with asked(port, post(20_000)) as caller:
        for _ in range(10):
            caller.sendall(bytes(2_000))
            time.sleep(0.25)
        assert answer(caller) == (200, b"20000")


def test_who_waits_for_the_service_is_not_cut(port: int) -> None:
    with asked(port, get("/slow")) as caller:
        assert answer(caller) == (200, b"done")


@pytest.mark.parametrize("path", ["/stream", "/whole"])
def test_who_does_not_read_is_cut_and_what_was_made_for_it_ends(port: int, path: str) -> None:
    ENDED.clear()
    with asked(port, get(path)) as deaf:
        if path == "/stream":
            assert until(lambda: ENDED)
        else:
            time.sleep(4.0)
        seen = 0
        while more := deaf.recv(2**20):  # what was on its way, and no more of it
            seen += len(more)
    assert path == "/stream" or seen < 64 * 2**20


def test_the_slowest_give_way_to_newcomers_and_health_always_answers(port: int) -> None:
    ENDED.clear()
    deaf = [asked(port, get("/stream")) for _ in range(MOST)]
    callers = [caller.__enter__() for caller in deaf]
    try:
        with asked(port, get("/health")) as caller:
            assert answer(caller) == (200, b"ok")
        with asked(port, post(2), b"hi") as newcomer:  # they were not waited for long yet
            status, body = answer(newcomer)
        assert (status, code_of(body)) == (503, "busy")
        time.sleep(1.2)
        with asked(port, post(2), b"hi") as newcomer:
            assert answer(newcomer) == (200, b"2")
    finally:
        for caller in callers:
            caller.close()
    assert until(lambda: len(ENDED) == MOST), "what was made for them goes on"


def test_all_bodies_together_have_a_limit_that_is_known_before_they_come(port: int) -> None:
    with asked(port, post(45_000), bytes(1_000)), asked(port, post(45_000), bytes(1_000)):
        time.sleep(0.5)
        with asked(port, post(20_000)) as third:
            status, body = answer(third)
    assert (status, code_of(body)) == (503, "busy")
    assert until(lambda: _is_read(port, 20_000))


def _is_read(port: int, n: int) -> bool:
    with asked(port, post(n), bytes(n)) as caller:
        return answer(caller)[0] == 200
