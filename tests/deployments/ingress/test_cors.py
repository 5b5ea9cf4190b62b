"""Pages of other origins: those that are listed may use the service, others are told that they may not."""

from __future__ import annotations

import json

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from configs.models import parse_config
from deployments.ingress.sessions.protocol import CloseCode
from museserve.errors import ConfigError
from tests.conftest import OTHER_ORIGIN, Service

FOREIGN = "https://elsewhere.example"


async def greeted(service: Service, origin: str | None) -> tuple[dict[str, object], int | None]:
    """The first message of a session begun by a page of `origin`, and the close code where it was closed."""
    url = service.url.replace("http", "ws", 1) + "/v1/sessions?avatar=woman"
    async with connect(url, origin=origin, max_size=None) as socket:  # type: ignore[arg-type]
        said = json.loads(await socket.recv())
        if said["type"] == "ready":
            return said, None
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        return said, socket.close_code


@pytest.mark.serve
@pytest.mark.parametrize("kind", ["same", "listed", "none"])
async def test_own_and_listed_pages_and_programs_may_open_a_session(service: Service, kind: str) -> None:
    said, code = await greeted(service, {"same": service.url, "listed": OTHER_ORIGIN, "none": None}[kind])
    assert (said["type"], code) == ("ready", None)


@pytest.mark.serve
@pytest.mark.parametrize("origin", [FOREIGN, "null", "http://127.0.0.1:1"])
async def test_other_pages_are_told_why_they_may_not(service: Service, origin: str) -> None:
    before = service.health()["live_sessions"]
    said, code = await greeted(service, origin)
    assert (said["type"], said["code"], said["closing"], code) == ("error", "origin", CloseCode.ORIGIN, CloseCode.ORIGIN)
    assert origin in str(said["message"]) and "server.cors_origins" in str(said["message"]) and OTHER_ORIGIN in str(said["message"])
    assert service.health()["live_sessions"] <= before


@pytest.mark.serve
def test_listed_pages_may_read_what_players_need(client: httpx.Client) -> None:
    asked = {"Origin": OTHER_ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    allowed = client.options("/v1/videos", headers=asked)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == OTHER_ORIGIN
    assert "POST" in allowed.headers["access-control-allow-methods"] and "content-type" in allowed.headers["access-control-allow-headers"].lower()
    for path in ("/avatar-player.js", "/player/timeline.js", "/v1/avatars/interviewer_woman/portrait", "/health"):
        answer = client.get(path, headers={"Origin": OTHER_ORIGIN})
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == OTHER_ORIGIN
    exposed = answer.headers["access-control-expose-headers"]
    assert {"X-Utterance-Id", "X-Codecs", "Server-Timing", "Retry-After"} <= set(exposed.split(", "))
    refused = client.post("/v1/videos", json={}, headers={"Origin": OTHER_ORIGIN})
    assert refused.status_code == 400 and refused.headers["access-control-allow-origin"] == OTHER_ORIGIN, "a page must be able to read why"


@pytest.mark.serve
def test_other_pages_may_not(client: httpx.Client) -> None:
    asked = {"Origin": FOREIGN, "Access-Control-Request-Method": "POST"}
    assert client.options("/v1/videos", headers=asked).status_code == 400
    assert "access-control-allow-origin" not in client.get("/health", headers={"Origin": FOREIGN}).headers


@pytest.mark.parametrize("origin", ["app.example.com", "https://app.example.com/", "https://App.example.com", "ftp://app", "https://a.com/path", ""])
def test_an_origin_that_browsers_never_send_is_refused_at_start(origin: str) -> None:
    with pytest.raises(ConfigError, match=r"scheme://host"):
        parse_config({"server": {"cors_origins": [origin]}})


def test_origins_that_are_accepted() -> None:
    origins = ("https://app.example.com", "http://127.0.0.1:5173", "http://[::1]:5173", "*")
    assert parse_config({"server": {"cors_origins": list(origins)}}).server.cors_origins == origins
