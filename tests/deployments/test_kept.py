"""What a running service keeps of people, and what it says of its films: with every log level on, looked for in every file."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from musetalk.avatars import leases
from musetalk.avatars.files import CURRENT
from musetalk.avatars.format import ONE_OFF
from musetalk.avatars.store import AvatarStore
from tests import decoded
from tests.certificates import make_chain
from tests.conftest import CONFIG, Service, start, stop
from tests.live import Live
from tests.museserve.media.test_provenance import flipped, source_type, state, told
from tests.museserve.speech.provider import Provider

pytestmark = pytest.mark.serve

PORTRAIT = Path(__file__).resolve().parents[2] / "musetalk" / "avatars" / "shipped" / "interviewer_man" / "portrait.png"
SECRET = "Zyxomma quillwort"
TEXT = f"My candidate is called {SECRET} and lives in Gwangju."


@dataclass
class Watched:
    service: Service
    home: Path
    temp: Path

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.service.url, timeout=120)

    def files(self) -> Iterator[Path]:
        """Every file that the service has written and that is there."""
        for folder in (self.home, self.temp, self.service.home, self.service.log.parent / "utterances"):
            yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        yield self.service.log


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    tmp, provider = tmp_path_factory.mktemp("kept"), Provider()
    home = tmp / "cache-home"
    config: dict[str, Any] = {
        **CONFIG,
        "server": {**CONFIG["server"], "log_level": "DEBUG"},
        "tracing": {"enabled": True, "exporter": "file", "sampling_ratio": 1.0},
        "speech": {"engine": "openai", "on_openai_error": "fallback", "openai": {"base_url": provider.base_url, "api_key": "sk-marked-key"}},
        "provenance": make_chain(tmp),
        "label": {"region": "KR"},
        "deployments": {"lipsync": {"num_cpus": 0.2}},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUSESERVE_HOME", str(home))
        process, service = start(tmp, config)
        (temp,) = [owner.parent for owner in Path("/tmp").glob("muse-*/owner") if owner.read_text() == str(service.pid)]
        yield Watched(service, home, temp)
        stop(process)
    provider.close()


def holding(files: Iterator[Path], said: str) -> list[Path]:
    found = []
    for path in files:
        content = path.read_bytes() if path.exists() else b""
        if any(said.encode(coding) in content for coding in ("utf-8", "utf-16-le")):
            found.append(path)
    return found


async def test_no_text_and_no_sound_stays_readable(watched: Watched) -> None:
    """Spoken by every call there is, well and badly; then looked for in logs, traces, caches and what lies about."""
    with watched.client as client:
        film = client.post("/v1/videos", json={"text": TEXT, "stream": False})
        assert film.status_code == 200
        assert client.post("/v1/videos", json={"text": TEXT}).status_code == 200
        again = client.post("/v1/videos", json={"text": TEXT, "stream": False, "captions": "track"})
        assert again.headers["X-Cache"].startswith("hit")
        speech = client.post("/v1/audio/speech", json={"input": TEXT, "response_format": "wav"})
        assert speech.status_code == 200
        assert client.post("/v1/prerender", json={"texts": [TEXT]}).status_code == 200
        assert client.post("/api/core/interview/video/generate/", json={"text": TEXT}).status_code == 200
        assert client.post("/api/core/tts/synthesize/", json={"text": TEXT}).status_code == 200
        portrait = PORTRAIT.read_bytes()
        assert client.post("/generate", files={"image": portrait, "audio": speech.content}).status_code == 200
        assert client.post("/v1/videos", files={"audio": speech.content}, data={"stream": "false"}).status_code == 200
        captions = client.get(f"/v1/videos/{film.headers['X-Utterance-Id']}/captions.vtt").text
        assert "Zyxomma" in captions
        for bad in (
            {"text": TEXT, "voice": "nobody"},
            {"text": TEXT, "avatar": SECRET},
            {"text": TEXT * 200},
            {"text": TEXT, SECRET: 1},
            {"text": [TEXT]},
        ):
            assert 400 <= client.post("/v1/videos", json=bad).status_code < 500
        assert client.post("/v1/videos", content=f'{{"text": "{SECRET}', headers={"content-type": "application/json"}).status_code == 400
        assert client.post("/v1/avatars", files={"image": SECRET.encode()}, data={"name": SECRET}).status_code == 400
    async with Live(watched.service.url, avatar="man") as live:
        await live.send(type="speak", id="q1", text=TEXT)
        await live.answer("finished", "q1")
        await live.send(type="speak", id="q2", deltas=True)
        await live.send(type="text", id="q2", delta=f"{SECRET}. And more", final=True)
        await live.answer("finished", "q2")
        await live.send(type="speak", id="q3", text=TEXT, voice=SECRET)
        await live.socket.send(f'{{"type": "speak", "text": "{SECRET}')
        await live.answer("error", count=2)
    await asyncio.sleep(1.5)  # what is written beside the answers
    files = list(watched.files())
    names = {path.name for path in files}
    assert any("replica" in name for name in names) and any("spans" in str(path) for path in files), "there are logs and traces"
    for said in (SECRET, "Zyxomma", "quillwort", "Gwangju", "sk-marked-key"):
        assert holding(iter(files), said) == [], said
    assert holding(iter(files), "utterance") != [], "the search finds what is there"


def test_nothing_of_uploads_lies_about(watched: Watched) -> None:
    files = [path for path in (watched.temp / "tmp").rglob("*") if path.is_file() and path.stat().st_size > 1_000]
    assert files == []  # a library's file of 51 bytes is none
    assert [avatar.name for avatar in watched.service.home.iterdir() if avatar.name.startswith(ONE_OFF)] == []


def test_what_is_written_is_nobody_elses_to_read(watched: Watched) -> None:
    places = [watched.home, watched.temp, watched.service.log.parent / "utterances"]
    opened = [path for place in places for path in (place, *place.rglob("*")) if not path.is_symlink() and path.exists()]
    readable = [path for path in opened if stat.S_IMODE(path.stat().st_mode) & 0o077 and not any(_closed(up) for up in path.parents)]
    assert readable == []
    for path in watched.service.home.rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def _closed(folder: Path) -> bool:
    return folder.name.startswith("muse-") and not stat.S_IMODE(folder.stat().st_mode) & 0o077


def test_the_cache_is_cleared_for_all_replicas(watched: Watched) -> None:
    with watched.client as client:
        body = {"text": "A question that is asked again and again.", "stream": False}
        first = client.post("/v1/videos", json=body)
        assert client.post("/v1/videos", json=body).headers["X-Cache"].startswith("hit")
        assert client.delete("/v1/cache").status_code == 204
        assert [path for path in (watched.service.log.parent / "utterances").rglob("*") if path.is_file()] == []
        assert client.get(f"/v1/videos/{first.headers['X-Utterance-Id']}/captions.vtt").status_code == 404
        assert client.post("/v1/videos", json=body).headers["X-Cache"] == "miss"


def test_a_damaged_avatar_is_replaced_over_http(watched: Watched) -> None:
    with watched.client as client:
        portrait = {"image": PORTRAIT.read_bytes()}
        assert client.post("/v1/avatars", files=portrait, data={"id": "mina"}).status_code == 201
        (watched.service.home / "mina" / CURRENT).write_bytes(b"{}")
        assert client.get("/v1/avatars/mina").status_code == 500
        taken = client.post("/v1/avatars", files=portrait, data={"id": "mina"})
        assert taken.status_code == 409 and "damaged" in taken.json()["error"]["message"]
        assert client.delete("/v1/avatars/mina").status_code == 204
        assert client.post("/v1/avatars", files=portrait, data={"id": "mina"}).status_code == 201
        assert client.post("/v1/videos", json={"text": "Hi.", "avatar": "mina", "stream": False}).status_code == 200
        assert client.delete("/v1/avatars/mina").status_code == 204


def test_one_off_avatars_are_nobody_elses_and_go_when_their_ingress_died(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    store = AvatarStore(str(watched.service.home))
    mine = f"{ONE_OFF}0123456789abcdef"
    monkeypatch.setattr(leases, "LEASE_S", 4.0)
    held = store.one_off(mine)
    held.__enter__()
    from musetalk.avatars.from_portrait import prepare_portrait

    prepare_portrait(PORTRAIT.read_bytes(), id=mine, store=store)
    assert store.exists(mine)
    with watched.client as client:
        for path in ("", "/portrait", "/idle", "/idle.segments"):
            assert client.get(f"/v1/avatars/{mine}{path}").status_code == 404
        assert client.delete(f"/v1/avatars/{mine}").status_code == 404
        assert client.post("/v1/videos", json={"text": "Hi.", "avatar": mine}).status_code == 404
        assert client.post("/v1/avatars", files={"image": b""}, data={"id": "tmp-x"}).status_code == 400
        assert mine not in client.get("/v1/avatars/nobody").text and mine not in client.get("/v1/avatars").text
    assert store.exists(mine), "held all the while"
    next(one for one in [held.gen.gi_frame.f_locals["kept"]]).end()  # type: ignore[attr-defined]  # as if the process that renews it were gone
    until = time.monotonic() + 60
    while (watched.service.home / mine).exists() and time.monotonic() < until:
        time.sleep(0.5)
    assert not (watched.service.home / mine).exists(), "swept by the ingress that lives"


@pytest.mark.slow  # replicas look every half minute
def test_deleted_avatars_leave_the_replicas(watched: Watched) -> None:
    with watched.client as client:
        assert client.post("/v1/avatars", files={"image": PORTRAIT.read_bytes()}, data={"id": "short"}).status_code == 201
        assert client.post("/v1/videos", json={"text": "Hi.", "avatar": "short", "stream": False}).status_code == 200
        replicas = [*watched.service.replicas("Mux"), *watched.service.replicas("LipSync")]
        assert any(_maps(one, "/short/") for one in replicas)
        assert client.delete("/v1/avatars/short").status_code == 204
        until = time.monotonic() + 90
        while any(_maps(one, "/short/") for one in replicas) and time.monotonic() < until:
            time.sleep(1)
        assert not any(_maps(one, "/short/") for one in replicas)


def _maps(process: psutil.Process, path: str) -> bool:
    return path in Path(f"/proc/{process.pid}/maps").read_text()


def test_films_say_that_they_were_generated(watched: Watched) -> None:
    with watched.client as client:
        film = client.post("/v1/videos", json={"text": "A film.", "stream": False})
        assert state(film.content) == "Valid" and state(flipped(film.content, len(film.content) // 2)) == "Invalid"
        assert source_type(film.content).endswith("/trainedAlgorithmicMedia")
        corner = decoded.pictures(film.content)[:, 10:60, 10:200]
        assert (corner.max(axis=(1, 2)) > 200).all() and (np.median(corner, axis=(1, 2)) < 90).all(), "white on dark, upon every picture"

        stream = client.post("/v1/videos", json={"text": "A stream."})
        links = stream.headers["Link"].split(", ")
        (link,) = [link for link in links if 'rel="c2pa-manifest"' in link]
        assert len(links) == 2 and source_type(stream.content).endswith("/trainedAlgorithmicMedia")
        manifest = client.get(link[1 : link.index(">")])
        assert manifest.headers["content-type"] == "application/c2pa"
        assert state(stream.content, manifest.content) == "Valid"
        assert state(flipped(stream.content, len(stream.content) // 2), manifest.content) == "Invalid"
        assert told(stream.content, manifest.content)["museserve.generation"]["portrait"] == "shipped with museserve"

        mixed = client.post("/generate", files={"image": PORTRAIT.read_bytes(), "audio": _speech(client)}).content
        assert state(mixed) == "Valid" and source_type(mixed).endswith("/compositeSynthetic")
        assert told(mixed)["museserve.generation"]["speech"] == "recorded and uploaded"
        idle = client.get("/v1/avatars/interviewer_man/idle").content
        assert state(idle) == "Valid"


def _speech(client: httpx.Client) -> bytes:
    return client.post("/v1/audio/speech", json={"input": "Recorded.", "response_format": "wav"}).content


@pytest.mark.slow  # starts two services
def test_a_restart_after_a_kill_serves_no_one_off(tmp_path: Path) -> None:
    """Ingress and all die while /generate works: what it left is not served after the restart, and its temporary files are gone."""
    process, service = start(tmp_path, {**CONFIG, "deployments": {"lipsync": {"num_cpus": 0.2}}})
    (temp,) = [owner.parent for owner in Path("/tmp").glob("muse-*/owner") if owner.read_text() == str(service.pid)]
    store = AvatarStore(str(service.home))
    mine = f"{ONE_OFF}fedcba9876543210"
    store._leases.write(mine, "an ingress")
    children = psutil.Process(service.pid).children(recursive=True)
    os.kill(service.pid, signal.SIGKILL)
    process.wait()
    store._fs.create_dir(f"{store._root}/{mine}")
    (service.home / leases.FOLDER / f"{mine}.json").write_text('{"until": 1.0, "by": "an ingress"}')
    process, service = start(tmp_path, {**CONFIG, "deployments": {"lipsync": {"num_cpus": 0.2}}})
    try:
        assert not temp.exists()
        assert httpx.get(f"{service.url}/v1/avatars/{mine}").status_code == 404
        until = time.monotonic() + 60
        while (service.home / mine).exists() and time.monotonic() < until:
            time.sleep(0.5)
        assert not (service.home / mine).exists()
    finally:
        stop(process)
        for child in children:
            if child.is_running():
                child.kill()
