"""Who may do what: every route and every message of a session, by every kind of key and token.

A route or message that is new and not in the tables here fails.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from configs.models import AppConfig
from deployments.ingress import openapi
from deployments.ingress.access import BEARER
from deployments.ingress.ingress import Ingress
from deployments.ingress.sessions import protocol as p
from deployments.ingress.sessions.origin import SUBPROTOCOL
from museserve.access import tokens
from museserve.access.caller import SCOPES
from museserve.access.keys import create_key, read_keys, revoke_key

EVERYBODY = {"none", "wrong", "expired", "revoked", "metrics", "avatars", "speak", "all", "other", "token", "used", "past", "forged", "dead"}
UNKNOWN = {"none", "wrong", "expired", "revoked", "past", "forged", "dead"}
SPEAK = {"speak", "all", "other", "token"}
KEYS_THAT_SPEAK = {"speak", "all", "other"}
MANAGE = {"avatars", "all", "other"}
USE = SPEAK | MANAGE | {"used"}  # looking at an avatar uses nothing up
# Method and path of every route -> who is let in.
LET_IN: dict[tuple[str, str], set[str]] = {
    ("GET", "/health"): EVERYBODY,
    ("GET", "/openapi.json"): EVERYBODY,
    ("GET", "/v1/voices"): USE,
    ("GET", "/v1/audio/models"): USE,
    ("GET", "/v1/audio/voices"): USE,
    ("GET", "/v1/models"): USE,
    ("GET", "/v1/models/{id}"): USE,
    ("GET", "/v1/avatars"): USE,
    ("POST", "/v1/avatars"): MANAGE,
    ("GET", "/v1/avatars/{id}"): USE,
    ("DELETE", "/v1/avatars/{id}"): MANAGE,
    ("GET", "/v1/avatars/{id}/portrait"): USE,
    ("GET", "/v1/avatars/{id}/idle"): USE,
    ("GET", "/v1/avatars/{id}/idle.segments"): USE,
    ("WS", "/v1/sessions"): SPEAK,
    ("POST", "/v1/sessions/tokens"): KEYS_THAT_SPEAK,
    ("GET", "/v1/sessions/schema.json"): EVERYBODY,
    ("POST", "/v1/videos"): SPEAK,
    ("POST", "/v1/prerender"): SPEAK,
    ("GET", "/v1/videos/{id}/captions.vtt"): SPEAK | {"used"},
    ("GET", "/v1/videos/{id}/manifest.c2pa"): SPEAK | {"used"},
    ("DELETE", "/v1/cache"): MANAGE,
    ("POST", "/v1/audio/speech"): SPEAK,
    ("POST", "/v1/audio/transcriptions"): SPEAK,
    ("POST", "/api/core/tts/synthesize/"): SPEAK,
    ("POST", "/api/core/interview/video/generate/"): SPEAK,
    ("POST", "/generate"): SPEAK,
    ("POST", "/idle"): SPEAK,
}
# Who may send it as the first message; the rest is heard only inside a session, from whoever began it.
FIRST = {"start": SPEAK, "resume": SPEAK | {"used"}}
INSIDE = {"speak", "text", "audio_end", "interrupt", "state", "ping", "ack", "played", "stats", "end"}


class Reached(Exception):
    """A request came as far as the graph."""


class Handle:
    def options(self, **options: Any) -> Handle:
        return self

    def __getattr__(self, name: str) -> Any:
        raise Reached(name)


@dataclass
class World:
    """shown: kind of caller -> a key or token, made anew each time where it is used up."""

    ingress: Ingress
    client: TestClient
    file: Path
    keys: dict[str, str]

    def shown(self, kind: str) -> str:
        secret, known = bytes.fromhex(read_keys(self.file).token_secret), {key.name: key.id for key in read_keys(self.file).keys}
        soon, past = int(time.time()) + 60, int(time.time()) - 1
        if kind in ("token", "used"):
            token = tokens.mint(secret, tokens.Grant("acme", known["speak"], soon, 1))
            if kind == "used":
                assert self.client.post("/v1/audio/speech", headers={"Authorization": f"Bearer {token}"}).status_code == 415
            return token
        made = {
            "past": lambda: tokens.mint(secret, tokens.Grant("acme", known["speak"], past, 1)),
            "forged": lambda: tokens.mint(bytes(32), tokens.Grant("acme", known["speak"], soon, 1)),
            "dead": lambda: tokens.mint(secret, tokens.Grant("acme", known["revoked"], soon, 1)),
        }
        return made[kind]() if kind in made else self.keys[kind]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    tmp = tmp_path_factory.mktemp("access")
    file = tmp / "keys.json"
    keys = {"none": "", "wrong": "msk_0123456789ab_" + 43 * "A"}
    for scope in SCOPES:
        keys[scope] = create_key(file, "acme", [scope], name=scope)[0]
    keys["all"] = create_key(file, "acme", SCOPES, name="all")[0]
    keys["other"] = create_key(file, "other", SCOPES, name="other")[0]
    keys["expired"] = create_key(file, "acme", SCOPES, days=1, name="expired")[0]
    keys["revoked"], revoked = create_key(file, "acme", SCOPES, name="revoked")
    revoke_key(file, revoked.id)
    raw = json.loads(file.read_text())
    next(key for key in raw["keys"] if key["name"] == "expired")["expires"] = (datetime.now(timezone.utc) - timedelta(1)).isoformat()
    file.write_text(json.dumps(raw))
    handle: Any = Handle()
    settings = {"avatars": {"uri": str(tmp / "avatars")}, "cache": {"enabled": False}, "access": {"auth": "keys", "keys_file": str(file)}}
    ingress = Ingress(AppConfig.model_validate(settings), handle, handle)
    with TestClient(ingress.__serve_build_asgi_app__(), "http://127.0.0.1", raise_server_exceptions=False) as client:
        yield World(ingress, client, file, keys)


def routed(ingress: Ingress) -> set[tuple[str, str]]:
    found = set()
    for route in ingress.routes():
        methods = (route.methods or set()) - {"HEAD"} if isinstance(route, Route) else {"WS"}
        found |= {(method, route.path) for method in methods}  # type: ignore[attr-defined]
    return found


def test_every_route_is_in_the_table_and_nothing_else(world: World) -> None:
    assert routed(world.ingress) == set(LET_IN)


def test_the_document_says_which_routes_need_no_key() -> None:
    paths = {path: operation for path, item in openapi.document()["paths"].items() for verb, operation in item.items() if verb != "parameters"}
    free = {path for path, operation in paths.items() if operation.get("security") == []}
    assert free | {"/openapi.json"} == {path for (_, path), kinds in LET_IN.items() if kinds == EVERYBODY}
    assert all({"401", "403"} <= operation["responses"].keys() for path, operation in paths.items() if path not in free)


@pytest.mark.parametrize("kind", sorted(EVERYBODY))
@pytest.mark.parametrize(("method", "path"), [each for each in LET_IN if each[0] != "WS"])
def test_who_is_let_in(world: World, method: str, path: str, kind: str) -> None:
    shown = world.shown(kind)
    answer = world.client.request(method, path.format(id="nobody"), headers={"Authorization": f"Bearer {shown}"} if shown else {})
    refused = answer.status_code in (401, 403)
    assert refused == (kind not in LET_IN[method, path]), f"{answer.status_code} {answer.text[:200]}"
    if refused:
        known = answer.status_code == 403
        assert known == (kind not in UNKNOWN) or kind == "used"
        assert answer.json()["error"]["code"] == ("forbidden" if known else "unauthorized")
        assert ("www-authenticate" in answer.headers) == (not known)
        assert not shown or shown not in answer.text


@pytest.mark.parametrize("kind", sorted(EVERYBODY))
@pytest.mark.parametrize("first", sorted(FIRST))
@pytest.mark.parametrize("way", ["header", "subprotocol"])
def test_who_may_begin_or_go_on_with_a_session(world: World, first: str, kind: str, way: str) -> None:
    shown = world.shown(kind)
    headers = {"Authorization": f"Bearer {shown}"} if shown and way == "header" else {}
    subprotocols = [SUBPROTOCOL, *([BEARER + shown] if shown and way == "subprotocol" else [])]
    message: dict[str, Any] = (
        {"type": "start", "avatar": "nobody"} if first == "start" else {"type": "resume", "session": "s", "token": "t", "seq": 0}
    )
    with world.client.websocket_connect("ws://127.0.0.1/v1/sessions", subprotocols, headers=headers) as socket:
        assert socket.accepted_subprotocol == SUBPROTOCOL, "never the one that has the key"
        socket.send_json(message)
        said = socket.receive_json()
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
    if kind in FIRST[first]:
        assert said["code"] == ("unknown_avatar" if first == "start" else "unknown_session")
    elif kind in ("avatars", "metrics"):
        assert (said["code"], closed.value.code) == ("forbidden", p.CloseCode.FORBIDDEN)
    else:
        # The use of a token is counted where a session has its avatar.
        expected = ("unknown_avatar", p.CloseCode.BAD_START) if kind == "used" else ("unauthorized", p.CloseCode.UNAUTHORIZED)
        assert (said["code"], closed.value.code) == expected
    assert not shown or shown not in json.dumps(said)


def test_every_message_is_in_the_tables_and_is_heard_only_inside_a_session(world: World) -> None:
    types = {model.model_fields["type"].default for model in p.CLIENT_MODELS}
    assert types == set(FIRST) | INSIDE
    for kind in INSIDE:
        with world.client.websocket_connect("ws://127.0.0.1/v1/sessions", [SUBPROTOCOL, BEARER + world.keys["all"]]) as socket:
            socket.send_json({"type": kind})
            said = socket.receive_json()
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_json()
        assert (said["code"], closed.value.code) == ("bad_request", p.CloseCode.BAD_START)


@pytest.mark.parametrize(
    "wanted", [{"seconds": 1}, {"seconds": 10_000}, {"uses": 0}, {"origin": "app.example.com"}, {"origin": "https://a.example/path"}, {"more": 1}]
)
def test_what_makes_no_token(world: World, wanted: dict[str, Any]) -> None:
    answer = world.client.post("/v1/sessions/tokens", json=wanted, headers={"Authorization": f"Bearer {world.keys['speak']}"})
    assert answer.status_code == 400


def test_a_backend_makes_a_token_and_a_page_uses_it(world: World) -> None:
    asked = {"origin": "https://app.example.com", "seconds": 30, "uses": 2}
    answer = world.client.post("/v1/sessions/tokens", json=asked, headers={"Authorization": f"Bearer {world.keys['speak']}"})
    assert answer.status_code == 201 and answer.headers["cache-control"] == "no-store"
    told = answer.json()
    left = datetime.fromisoformat(told["expires_at"]).timestamp() - time.time()
    assert 20 < left <= 30 and told["uses"] == 2
    bearer = {"Authorization": f"Bearer {told['token']}"}
    assert world.client.get("/v1/avatars", headers={**bearer, "Origin": "https://app.example.com"}).status_code == 200
    assert world.client.get("/v1/avatars", headers={**bearer, "Origin": "https://elsewhere.example"}).status_code == 401
    spoken = [world.client.post("/v1/audio/speech", headers=bearer).status_code for _ in range(3)]
    assert spoken == [415, 415, 401], "no body, but it was let in as often as it may"


def test_a_token_for_one_avatar_reaches_no_other(world: World) -> None:
    secret, key = bytes.fromhex(read_keys(world.file).token_secret), next(key.id for key in read_keys(world.file).keys if key.name == "speak")
    token = tokens.mint(secret, tokens.Grant("acme", key, int(time.time()) + 60, 9, "interviewer_man"))
    bearer = {"Authorization": f"Bearer {token}"}
    assert world.client.get("/v1/avatars/interviewer_woman", headers=bearer).status_code == 403
    assert world.client.get("/v1/avatars/man", headers=bearer).status_code == 404, "its own, which this store does not have"
    assert world.client.post("/v1/videos", json={"text": "Hello.", "avatar": "woman"}, headers=bearer).status_code == 403
    with world.client.websocket_connect("ws://127.0.0.1/v1/sessions?avatar=woman", headers=bearer) as socket:
        assert socket.receive_json()["code"] == "forbidden"
