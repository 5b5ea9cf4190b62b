"""Two replicas of everything that carries an utterance: one of them dies or falls silent under live streams, and they go on.

The times allowed are generous; what is measured is in the documentation.
"""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from museserve.media.fragments import STREAM_END
from tests import decoded
from tests.conftest import Service, start, stop
from tests.live import Live
from tests.metrics import scrape

pytestmark = pytest.mark.serve

TWO = {"min_replicas": 2, "max_replicas": 2, "num_cpus": 0.2}
CONFIG: dict[str, Any] = {
    "server": {"port": 0, "dashboard_port": 0},
    "mux": {"segment_timeout_s": 40.0},  # what a silent replica costs where nobody notices that it is
    "capacity": {"lipsync_streams": 20},
    "speech": {"engine": "offline"},
    "deployments": {"mux": TWO, "tts": TWO, "lipsync": TWO},
}
LONG = "I would like you to walk me through a system that you designed, from the first sketch to production. " * 2


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    process, started = start(tmp_path_factory.mktemp("pairs"), CONFIG)
    yield started
    stop(process)


@pytest.fixture(autouse=True)
def whole(pairs: Service) -> Iterator[None]:
    """Every test begins with two of each that answer."""
    yield
    deadline = time.monotonic() + 60
    while any(len(pairs.replicas(name)) < 2 for name in ("Mux", "TTS", "LipSync")) and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(2)  # Serve has told everybody


class Viewer:
    """A streamed video, read to its end however it ends."""

    def __init__(self, url: str, text: str) -> None:
        self.begun, self.data, self.cut = threading.Event(), b"", False
        self.arrivals: list[tuple[float, int]] = []  # when, and how much there was then
        self._url, self._text = url, text
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        try:
            with httpx.Client(timeout=90) as client, client.stream("POST", f"{self._url}/v1/videos", json={"text": self._text}) as answer:
                for piece in answer.iter_raw():
                    self.data += piece
                    self.arrivals.append((time.monotonic(), len(self.data)))
                    self.begun.set()
        except httpx.TransportError:
            self.cut = True

    def wait(self) -> Viewer:
        self._thread.join()
        return self

    @property
    def late_s(self) -> float:
        """By how much the latest fragment came after somebody needed it who began with the first; negative = never late."""
        late, at, first_frame = -1.0, 0, 0
        while at + 8 <= len(self.data):
            size, kind = struct.unpack_from(">I4s", self.data, at)
            if kind == b"moof":
                (ticks,) = struct.unpack_from(">Q", self.data, self.data.index(b"tfdt", at) + 8)
                first_frame = ticks // 512
            at += size
            if kind == b"mdat" and first_frame:
                came = next(when for when, there in self.arrivals if there >= at)
                late = max(late, came - self.arrivals[0][0] - first_frame / 25)
        return late

    def assert_whole(self) -> None:
        assert not self.cut and self.data.endswith(STREAM_END) and self.data.count(b"moov") == 1
        seen = decoded.numbers(decoded.frames(self.data))
        assert seen == list(range(len(seen))) and len(seen) > 200
        sound = decoded.sound(self.data)
        assert len(sound) == pytest.approx(len(seen) * 1_920, abs=2_048) and np.abs(sound).max() > 0.05


def busiest(service: Service, deployment: str) -> psutil.Process:
    """Of the replicas, the one that does most just now."""
    replicas = service.replicas(deployment)
    before = [sum(replica.cpu_times()[:2]) for replica in replicas]
    time.sleep(0.5)
    return max(zip(replicas, before, strict=True), key=lambda pair: sum(pair[0].cpu_times()[:2]) - pair[1])[0]


def viewers(pairs: Service, n: int, name: str) -> list[Viewer]:
    made = [Viewer(pairs.url, f"{name}, number {i}. {LONG}") for i in range(n)]
    for viewer in made:
        assert viewer.begun.wait(60)
    return made


@pytest.mark.parametrize("deployment", ["Mux", "TTS", pytest.param("LipSync", marks=pytest.mark.slow)])
def test_a_killed_replica_costs_no_frame(pairs: Service, deployment: str) -> None:
    watching = viewers(pairs, 4, f"Killed {deployment}")
    time.sleep(1.5)
    pairs.replicas(deployment)[0].kill()
    for viewer in watching:
        viewer.wait().assert_whole()


async def test_sound_that_a_client_sends_outlives_its_mux(pairs: Service) -> None:
    async with httpx.AsyncClient(timeout=60) as client:
        pcm = (await client.post(f"{pairs.url}/v1/audio/speech", json={"input": LONG, "response_format": "pcm"})).content
    async with Live(pairs.url) as live:
        await live.answer("ready")
        await live.send(type="speak", id="a", pcm=24_000)
        await live.socket.send(pcm[: len(pcm) // 2])
        await live.answer("part", "a")
        busiest(pairs, "Mux").kill()
        await live.socket.send(pcm[len(pcm) // 2 :])
        await live.send(type="audio_end", id="a")
        done = await live.answer("finished", "a", seconds=60)
        assert done["sound_ms"] == round(len(pcm) / 48) and not live.of("error")
        frame = 0
        for came in live.fragments(1):
            assert came.header is not None and came.header.first_frame == frame
            frame += came.header.n_frames
        assert frame == done["frames"]


def test_captions_and_finished_films_outlive_their_mux(pairs: Service) -> None:
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(httpx.post, f"{pairs.url}/v1/videos", json={"text": f"{i}. {LONG}", "stream": False}, timeout=90) for i in range(4)]
        time.sleep(0.4)
        pairs.replicas("Mux")[0].kill()
        for answer in (future.result() for future in asked):
            assert answer.status_code == 200
            assert len(decoded.frames(answer.content)) > 200
            captions = httpx.get(f"{pairs.url}/v1/videos/{answer.headers['x-utterance-id']}/captions.vtt", timeout=10).text
            assert captions.count("production.") == 2 and captions.count("sketch") == 2


async def test_a_session_goes_on_speaking(pairs: Service) -> None:
    """Frames in order, each once, under one `started`."""
    async with Live(pairs.url, avatar="interviewer_woman") as live:
        await live.until(lambda: live.of("ready"))
        await live.send(type="speak", id="a", text=f"In a session. {LONG}")
        await live.until(lambda: live.fragments())
        (await asyncio.to_thread(busiest, pairs, "Mux")).kill()
        await live.until(lambda: live.of("finished") or live.of("interrupted"), 90)
        spans = [(came.header.first_frame, came.header.n_frames) for came in live.fragments() if came.header is not None]
        frames = [frame for first, n in spans for frame in range(first, first + n)]
        assert frames == list(range(len(frames))) and len(frames) > 200
        assert [m["frames"] for m in live.of("finished")] == [len(frames)] and len(live.of("started")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("deployment", ["LipSync", "TTS", "Mux"])
def test_a_replica_that_falls_silent_holds_nobody_up(pairs: Service, deployment: str) -> None:
    """Stopped, as a node without its network: no connection is closed, and nothing answers."""
    watching = viewers(pairs, 4, f"Silent {deployment}")
    time.sleep(1.0)
    victim: psutil.Process = pairs.replicas(deployment)[0]
    os.kill(victim.pid, signal.SIGSTOP)
    try:
        later = viewers(pairs, 2, f"After silence of {deployment}")
        for viewer in watching + later:
            viewer.wait().assert_whole()
            assert viewer.late_s < 20, "mux.segment_timeout_s, or the minute that Ray takes, without"
    finally:
        os.kill(victim.pid, signal.SIGCONT)
    counted = {"LipSync": "ray_museserve_hedged_calls_total", "Mux": "ray_museserve_takeovers_total"}.get(deployment)
    deadline = time.monotonic() + 40
    while counted and counted not in scrape(pairs):
        assert time.monotonic() < deadline, f"{counted} was never counted"
        time.sleep(1)


def test_a_cut_stream_does_not_end_as_a_finished_one(pairs: Service) -> None:
    (viewer,) = viewers(pairs, 1, "Cut")
    pairs.replicas("Ingress")[0].kill()
    viewer.wait()
    assert viewer.cut and viewer.data and not viewer.data.endswith(STREAM_END)
