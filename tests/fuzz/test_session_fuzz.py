"""Whatever a client does in a live session is answered as the protocol says; `make fuzz` does it for long."""

from __future__ import annotations

import json

import pytest

from deployments.ingress.sessions.protocol import FrameHeader
from tests.conftest import Service
from tests.fuzz.sessions import Judge, Wrong, run
from tests.live import soon


@pytest.mark.serve
def test_traces_of_sessions(service: Service) -> None:
    run(service.url, traces=12, seed=1, steps=8)


@pytest.mark.serve
async def test_no_session_is_left(service: Service) -> None:
    await soon(lambda: not service.health()["live_sessions"] and not service.health()["live_utterances"], 10)


QUEUED = {"type": "queued", "seq": 1, "id": "a", "n": 1, "ahead": 0}
STARTED = {
    "type": "started",
    "seq": 2,
    "id": "a",
    "n": 1,
    "first_frame": 0,
    "phase": 0,
    "grid": 0,
    "cached": "no",
    "speech_engine": "x",
    "timings_ms": {},
}
FRAGMENT = FrameHeader(3, 1, 0, 8, 0).pack() + b"\x00\x00\x00\x08moof"
FINISHED = {"type": "finished", "seq": 4, "id": "a", "n": 1, "frames": 8, "phase": 8}


def judged(*messages: dict | bytes) -> None:
    judge = Judge()
    for message in messages:
        judge.take(message if isinstance(message, bytes) else json.dumps(message))


def test_a_right_conversation_is_right() -> None:
    judged(QUEUED, STARTED, FRAGMENT, FINISHED)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ((QUEUED, {**STARTED, "seq": 3}), "message 3 follows 1"),
        ((QUEUED, {**STARTED, "id": "b"}), "under the number of"),
        ((QUEUED, {**STARTED, "surprise": 1}), "not in the protocol"),
        ((QUEUED, {"type": "pong", "seq": 0}, FrameHeader(2, 1, 0, 8, 0).pack() + b"\x00\x00\x00\x08moof"), "does not run"),
        ((QUEUED, STARTED, FrameHeader(3, 1, 8, 8, 0).pack() + b"\x00\x00\x00\x08moof"), "frame 8 follows 0"),
        ((QUEUED, STARTED, FRAGMENT, {**FINISHED, "frames": 16}), "finished after 16"),
        ((QUEUED, STARTED, FRAGMENT, FINISHED, FrameHeader(5, 1, 8, 8, 0).pack() + b"\x00\x00\x00\x08moof"), "does not run"),
        (({"type": "error", "seq": 0, "code": "engine_failed", "message": "x"},), "fault of the service"),
    ],
)
def test_what_is_wrong_is_told(messages: tuple, said: str) -> None:
    with pytest.raises(Wrong, match=said):
        judged(*messages)
