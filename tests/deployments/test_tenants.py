"""A service with keys, as two tenants see it: nothing of one is there for the other."""

from __future__ import annotations

import asyncio
import json
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from deployments.ingress.access import BEARER
from deployments.ingress.sessions.origin import SUBPROTOCOL
from deployments.ingress.sessions.protocol import CloseCode
from museserve.access.keys import create_key, revoke_key
from museserve.app.local import FOLDER, log_dir
from museserve.app.ray_flags import RAY_TOKEN
from tests.conftest import CONFIG, Service, start, stop

pytestmark = pytest.mark.serve
ROOT = Path(__file__).resolve().parents[2]
PORTRAIT = (ROOT / "musetalk" / "avatars" / "shipped" / "interviewer_man" / "portrait.png").read_bytes()
TEXT = "What did you learn in your last project?"


@dataclass
class Keyed:
    service: Service
    file: Path
    keys: dict[str, str]

    def client(self, tenant: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.keys[tenant]}"} if tenant else {}
        return httpx.Client(base_url=self.service.url, timeout=120, headers=headers)

    @property
    def socket(self) -> str:
        return self.service.url.replace("http", "ws", 1) + "/v1/sessions"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    tmp = tmp_path_factory.mktemp("tenants")
    file = tmp / "keys.json"
    keys = {tenant: create_key(file, tenant, ["speak", "avatars", "metrics"])[0] for tenant in ("acme", "other")}
    server = {**CONFIG["server"], "log_format": "json", "log_level": "DEBUG"}
    process, started = start(tmp, {**CONFIG, "server": server, "access": {"auth": "keys", "keys_file": str(file)}})
    yield Keyed(started, file, keys)
    stop(process)


def private_folder(service: Service) -> Path:
    """Where the service's Ray has its files."""
    words = (word for child in psutil.Process(service.pid).children(recursive=True) for word in child.cmdline())
    found = {Path("/tmp") / match[1] for word in words if (match := re.search(rf"/tmp/({FOLDER}[^/]+)", word))}
    (folder,) = found
    return folder


def test_whoever_has_no_key_learns_that_it_lives(keyed: Keyed) -> None:
    with keyed.client("") as nobody:
        assert nobody.get("/health").json() == {"status": "ok", "busy": False}
        assert nobody.post("/v1/videos", json={"text": TEXT}).status_code == 401
    with keyed.client("acme") as acme:
        assert {"engine", "live_sessions", "voices"} <= acme.get("/health").json().keys()


def test_avatars_belong_to_who_made_them(keyed: Keyed) -> None:
    with keyed.client("acme") as acme, keyed.client("other") as other:
        made = acme.post("/v1/avatars", files={"image": PORTRAIT}, data={"id": "anna", "name": "Anna"})
        assert made.status_code == 201 and made.json()["id"] == "anna" and made.headers["location"] == "/v1/avatars/anna"
        assert {each["id"] for each in acme.get("/v1/avatars").json()["data"]} == {"anna", "interviewer_man", "interviewer_woman"}
        assert {each["id"] for each in other.get("/v1/avatars").json()["data"]} == {"interviewer_man", "interviewer_woman"}
        nobody = other.get("/v1/avatars/nobody")
        for part in ("", "/portrait", "/idle", "/idle.segments", f"/portrait?version={made.json()['version']}"):
            assert acme.get(f"/v1/avatars/anna{part}").status_code == 200
            assert other.get(f"/v1/avatars/anna{part}").status_code == 404
            assert other.get(f"/v1/avatars/acme.anna{part}").status_code == 404
        unseen = other.get("/v1/avatars/anna")
        assert unseen.json()["error"]["message"].replace("anna", "nobody") == nobody.json()["error"]["message"]
        assert "acme" not in unseen.text + acme.get("/v1/avatars/anna").text
        assert other.post("/v1/videos", json={"text": TEXT, "avatar": "anna"}).status_code == 404
        assert other.delete("/v1/avatars/anna").status_code == 404
        mine = other.post("/v1/avatars", files={"image": PORTRAIT}, data={"id": "anna", "name": "Another"})
        assert mine.status_code == 201, "the id is free: nobody can tell that another tenant has it"
        assert acme.get("/v1/avatars/anna").json()["name"] == "Anna" and other.get("/v1/avatars/anna").json()["name"] == "Another"
        assert acme.delete("/v1/avatars/anna").status_code == 204
        assert acme.get("/v1/avatars/anna").status_code == 404 and other.get("/v1/avatars/anna").status_code == 200
        assert other.delete("/v1/avatars/interviewer_man").status_code == 409


def test_the_cache_tells_nobody_what_others_have_said(keyed: Keyed) -> None:
    said = {"text": "Only one of us has ever said this.", "stream": False}
    with keyed.client("acme") as acme, keyed.client("other") as other:
        assert acme.post("/v1/videos", json=said).headers["x-cache"] == "miss"
        deadline = time.monotonic() + 30
        while acme.post("/v1/videos", json=said).headers["x-cache"] == "miss" and time.monotonic() < deadline:
            time.sleep(0.2)
        assert acme.post("/v1/videos", json=said).headers["x-cache"].startswith("hit")
        assert other.post("/v1/videos", json=said).headers["x-cache"] == "miss"


def test_captions_belong_to_whose_video_it_is(keyed: Keyed) -> None:
    with keyed.client("acme") as acme:
        film = acme.post("/v1/videos", json={"text": TEXT, "stream": False})
        captions = re.search(r"<([^>]+)>", film.headers["link"])
        assert captions and "WEBVTT" in acme.get(captions[1]).text
    with keyed.client("other") as other, pytest.raises(httpx.ReadTimeout):
        other.get(captions[1], timeout=2)  # it waits as for one that another replica may be making


def test_a_one_off_portrait_is_for_its_request_alone(keyed: Keyed) -> None:
    with keyed.client("acme") as acme:
        speech = acme.post("/v1/audio/speech", json={"input": 3 * TEXT, "voice": "espeak-f", "response_format": "wav"}).content

    async def watched() -> tuple[list[str], int]:
        headers = {tenant: {"Authorization": f"Bearer {keyed.keys[tenant]}"} for tenant in keyed.keys}
        async with httpx.AsyncClient(base_url=keyed.service.url, timeout=120) as client:
            files = {"image": ("a.png", PORTRAIT), "audio": ("a.wav", speech)}
            work = asyncio.create_task(client.post("/generate", files=files, headers=headers["acme"]))
            seen: set[str] = set()
            stored: set[str] = set()
            while not work.done():
                for tenant in keyed.keys:
                    seen |= set(re.findall(r"tmp-[0-9a-f-]+", (await client.get("/v1/avatars/x", headers=headers[tenant])).text))
                    seen |= set(re.findall(r"tmp-[0-9a-f-]+", (await client.get("/v1/avatars", headers=headers[tenant])).text))
                for path in keyed.service.home.glob("acme.tmp-*"):
                    stored.add(path.name.removeprefix("acme."))
                    for tenant in keyed.keys:
                        answer = await client.get(f"/v1/avatars/{path.name.removeprefix('acme.')}/portrait", headers=headers[tenant])
                        assert answer.status_code == 404
            assert stored, "it was there while the film was made"
            return sorted(seen), (await work).status_code

    assert asyncio.run(watched()) == ([], 200)


def test_a_rebound_name_reaches_neither_answers_nor_sessions(keyed: Keyed) -> None:
    key, port = keyed.keys["acme"], urlsplit(keyed.service.url).port
    headers = {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}", "Authorization": f"Bearer {key}"}
    assert httpx.get(f"{keyed.service.url}/v1/avatars", headers=headers).status_code == 403
    handshake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    assert httpx.get(f"{keyed.service.url}/v1/sessions", headers=headers | handshake).status_code == 403


def test_its_ray_runs_code_for_nobody_without_the_token(keyed: Keyed) -> None:
    """Ray's token is the service's own, whatever the user's environment and home folder say."""
    file = private_folder(keyed.service) / RAY_TOKEN
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    environment = psutil.Process(keyed.service.pid).children()[0].environ()
    assert environment["RAY_AUTH_MODE"] == "token" and environment["RAY_AUTH_TOKEN_PATH"] == str(file) and "RAY_AUTH_TOKEN" not in environment
    replica = keyed.service.replicas("Ingress")[0]
    dashboard = [each for each in psutil.Process(keyed.service.pid).children(recursive=True) if "dashboard.py" in " ".join(each.cmdline())]
    assert replica.environ()["RAY_AUTH_MODE"] == "token" and dashboard
    answers = []
    for port in {each.laddr.port for each in dashboard[0].net_connections("tcp") if each.status == psutil.CONN_LISTEN}:
        with suppress(httpx.HTTPError):
            answers.append(httpx.get(f"http://127.0.0.1:{port}/api/jobs/", timeout=5))
    jobs = [answer.status_code for answer in answers if "text/plain; version=" not in answer.headers.get("content-type", "")]
    assert jobs and set(jobs) <= {401, 404}, "all but its metrics"


async def test_nobody_goes_on_with_a_session_of_another_tenant(keyed: Keyed) -> None:
    protocols = {tenant: [SUBPROTOCOL, BEARER + key] for tenant, key in keyed.keys.items()}
    async with connect(keyed.socket + "?avatar=woman", subprotocols=protocols["acme"], max_size=None) as socket:  # type: ignore[arg-type]
        assert socket.subprotocol == SUBPROTOCOL
        ready = json.loads(await socket.recv())
        socket.transport.abort()  # a closing with 1000 would end the session
    resume = json.dumps({"type": "resume", "session": ready["session"], "token": ready["token"], "seq": 1})
    async with connect(keyed.socket, subprotocols=protocols["other"], max_size=None) as socket:  # type: ignore[arg-type]
        await socket.send(resume)
        assert json.loads(await socket.recv())["code"] == "unknown_session"
    async with connect(keyed.socket, subprotocols=protocols["acme"], max_size=None) as socket:  # type: ignore[arg-type]
        await socket.send(resume)
        assert json.loads(await socket.recv())["resumed"] is True


async def test_a_session_begun_with_a_token_goes_on_and_the_token_begins_no_other(keyed: Keyed) -> None:
    with keyed.client("acme") as acme:
        token = acme.post("/v1/sessions/tokens", json={"avatar": "woman"}).json()["token"]
    bearer: Any = [SUBPROTOCOL, BEARER + token]
    async with connect(keyed.socket, subprotocols=bearer, max_size=None) as socket:
        await socket.send('{"type":"start"}')
        ready = json.loads(await socket.recv())
        assert ready["type"] == "ready" and ready["avatar"] == "interviewer_woman"
        await socket.send(json.dumps({"type": "speak", "text": TEXT}))
        while isinstance(await socket.recv(), str):
            pass
        socket.transport.abort()
    async with connect(keyed.socket, subprotocols=bearer, max_size=None) as socket:
        await socket.send(json.dumps({"type": "resume", "session": ready["session"], "token": ready["token"], "seq": 1}))
        assert json.loads(await socket.recv())["resumed"] is True
    async with connect(keyed.socket, subprotocols=bearer, max_size=None) as socket:
        await socket.send('{"type":"start"}')
        assert json.loads(await socket.recv())["code"] == "unauthorized"
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == CloseCode.UNAUTHORIZED


async def test_sessions_end_when_their_key_is_revoked(keyed: Keyed) -> None:
    key, stored = create_key(keyed.file, "acme", ["speak"])
    protocols: Any = [SUBPROTOCOL, BEARER + key]
    deadline = time.monotonic() + 30
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as client:
        while (await client.get(f"{keyed.service.url}/v1/voices")).status_code == 401:
            assert time.monotonic() < deadline, "the running service learns of a new key"
            await asyncio.sleep(0.2)
    async with connect(keyed.socket + "?avatar=woman", subprotocols=protocols, max_size=None) as socket:
        assert json.loads(await socket.recv())["type"] == "ready"
        revoke_key(keyed.file, stored.id)
        with pytest.raises(ConnectionClosed):
            while True:
                await asyncio.wait_for(socket.recv(), 30)
        assert socket.close_code == CloseCode.UNAUTHORIZED


def test_no_key_and_no_token_is_in_a_log(keyed: Keyed) -> None:
    """After all that was done above."""
    with keyed.client("acme") as acme:
        token = acme.post("/v1/sessions/tokens", json={}).json()["token"]
        acme.get("/v1/avatars", headers={"Authorization": f"Bearer {token}"})
        acme.get("/v1/avatars", headers={"Authorization": f"Bearer {token}x"})
        assert acme.get("/v1/avatars/nobody").status_code == 404
    replicas = [path for path in log_dir(urlsplit(keyed.service.url).port or 0).rglob("*") if path.is_file()]
    rays = [path for path in (private_folder(keyed.service) / "ray").rglob("logs/**/*") if path.is_file()]
    assert sum(path.stat().st_size for path in replicas) > 1_000 and rays, "there is something to look at"
    for path in (keyed.service.log, *replicas, *rays):
        text = path.read_bytes()
        for secret in (*keyed.keys.values(), token):
            assert secret.encode() not in text and secret[17:].encode() not in text, path
