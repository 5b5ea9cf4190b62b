"""A worker lets in who may, says what is wrong, and tells an agent when it could not join."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from livekit.plugins.museserve.api import WorkerAPI, WorkerError
from livekit.plugins.museserve.worker import Rooms

ASKED = {"livekit_url": "ws://127.0.0.1:9", "token": "none", "agent_identity": "agent"}


@pytest.fixture
async def worker(url: str) -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    async with TestClient(TestServer(Rooms(url, None, "secret", most=1).app())) as client:
        yield client


async def launch(worker: TestClient, key: str | None = "secret", **asked: object) -> None:  # type: ignore[type-arg]
    async with aiohttp.ClientSession() as http:
        fields = {"avatar": None, "audio_sample_rate": 24_000, **ASKED, **asked}
        await WorkerAPI(str(worker.make_url("/")), key).launch(http, **fields)  # type: ignore[arg-type]


async def test_who_has_no_key_is_not_let_in(worker: TestClient) -> None:  # type: ignore[type-arg]
    for key in (None, "other"):
        with pytest.raises(WorkerError) as refused:
            await launch(worker, key)
        assert refused.value.status == 401
    assert await (await worker.get("/health")).json() == {"rooms": 0, "most": 1}


async def test_a_room_that_cannot_be_joined_is_told_and_left(worker: TestClient) -> None:  # type: ignore[type-arg]
    with pytest.raises(WorkerError, match="not_joined") as refused:
        await launch(worker)
    assert refused.value.status == 502
    with pytest.raises(WorkerError, match="nobody"):
        await launch(worker, avatar="nobody")
    assert (await (await worker.get("/health")).json())["rooms"] == 0


async def test_what_is_wrong_is_named(worker: TestClient) -> None:  # type: ignore[type-arg]
    headers = {"Authorization": "Bearer secret"}
    for body, said in [
        ([], "JSON object"),
        ({}, "livekit_url is missing"),
        ({**ASKED, "moon": 1}, "unknown: moon"),
        ({**ASKED, "token": 3}, "token is a str"),
    ]:
        answer = await worker.post("/launch", json=body, headers=headers)
        assert answer.status == 400 and said in (await answer.json())["error"]["message"]
    with pytest.raises(WorkerError, match="cannot be reached"):
        async with aiohttp.ClientSession() as http:
            await WorkerAPI("http://127.0.0.1:9", None).launch(
                http, livekit_url="", token="", agent_identity="", avatar=None, audio_sample_rate=24_000
            )
