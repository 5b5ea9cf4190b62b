"""By which hosts and from which pages a service may be asked, and what browsers may do with its answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from configs.models import AppConfig, ServerConfig, parse_config
from deployments.ingress.ingress import Ingress
from museserve.access.keys import create_key
from museserve.errors import ConfigError

PAGE = "https://app.example.com"
Served = Callable[..., TestClient]


class Handle:
    def options(self, **options: Any) -> Handle:
        return self


@pytest.fixture
def served(tmp_path: Path) -> Served:
    def make(**server: Any) -> TestClient:
        handle: Any = Handle()
        settings = {"avatars": {"uri": str(tmp_path)}, "cache": {"enabled": False}, "server": server}
        app = Ingress(AppConfig.model_validate(settings), handle, handle).__serve_build_asgi_app__()
        return TestClient(app, "http://127.0.0.1:8001", raise_server_exceptions=False)

    return make


@pytest.mark.parametrize("host", ["127.0.0.1:8001", "localhost:8001", "LOCALHOST", "[::1]:8001", "10.2.3.4:8000", "10.2.3.4", "localhost."])
def test_addresses_and_localhost_are_always_asked_for(served: Served, host: str) -> None:
    """Probes of Kubernetes and Prometheus ask by the address of a pod."""
    assert served().get("/v1/voices", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8001", "127.0.0.1.evil.example", "localhost.evil.example", "museserve", "::1:8001x"])
def test_a_name_that_was_rebound_to_this_service_is_not(served: Served, host: str) -> None:
    answer = served().get("/v1/avatars", headers={"Host": host})
    assert answer.status_code == 403 and answer.json()["error"]["code"] == "forbidden" and "server.hosts" in answer.text
    assert served().get("/", headers={"Host": host}).status_code == 403, "the page as little"


def test_names_that_are_listed_are_asked_for(served: Served) -> None:
    client = served(hosts=["app.example.com"])
    assert client.get("/v1/voices", headers={"Host": "App.example.com:443"}).status_code == 200
    assert client.get("/v1/voices", headers={"Host": "other.example.com"}).status_code == 403
    assert served(hosts=["*"]).get("/v1/voices", headers={"Host": "other.example.com"}).status_code == 200


def test_a_rebound_page_gets_no_session(served: Served) -> None:
    """Its origin and its host agree, which is all that a check of the origin sees."""
    with pytest.raises(WebSocketDisconnect), served().websocket_connect("ws://evil.example/v1/sessions", headers={"Origin": "http://evil.example"}):
        pass
    with served().websocket_connect("ws://127.0.0.1/v1/sessions?avatar=nobody", headers={"Origin": "http://127.0.0.1"}) as socket:
        assert socket.receive_json()["code"] == "unknown_avatar"


FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}],
    ids=["other", "hidden", "cross-site", "sibling"],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/avatars"), ("POST", "/v1/videos"), ("DELETE", "/v1/avatars/anna")])
def test_pages_of_other_sites_change_nothing(served: Served, method: str, path: str, headers: dict[str, str]) -> None:
    answer = served(cors_origins=[PAGE]).request(method, path, headers={**FORM, **headers})
    assert answer.status_code == 403 and "server.cors_origins" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": PAGE},
        {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:8001"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://in.front", "Sec-Fetch-Site": "same-origin"},
    ],
    ids=["program", "listed", "listed-cross", "own", "typed", "behind-a-proxy"],
)
def test_programs_and_pages_that_are_listed_may(served: Served, headers: dict[str, str]) -> None:
    assert served(cors_origins=[PAGE]).delete("/v1/avatars/anna", headers=headers).status_code == 404


def test_every_answer_says_what_it_is_and_who_may_embed_it(served: Served) -> None:
    alone, shared = served(), served(cors_origins=[PAGE])
    for path in ("/", "/v1/voices", "/v1/avatars/nobody", "/v1/nothing", "/v1/avatars/interviewer_woman/portrait"):
        assert alone.get(path).headers["x-content-type-options"] == "nosniff"
        assert alone.get(path).headers["cross-origin-resource-policy"] == "same-origin"
        assert shared.get(path).headers["cross-origin-resource-policy"] == "cross-origin", "else its pages could show no portrait"


def test_pages_that_are_listed_may_show_a_token_and_read_why_they_were_refused(tmp_path: Path) -> None:
    create_key(tmp_path / "keys.json", "acme", ["speak"])
    handle: Any = Handle()
    access = {"auth": "keys", "keys_file": str(tmp_path / "keys.json")}
    settings = {"avatars": {"uri": str(tmp_path)}, "cache": {"enabled": False}, "server": {"cors_origins": [PAGE]}, "access": access}
    client = TestClient(Ingress(AppConfig.model_validate(settings), handle, handle).__serve_build_asgi_app__(), "http://127.0.0.1")
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    allowed = client.options("/v1/videos", headers=asked)
    assert allowed.status_code == 200 and "authorization" in allowed.headers["access-control-allow-headers"].lower()
    refused = client.post("/v1/videos", json={}, headers={"Origin": PAGE})
    assert refused.status_code == 401 and refused.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize("host", ["https://app.example.com", "app.example.com:443", "App.example.com", "", "a b", "-a"])
def test_what_is_no_host_is_refused_at_start(host: str) -> None:
    with pytest.raises(ConfigError, match="a host is a name"):
        parse_config({"server": {"hosts": [host]}})


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("127.0.0.1", False),
        ("127.0.0.2", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("::", True),
        ("10.0.0.1", True),
        ("box", True),
    ],
)
def test_what_other_machines_may_reach(host: str, public: bool) -> None:
    assert ServerConfig(host=host).public is public


def test_a_service_that_others_reach_says_who_may_use_it() -> None:
    with pytest.raises(ConfigError, match=r"access\.auth does not say"):
        parse_config({}).access.check_said("it listens on 0.0.0.0")
    parse_config({"access": {"auth": "none"}}).access.check_said("it listens on 0.0.0.0")
    parse_config({"access": {"auth": "keys"}}).access.check_said("it listens on 0.0.0.0")
