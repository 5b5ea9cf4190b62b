"""On a real cluster: what is admitted is never late, what is refused comes back, replicas come and go, settings change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest

import graph
from benchmarks.viewer import Viewing, watch
from configs.models import load_config
from museserve.app.serve_config import serve_document
from tests.live import Live, soon
from tests.ray_cluster import Cluster, cluster, until
from tests.sleepy_graph import FRAME_MS

pytestmark = pytest.mark.serve

# A replica draws 200 frames a second: eight streams, of which the configuration takes five. All twelve at once would
# fall behind by a second every two.
FRAME_S = 0.005
LATE_S = 10.0  # what a busy machine may add
WRONG: list[tuple[Any, str]] = [
    ({"capacity": {"lipsync_streams": -1}}, "capacity.lipsync_streams: Input should be greater than or equal to 0"),
    ({"capacity": {"lipsync_stream": 9}}, "capacity.lipsync_stream cannot change while it runs"),
    ({"avatars": {"size": 720}}, "avatars.size cannot change while it runs"),
]
TEXT = "Number {}. " + "Thank you for joining today. Please walk me through a system that you designed, from the first sketch to production. " * 3


def document(folder: Any, **changed: Any) -> dict[str, Any]:
    scale = {"min_replicas": 1, "max_replicas": 1, "num_cpus": 0.1, "max_surge_percent": 0}
    quick = {"upscale_delay_s": 0.5, "downscale_delay_s": 2.0, "metrics_interval_s": 1.0, "look_back_period_s": 2.0}
    config = load_config(
        "cluster",
        {
            "avatars": {"uri": str(folder / "avatars")},
            "cache": {"uri": str(folder / "cache"), "enabled": False},
            "server": {"log_format": "text"},
            "access": {"auth": "none"},
            "capacity": {"lipsync_streams": 5, "spare_replicas": 0, "window_s": 5.0, **changed.pop("capacity", {})},
            "deployments": {
                **{key: scale for key in ("ingress", "tts", "face_prep")},
                "mux": {**scale, **quick, "max_replicas": 2},
                "lipsync": {**scale, **quick, "max_replicas": 4},
            },
            **changed,
        },
    )
    made = serve_document(config)
    made["applications"][0]["import_path"] = "tests.sleepy_graph:build"
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def running(folder: Any) -> Iterator[Cluster]:
    with cluster(num_cpus=8, env={FRAME_MS: str(FRAME_S * 1e3), "MUSESERVE_HOME": str(folder / "home")}) as made:
        made.deploy(document(folder))
        made.settled()
        until(lambda: capacity(made).get("streams") == 5, 30)
        yield made


def persistent(url: str, number: int, delay_s: float) -> tuple[Viewing, list[int]]:
    """A viewer who comes back when he is told to. The waits that he was told, seconds."""
    time.sleep(delay_s)
    waits: list[int] = []
    while True:
        seen = watch(url, {"text": TEXT.format(number), "voice": "espeak-f"})
        if seen.status != 503:
            return seen, waits
        waits.append(int(seen.headers["retry-after"]))
        time.sleep(waits[-1])


def capacity(running: Cluster) -> dict[str, int]:
    return dict(httpx.get(f"{running.url}/health", timeout=30).json()["capacity"])


def pids(running: Cluster) -> dict[str, list[int]]:
    return {name: running.replicas(name) for name in graph.DEPLOYMENTS.values()}


def of(made: dict[str, Any], deployment: str) -> dict[str, Any]:
    (found,) = (d for d in made["applications"][0]["deployments"] if d["name"] == deployment)
    assert isinstance(found, dict)
    return found


def said(running: Cluster, words: str) -> bool:
    logs = (running.log.parent / "ray" / "session_latest" / "logs" / "serve").glob("replica_*.log")
    return any(words in log.read_text(errors="replace") for log in logs)


def test_settings_change_in_place(running: Cluster, folder: Any) -> None:
    before = pids(running)
    assert capacity(running)["streams"] == 5 and all(before.values())
    changed: dict[str, Any] = {
        "mux": {"lead_s": 1.5},
        "lipsync": {"batch": {"max_frames": 24, "wait_s": 0.01}},
        "limits": {"max_utterance_s": 600, "max_live_utterances": 1},
    }
    running.deploy(document(folder, capacity={"lipsync_streams": 7}, server={"log_format": "text", "log_level": "DEBUG"}, **changed))
    until(lambda: capacity(running).get("streams") == 7, 30)
    running.settled()
    with ThreadPoolExecutor(2) as pool:
        seen = list(pool.map(lambda n: watch(running.url, {"text": TEXT.format(n), "voice": "espeak-f"}), (1, 2)))
    assert sorted(v.status for v in seen) == [200, 503], "limits.max_live_utterances of the only ingress"
    running.deploy(document(folder))
    until(lambda: capacity(running).get("streams") == 5, 30)
    running.settled()
    assert pids(running) == before


def test_wrong_settings_leave_the_old(running: Cluster, folder: Any) -> None:
    before = pids(running)
    for wrong, words in WRONG:
        made = document(folder)
        of(made, "LipSync")["user_config"] = wrong
        running.deploy(made)
        until(partial(said, running, words), 30)
        running.settled()
    assert pids(running) == before and capacity(running)["streams"] == 5
    assert watch(running.url, {"text": "It goes on.", "voice": "espeak-f"}).status == 200
    running.deploy(document(folder))
    running.settled()
    assert pids(running) == before


async def test_sessions_and_films_wait_for_their_turn(running: Cluster, folder: Any) -> None:
    one = document(folder, capacity={"lipsync_streams": 1})
    of(one, "LipSync")["autoscaling_config"] |= {"max_replicas": 1}
    of(one, "Mux")["autoscaling_config"] |= {"max_replicas": 1}
    of(one, "Mux")["user_config"]["deployments"]["lipsync"]["max_replicas"] = 1
    running.deploy(one)
    await soon(lambda: capacity(running).get("streams") == 1, 30)
    text: dict[str, object] = {"text": TEXT.format(0), "voice": "espeak-f"}
    watching = asyncio.create_task(asyncio.to_thread(watch, running.url, text))
    await soon(lambda: capacity(running)["live"] == 1, 10)
    refused = await asyncio.to_thread(watch, running.url, text)
    assert (refused.status, refused.headers["retry-after"]) == (503, "2")
    async with httpx.AsyncClient(base_url=running.url, timeout=90) as client:
        film = asyncio.create_task(client.post("/v1/videos", json={"text": "A film.", "voice": "espeak-f", "stream": False}))
        async with Live(running.url, avatar="woman", voice="espeak-f") as live:
            await live.send(type="speak", id="a", text="I wait for my turn.", phase=16)
            delayed = await live.answer("delayed", "a", seconds=30)
            assert delayed["retry_after_s"] == 2 and not film.done() and not watching.done()
            assert not live.of("error") and not live.of("started")
            await live.answer("finished", "a", seconds=90)
            assert not live.of("error")
        answer = await film
        assert answer.status_code == 200 and answer.headers["content-type"] == "video/mp4"
    assert (await watching).status == 200
    running.deploy(document(folder))
    await soon(lambda: capacity(running)["streams"] == 5, 30)


@pytest.mark.slow
def test_a_burst_is_admitted_as_it_can_be_drawn(running: Cluster) -> None:
    """Twelve viewers within four seconds, at one replica that draws five streams."""
    until(lambda: len(running.replicas("LipSync")) == 1, 60)
    assert capacity(running)["streams"] == 5
    began = time.monotonic()
    with ThreadPoolExecutor(12) as pool:
        watching = [pool.submit(persistent, running.url, n, n / 3) for n in range(12)]
        most = 0
        while not all(w.done() for w in watching):
            most = max(most, len(running.replicas("LipSync")))
            time.sleep(0.5)
        seen = [w.result() for w in watching]
    print([(round(v.worst_lateness_s, 2), waits, round(v.total_s, 1)) for v, waits in seen], most, time.monotonic() - began)
    assert all(viewing.status == 200 for viewing, _ in seen)
    refused = [waits for _, waits in seen if waits]
    assert refused, "somebody was turned away"
    assert most >= 2
    assert max(v.worst_lateness_s for v, _ in seen) < LATE_S
    until(lambda: len(running.replicas("LipSync")) == 1, 60)
