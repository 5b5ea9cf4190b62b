"""Captions on whichever replica is asked: two stores stand for two replicas, with one cache on a disk or on S3."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from starlette.exceptions import HTTPException

from deployments.ingress import captions
from deployments.ingress.captions import CaptionsStore, utterance_id
from museserve.errors import StoreError
from museserve.messages import Fragment, Word
from museserve.runtime.blob_store import BlobStore
from museserve.timebase import OUTPUT_RATE
from tests.object_store import ObjectStore

Replicas = tuple[CaptionsStore, CaptionsStore]


@pytest.fixture(params=["folder", "moto"])
def replicas(request: pytest.FixtureRequest, tmp_path: Path) -> Replicas:
    place = str(tmp_path)
    if request.param == "moto":
        request.getfixturevalue("s3_keys")
        server = request.getfixturevalue("moto")
        place = server.uri(f"{server.new_bucket()}/cache")
    return CaptionsStore(BlobStore(place, 2**20, 0)), CaptionsStore(BlobStore(place, 2**20, 0))


def word(text: str, at: float) -> Word:
    return Word(text, round(at * OUTPUT_RATE), round((at + 0.3) * OUTPUT_RATE))


async def video(go_on: asyncio.Event) -> AsyncGenerator[Fragment, None]:
    """Two fragments; the second, with the last words, comes when it may, and then some that are to be sent yet."""
    yield Fragment(b"1", 0, 8, (word("Good", 0.0),))
    await go_on.wait()
    yield Fragment(b"2", 8, 8, (word("morning.", 0.4),), total_frames=800)
    await asyncio.sleep(3_600)


async def seen(items: AsyncIterator[Fragment]) -> None:
    async for _ in items:
        pass


async def test_another_replica_waits_for_the_words_while_the_stream_runs(replicas: Replicas) -> None:
    here, elsewhere = replicas
    go_on, utterance = asyncio.Event(), utterance_id(captions=True)
    stream = asyncio.create_task(seen(here.keep("acme", utterance).heard(video(go_on))))
    asked = [asyncio.create_task(replica.webvtt("acme", utterance)) for replica in replicas]
    await asyncio.sleep(0.5)
    assert not any(task.done() for task in asked)
    go_on.set()
    texts = await asyncio.wait_for(asyncio.gather(*asked), 20)
    assert texts[0] == texts[1] and texts[0].startswith("WEBVTT") and "Good morning." in texts[0]
    assert not stream.done()
    stream.cancel()


async def test_what_was_spoken_of_a_stream_that_was_cut_is_captioned(replicas: Replicas) -> None:
    here, elsewhere = replicas
    utterance = utterance_id(captions=True)
    async with aclosing(here.keep("acme", utterance).heard(video(asyncio.Event()))) as items:
        await anext(items)
    text = await asyncio.wait_for(elsewhere.webvtt("acme", utterance), 20)
    assert "Good" in text and "morning" not in text


async def test_other_tenants_do_not_see_them(replicas: Replicas) -> None:
    here, elsewhere = replicas
    go_on, utterance = asyncio.Event(), utterance_id(captions=True)
    go_on.set()
    stream = asyncio.create_task(seen(here.keep("acme", utterance).heard(video(go_on))))
    assert "Good morning." in await asyncio.wait_for(elsewhere.webvtt("acme", utterance), 20)
    for replica in replicas:
        for tenant in ("other", ""):
            task = asyncio.create_task(replica.webvtt(tenant, utterance))
            _, waiting = await asyncio.wait({task}, timeout=0.5)
            assert waiting, "as long as for an utterance that never was"
            task.cancel()
    stream.cancel()


async def test_who_never_was_is_not_waited_for(replicas: Replicas) -> None:
    _, elsewhere = replicas
    old, future = (f"{int(time.time() + shift):08x}" + 16 * "a" for shift in (-1_000, 10_000))
    for utterance in ("none", utterance_id(captions=False), old, future, "../" + 21 * "a"):
        with pytest.raises(HTTPException, match="no captions are kept for utterance .*those of all") as failed:
            await asyncio.wait_for(elsewhere.webvtt("acme", utterance), 10)
        assert failed.value.status_code == 404


async def test_a_replica_that_died_is_waited_for_a_while(replicas: Replicas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "WAIT_S", 1.0)
    with pytest.raises(HTTPException):
        await asyncio.wait_for(replicas[1].webvtt("acme", utterance_id(captions=True)), 20)


async def test_a_refused_request_leaves_nothing(replicas: Replicas, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused() -> AsyncGenerator[Fragment, None]:
        raise ValueError("no such voice")
        yield

    monkeypatch.setattr(captions, "WAIT_S", 0.5)
    utterance = utterance_id(captions=True)
    with pytest.raises(ValueError):
        await seen(replicas[0].keep("acme", utterance).heard(refused()))
    with pytest.raises(HTTPException):
        await asyncio.wait_for(replicas[1].webvtt("acme", utterance), 20)


async def test_without_a_cache_only_the_same_replica_knows() -> None:
    here, elsewhere = CaptionsStore(), CaptionsStore()
    utterance, go_on = utterance_id(captions=True), asyncio.Event()
    go_on.set()
    stream = asyncio.create_task(seen(here.keep("acme", utterance).heard(video(go_on))))
    assert "Good morning." in await asyncio.wait_for(here.webvtt("acme", utterance), 5)
    with pytest.raises(HTTPException, match="the last 512 of this replica are$"):
        await elsewhere.webvtt("acme", utterance)
    stream.cancel()


@pytest.mark.usefixtures("s3_keys")
async def test_a_store_that_is_away_is_no_captions_that_never_were(tmp_path: Path) -> None:
    server = ObjectStore.moto(tmp_path)
    here = CaptionsStore(BlobStore(server.uri(f"{server.new_bucket()}/cache"), 2**20, 0))
    server.kill()
    with pytest.raises(StoreError, match="try again in a moment"):
        await here.webvtt("acme", utterance_id(captions=True))


async def test_what_was_cleared_is_not_waited_for(tmp_path: Path) -> None:
    store = CaptionsStore(BlobStore(str(tmp_path), 2**20))
    made = utterance_id(captions=True)
    store.clear("acme")
    began = time.monotonic()
    with pytest.raises(HTTPException, match="no captions are kept"):
        await store.webvtt("acme", made)
    assert time.monotonic() - began < 5, "not as long as the words of a stream may take"
