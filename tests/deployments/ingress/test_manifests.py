"""Manifests of streams: one lies beside each stream that was sent whole, and it is that stream's."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from configs.models import AppConfig, ProvenanceConfig
from deployments.ingress import manifests
from deployments.ingress.manifests import Manifests
from deployments.ingress.sessions import protocol as p
from deployments.ingress.sessions.live_sound import SoundPart
from deployments.ingress.sessions.session import Session
from deployments.ingress.sessions.speaker import Signing
from museserve.errors import EngineError
from museserve.media.encode import init_segment
from museserve.media.provenance import Signer
from museserve.messages import Fragment, FragmentHead, VideoRequest
from museserve.runtime.blob_store import BlobStore
from tests.certificates import make_chain
from tests.deployments.ingress.sessions.test_delayed import AVATAR, Nobody
from tests.museserve.media.clips import CONFIG, SIDE, clicks, film
from tests.museserve.media.test_provenance import ORIGIN, flipped, state, told

INIT = init_segment(SIDE, SIDE, CONFIG)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(ProvenanceConfig.model_validate(make_chain(tmp_path_factory.mktemp("chain"))))


@pytest.fixture(scope="module")
def fragments() -> list[bytes]:
    return film(clicks(30_000, [4_800]))


async def sent(parts: list[bytes], fail: bool = False) -> AsyncGenerator[bytes, None]:
    for part in parts:
        yield part
    if fail:
        raise EngineError("lost")


async def test_it_is_known_when_the_stream_is_over(signer: Signer, fragments: list[bytes], tmp_path: Path) -> None:
    here, elsewhere = (Manifests(signer, BlobStore(str(tmp_path), 2**20, 0)) for _ in range(2))
    stream = here.signed("", "u", sent([INIT, *fragments]), ORIGIN)
    got = await anext(stream)
    asked = [asyncio.create_task(replica.manifest("", "u")) for replica in (here, elsewhere)]
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in asked)
    async for part in stream:
        got += part
    one, other = await asyncio.wait_for(asyncio.gather(*asked), 20)
    assert one == other and got == INIT + b"".join(fragments)
    assert state(got, one) == "Valid" and state(flipped(got, len(got) // 2), one) != "Valid"
    here.clear("acme")
    here.clear("")
    assert await here.manifest("", "u") == one  # out of the store, which is cleared with the cache


@pytest.mark.parametrize("how", ["failed", "left"])
async def test_a_stream_that_is_broken_off_has_none(signer: Signer, fragments: list[bytes], how: str) -> None:
    here = Manifests(signer, None)
    stream = here.signed("", "u", sent([INIT, *fragments], fail=how == "failed"), ORIGIN)
    if how == "left":
        await anext(stream)
        await stream.aclose()
    else:
        with pytest.raises(EngineError):
            [part async for part in stream]
    for name in ("u", "unknown"):
        with pytest.raises(HTTPException, match="no manifest is kept for utterance"):
            await here.manifest("", name)


async def test_they_are_not_kept_for_ever(signer: Signer, fragments: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    here = Manifests(signer, None)
    monkeypatch.setattr(manifests, "KEPT", 2)
    for name in "abc":
        [part async for part in here.signed("", name, sent([INIT, *fragments]), ORIGIN)]
    with pytest.raises(HTTPException):
        await here.manifest("", "a")
    assert await here.manifest("", "c")
    monkeypatch.setattr(manifests, "KEPT_S", 0.0)
    with pytest.raises(HTTPException):
        await here.manifest("", "c")


class Films:
    """The graph: each call gives the fragments of one film."""

    def __init__(self, fragments: list[bytes]) -> None:
        self.fragments = fragments

    async def film(self, request: VideoRequest, sound: SoundPart | None = None) -> AsyncGenerator[Fragment, None]:
        total = 8 * len(self.fragments)
        for n, data in enumerate(self.fragments):
            head = FragmentHead("avc1", {}, "fake") if n == 0 else None
            yield Fragment(INIT + data if n == 0 else data, 8 * n, 8, total_frames=total, head=head)
        await asyncio.sleep(0)


@pytest.mark.parametrize("known", [True, False])
async def test_a_sessions_utterance_is_signed_as_it_was_sent(signer: Signer, known: bool) -> None:
    """known: the init segment is the idle loop's, and so is not sent again."""
    fragments = film(clicks(16_000, [4_800]))
    avatar = replace(AVATAR, init=INIT if known else b"another")
    live = Session(p.Start(captions=False), avatar, AppConfig(), Films(fragments).film, Nobody(), "s_1", "", Signing(signer, "animator"))
    live.handle(json.dumps({"type": "speak", "id": "a", "deltas": True}))
    for delta in ("One sentence is here. ", "Another one follows it."):
        live.handle(json.dumps({"type": "text", "id": "a", "delta": delta, "flush": True}))
    live.handle(json.dumps({"type": "text", "id": "a", "delta": "", "final": True}))
    media = b""
    while True:
        payload: Any = await asyncio.wait_for(live.outbox.next(), 20)
        if isinstance(payload, bytes):
            header = p.FrameHeader.unpack(payload)
            data = payload[p.HEADER.size :]
            if header.flags & p.FrameFlag.INIT and media:
                data = data[data.index(b"moof") - 4 :] if data.startswith(b"ftyp", 4) else data
            media += data
        elif json.loads(payload)["type"] == "manifest":
            message = json.loads(payload)
            break
    await live.aclose()
    assert message["id"] == "a" and message["n"] == 1
    whole, manifest = (INIT + media if known else media), base64.b64decode(message["c2pa"])
    assert state(whole, manifest) == "Valid"
    assert told(whole, manifest)["museserve.generation"]["speech"] == "fake"
    assert state(flipped(whole, len(whole) - 9), manifest) != "Valid"
