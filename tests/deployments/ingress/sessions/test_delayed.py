"""A session whose utterances find no room: they wait in its queue, are told so, and fail only after the configured patience."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from configs.models import AppConfig
from deployments.ingress.sessions import protocol as p
from deployments.ingress.sessions.live_sound import SoundPart
from deployments.ingress.sessions.outbox import Outbox
from deployments.ingress.sessions.session import Session
from deployments.ingress.sessions.speaker import SessionAvatar
from museserve.errors import BusyError
from museserve.messages import Fragment, FragmentHead, VideoRequest
from museserve.timebase import FPS
from tests.live import soon

AVATAR = SessionAvatar(
    *("woman", "woman", "1", "female", b"init"),
    p.Idle(url="/idle", frames=256, segments=32),
    p.Media(codecs="avc1", width=512, height=512, fps=25, segment_frames=8, audio_rate=48_000),
)


class Full:
    """The graph: refuses the first `refusals` calls, then films one segment. refused: told of each call."""

    def __init__(self, refusals: int, retry_after_s: float = 0.1) -> None:
        self.refusals, self.retry_after_s = refusals, retry_after_s
        self.asked: list[VideoRequest] = []

    async def film(self, request: VideoRequest, sound: SoundPart | None = None) -> AsyncGenerator[Fragment, None]:
        self.asked.append(request)
        if len(self.asked) <= self.refusals:
            error = BusyError("5 streams are live")
            error.retry_after_s = self.retry_after_s  # type: ignore[assignment]
            raise error
        if request.begun:
            await asyncio.sleep(60)
        yield Fragment(b"initmoof", 0, 8, total_frames=8, head=FragmentHead("avc1", {}))


class Nobody:
    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None


def session(graph: Full, **capacity: float) -> Session:
    return Session(p.Start(captions=False), AVATAR, AppConfig.model_validate({"capacity": capacity}), graph.film, Nobody(), "s_1")


async def said(outbox: Outbox, last: str) -> list[dict[str, Any]]:
    """The messages until one of the type `last`, fragments and what is said of parts left out."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["type"] != last:
        payload = await asyncio.wait_for(outbox.next(), 5)
        if isinstance(payload, str) and (message := json.loads(payload))["type"] != "part":
            found.append(message)
    return found


async def test_it_waits_in_its_place() -> None:
    graph = Full(2)
    live = session(graph)
    for name in ("a", "b"):
        live.handle(json.dumps({"type": "speak", "id": name, "text": "Hello.", "phase": 10}))
    first = await said(live.outbox, "finished")
    assert [m["type"] for m in first] == ["queued", "queued", "delayed", "delayed", "started", "finished"]
    assert first[2]["id"] == "a" and first[2]["retry_after_s"] == 0.1
    second = await said(live.outbox, "finished")
    assert [(m["type"], m["id"]) for m in second] == [("started", "b"), ("finished", "b")]
    await live.aclose()


async def test_it_joins_the_idle_loop_where_that_is_by_then() -> None:
    graph = Full(2, retry_after_s=0.4)
    live = session(graph)
    live.handle(json.dumps({"type": "speak", "id": "a", "text": "Hello.", "phase": 250}))
    started = (await said(live.outbox, "started"))[-1]
    assert graph.asked[0].phase == 250 and graph.asked[-1].phase == started["phase"]
    waited = (started["phase"] - 250) % 256
    assert 0.8 * FPS <= waited < 5 * FPS
    await live.aclose()


async def test_its_patience_ends() -> None:
    live = session(Full(10**6), wait_s=0.35)
    live.handle(json.dumps({"type": "speak", "id": "a", "text": "Hello."}))
    messages = await said(live.outbox, "interrupted")
    assert {m["type"] for m in messages} == {"queued", "delayed", "error", "interrupted"}
    assert next(m for m in messages if m["type"] == "error")["code"] == "busy"
    await live.aclose()


async def test_an_interruption_ends_the_wait() -> None:
    graph = Full(1, retry_after_s=60)
    live = session(graph)
    live.handle(json.dumps({"type": "speak", "id": "a", "text": "Hello."}))
    await said(live.outbox, "delayed")
    live.handle(json.dumps({"type": "speak", "id": "b", "text": "Else.", "interrupt": True}))
    messages = await said(live.outbox, "finished")
    assert [(m["type"], m["id"]) for m in messages] == [("interrupted", "a"), ("queued", "b"), ("started", "b"), ("finished", "b")]
    assert [request.speech.text for request in graph.asked if request.speech] == ["Hello.", "Else."]
    await live.aclose()


@pytest.mark.parametrize("refused", [False, True])
async def test_what_goes_on_is_marked_as_begun(refused: bool) -> None:
    graph = Full(1 if refused else 0)
    live = session(graph)
    live.handle(json.dumps({"type": "speak", "id": "a", "deltas": True}))
    live.handle(json.dumps({"type": "text", "id": "a", "delta": "One is said. ", "flush": True}))
    await said(live.outbox, "started")
    live.handle(json.dumps({"type": "text", "id": "a", "delta": "Another is said.", "final": True}))
    await soon(lambda: graph.asked[-1].begun)
    assert [request.begun for request in graph.asked] == [False] * (1 + refused) + [True]
    await live.aclose()
