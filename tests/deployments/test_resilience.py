"""What happens when parts die, hang up or are full."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx
import pytest

from museserve.timebase import FPS
from tests import decoded
from tests.conftest import Service

pytestmark = pytest.mark.serve

LONG = "I would like you to walk me through a system that you designed, from the first sketch to production. " * 3


def test_a_killed_lipsync_replica_is_a_hiccup_not_a_broken_video(service: Service, client: httpx.Client) -> None:
    victims = service.replicas("LipSync")
    assert len(victims) == 2
    data = b""
    with client.stream("POST", "/v1/videos", json={"text": LONG}) as answer:
        killed = False
        for piece in answer.iter_raw():
            data += piece
            if not killed:
                victims[0].kill()
                killed = True
    seen = decoded.numbers(decoded.frames(data))
    assert seen == list(range(len(seen))) and len(seen) > 10 * FPS
    deadline = time.monotonic() + 60
    while len(service.replicas("LipSync")) < 2 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert len(service.replicas("LipSync")) == 2


def test_a_portrait_is_prepared_although_its_replica_is_killed(service: Service, client: httpx.Client) -> None:
    """By the next one, from the beginning."""
    portrait = client.get("/v1/avatars/interviewer_man/portrait").content
    asked: dict[str, Any] = {
        "data": {"id": "outlives", "name": "Outlives"},
        "files": {"image": portrait},
        "headers": {"Accept": "application/x-ndjson"},
    }
    lines: list[dict[str, Any]] = []
    with client.stream("POST", "/v1/avatars", **asked) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            lines.append(json.loads(line))
            if len(lines) == 1:
                service.replicas("FacePrep")[0].kill()
    steps = [line["step"] for line in lines[:-1]]
    assert steps.count(steps[0]) >= 2, "it began anew"
    assert lines[-1]["avatar"]["id"] == "outlives"
    assert client.post("/v1/videos", json={"text": "Hello.", "avatar": "outlives", "stream": False}).status_code == 200
    assert client.delete("/v1/avatars/outlives").status_code == 204


def test_hanging_up_stops_the_work_below(service: Service, client: httpx.Client) -> None:
    with client.stream("POST", "/v1/videos", json={"text": LONG}) as answer:
        pieces = answer.iter_raw()
        for _ in range(3):
            next(pieces)
        assert service.health()["live_utterances"] == 1
    deadline = time.monotonic() + 5
    while service.health()["live_utterances"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert service.health()["live_utterances"] == 0
    time.sleep(0.5)
    workers = service.replicas("LipSync") + service.replicas("Mux")
    before = sum(sum(w.cpu_times()[:2]) for w in workers)
    time.sleep(2)
    assert sum(sum(w.cpu_times()[:2]) for w in workers) - before < 0.4  # idle again: what is left is Ray's own heartbeat


def test_too_many_at_once_get_503_and_retry_after(service: Service) -> None:
    answers: list[httpx.Response] = []
    gate, answered = threading.Barrier(9), threading.Barrier(9)

    def ask() -> None:
        gate.wait()
        with httpx.Client(timeout=60) as client, client.stream("POST", f"{service.url}/v1/videos", json={"text": LONG}) as answer:
            if answer.status_code == 200:
                video = answer.iter_raw()  # kept: httpx hangs up when it goes
                next(video)
            else:
                answer.read()
            answers.append(answer)
            answered.wait(30)  # nobody's place becomes free before all have theirs

    threads = [threading.Thread(target=ask) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    full = [a for a in answers if a.status_code == 503]
    assert len([a for a in answers if a.status_code == 200]) == 6 and len(full) == 3
    for answer in full:
        assert int(answer.headers["retry-after"]) > 0 and answer.json()["error"]["code"] == "busy"
    deadline = time.monotonic() + 10
    while service.health()["live_utterances"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert httpx.post(f"{service.url}/v1/videos", json={"text": "Free again.", "stream": False}, timeout=30).status_code == 200
