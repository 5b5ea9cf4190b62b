"""The real service, beset by callers that send half a body, read nothing or say nothing: others are served all the same."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.sync.client import connect

from tests.conftest import Service
from tests.deployments.test_bad_input import tone
from tests.sounds import encoded

pytestmark = pytest.mark.serve

WAIT_S = 60.0


@contextmanager
def asked(service: Service, head: str, body: bytes = b"") -> Iterator[socket.socket]:
    address = urlsplit(service.url)
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        caller.settimeout(WAIT_S)
        caller.connect((address.hostname, address.port))
        caller.sendall(f"{head}\r\nHost: {address.netloc}\r\n".encode() + body)
        yield caller


def post(path: str, length: int, kind: str = "application/json") -> str:
    return f"POST {path} HTTP/1.1\r\nContent-Type: {kind}\r\nContent-Length: {length}"


def healthy(service: Service) -> float:
    """After how many seconds it says so."""
    began = time.monotonic()
    assert httpx.get(f"{service.url}/health", timeout=WAIT_S).json()["status"] == "ok"
    return time.monotonic() - began


def speaks(service: Service) -> bool:
    answer = httpx.post(f"{service.url}/v1/videos", json={"text": "Still here.", "stream": False}, timeout=WAIT_S)
    return answer.status_code == 200


def until(met: Callable[[], Any]) -> bool:
    end = time.monotonic() + WAIT_S
    while not met() and time.monotonic() < end:
        time.sleep(0.2)
    return bool(met())


def test_half_sent_bodies_stop_nobody(service: Service) -> None:
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(asked(service, post("/v1/videos", 100), b'\r\n{"text'))
        for _ in range(100):  # more than HAProxy waits for, so that they reach the service
            stack.enter_context(asked(service, post("/v1/avatars", 2**21, "multipart/form-data; boundary=b"), b"\r\n--b" + bytes(30_000)))
        assert healthy(service) < 10
        assert speaks(service)
        half = stack.enter_context(asked(service, post("/v1/videos", 100), b'\r\n{"text'))
        answer = half.recv(65_536)
        assert b" 408 " in answer and json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_slow"


def test_who_does_not_read_speech_or_films_stops_nobody(service: Service) -> None:
    text = "One two three four five six seven eight nine ten. " * 60
    speech = json.dumps({"input": text, "response_format": "wav"}).encode()
    film = json.dumps({"text": text}).encode()
    with ExitStack() as stack:
        for body, path in [(speech, "/v1/audio/speech")] * 20 + [(film, "/v1/videos")] * 20:
            stack.enter_context(asked(service, post(path, len(body)), b"\r\n" + body))
        time.sleep(2)
        assert healthy(service) < 10
        assert until(lambda: speaks(service)), "those who do not read keep their places"
    assert until(lambda: service.health()["live_utterances"] == 0)


def test_seats_that_nobody_sits_in_are_given_up(service: Service) -> None:
    assert until(lambda: not service.health()["live_sessions"])
    url = service.url.replace("http", "ws") + "/v1/sessions"
    left = []
    for _ in range(26):  # there are 24 seats
        with connect(f"{url}?avatar=woman") as session:
            left.append(json.loads(session.recv(timeout=WAIT_S)))
            session.socket.shutdown(socket.SHUT_RDWR)
        assert left[-1]["type"] == "ready", left[-1]
    assert service.health()["live_sessions"] == 24
    seen = []
    for ready in left:
        with connect(f"{url}?session={ready['session']}&token={ready['token']}&seq=1") as session:
            said = json.loads(session.recv(timeout=WAIT_S))
            seen.append(said.get("code", said["type"]))
            if said["type"] == "ready":
                session.send('{"type":"end"}')
    assert seen == ["unknown_session"] * 2 + ["ready"] * 24, "not the oldest were given up"
    assert until(lambda: not service.health()["live_sessions"])


def test_uploads_that_are_refused_leave_nothing(service: Service) -> None:
    replica = service.replicas("Ingress")[0]
    before = replica.memory_info().rss
    clip = bytes(20 * 2**20)

    def refused(_: int) -> int:
        return httpx.post(f"{service.url}/v1/avatars", files={"video": clip}, data={"name": "x"}, timeout=WAIT_S).status_code

    with ThreadPoolExecutor(6) as callers:
        assert set(callers.map(refused, range(12))) == {503}
    assert until(lambda: replica.memory_info().rss < before + 40 * 2**20), f"{replica.memory_info().rss - before:,} bytes stay"
    spooled = [file.path for file in replica.open_files() if "(deleted)" in file.path]
    assert not spooled


def test_a_recording_is_refused_when_it_cannot_be_read(client: httpx.Client) -> None:
    answer = client.post("/v1/videos", files={"audio": ("a.wav", encoded(tone(1), "wav")[:60])})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_audio")


def test_what_a_path_allows_and_no_more(client: httpx.Client) -> None:
    assert client.put("/v1/avatars").headers["allow"] == "GET, HEAD, POST"
    assert client.post("/v1/avatars/x").headers["allow"] == "DELETE, GET, HEAD"
