"""`POST /v1/avatars` with clips: the ingress and face preparation as they are, joined without a cluster between them."""

from __future__ import annotations

import json
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("torch")

from deployments.face_prep import FacePrep

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, while it is imported
    from deployments.ingress.ingress import Ingress
from museserve.messages import ServiceInfo, SpeechInfo
from tests.deployments.test_face_prep import clip, config, prep  # noqa: F401
from tests.fakes import INFO
from tests.museserve.media.films import film, marked, sound_only


class Call:
    """A call to another deployment, streamed or not."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __await__(self) -> Any:
        return self._items.__await__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._items

    def cancel(self) -> None:
        """The generator is closed by the test's loop."""


class Handle:
    """A deployment that is called in this process."""

    def __init__(self, deployment: Any = None) -> None:
        self._deployment = deployment

    def options(self, **_: Any) -> Handle:
        return self

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._deployment, name)
        return type("Method", (), {"remote": staticmethod(lambda *given: Call(method(*given)))})


class Mux:
    """Says what runs, and is asked for nothing else here."""

    async def info(self) -> ServiceInfo:
        return ServiceInfo(INFO, SpeechInfo("offline", "configured", "1", ("hibari",)), {})


@pytest.fixture
def client(prep: FacePrep) -> httpx.AsyncClient:  # noqa: F811
    folder = Path(prep._store.uri).parent
    app = Ingress(config(folder, "musetalk"), Handle(Mux()), Handle(prep)).__serve_build_asgi_app__()  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://localhost")


async def test_a_clip_becomes_an_avatar_with_its_progress(client: httpx.AsyncClient, clip: bytes) -> None:  # noqa: F811
    asked: dict[str, Any] = {"files": {"video": ("me.mp4", clip)}, "data": {"id": "jun", "name": "Jun", "gender": "male"}}
    answer = await client.post("/v1/avatars", **asked, headers={"Accept": "application/x-ndjson"})
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/x-ndjson"
    *steps, last = [json.loads(line) for line in answer.text.splitlines()]
    assert [s["done"] for s in steps] == sorted(s["done"] for s in steps) and steps[0] == {"step": "read and follow the face", "done": 0.0}
    assert last["avatar"]["source"] == "clip" and last["avatar"]["gender"] == "male"
    assert (await client.post("/v1/avatars", **asked)).status_code == 409
    portrait = await client.get("/v1/avatars/jun/portrait")
    assert portrait.content.startswith(b"\x89PNG") and (await client.get("/v1/avatars/jun/idle")).headers["content-type"] == "video/mp4"
    assert (await client.delete("/v1/avatars/jun")).status_code == 204
    made = await client.post("/v1/avatars", **asked)
    assert made.status_code == 201 and made.headers["location"] == "/v1/avatars/jun" and made.json()["version"] == last["avatar"]["version"]
    assert (await client.delete("/v1/avatars/jun")).status_code == 204


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "not a clip"),
        (sound_only(), "no video stream"),
        (film([marked(0)]), "1 frame"),
        (film((marked(i % 999) for i in range(600)), fps=1, crf=40), "600.0 s"),
        (film(map(marked, range(30))), "no face"),
    ],
    ids=["empty", "a picture", "sound only", "one frame", "ten minutes", "nobody"],
)
async def test_clips_that_are_refused(client: httpx.AsyncClient, data: bytes, says: str) -> None:
    asked: dict[str, Any] = {"files": {"video": ("me.mp4", data)}, "data": {"id": "no"}}
    answer = await client.post("/v1/avatars", **asked)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "bad_clip" and says in answer.json()["error"]["message"]
    streamed = json.loads((await client.post("/v1/avatars", **asked, headers={"Accept": "application/x-ndjson"})).text.splitlines()[-1])
    assert streamed == {"error": {**answer.json()["error"], "status": 400}}
    assert (await client.get("/v1/avatars/no")).status_code == 404


async def test_bodies_and_files(client: httpx.AsyncClient) -> None:
    both = await client.post("/v1/avatars", files={"image": b"x", "video": b"x"})
    assert both.status_code == 400 and "exactly one of image, video; got image and video" in both.json()["error"]["message"]
    large = await client.post("/v1/avatars", files={"image": bytes(2 * 2**20)})
    assert large.status_code == 413 and "2,097,152" in large.json()["error"]["message"]
    larger = await client.post("/v1/avatars", files={"video": bytes(5 * 2**20)})
    assert larger.status_code == 413 and "4,194,304" in larger.json()["error"]["message"]
    builtin = await client.post("/v1/avatars", files={"video": b"x"}, data={"id": "interviewer_man"})
    assert builtin.status_code == 409
