"""The graph with the neural engine on tiny generated weights, on the CPU: what it serves, and what happens when replicas, memory or cards fail."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks.generated_avatars import write_avatars  # noqa: E402
from benchmarks.generated_models import write_models  # noqa: E402
from configs.models import cache_dir, parse_config  # noqa: E402
from museserve.timebase import FPS  # noqa: E402
from musetalk.avatars.store import AvatarStore  # noqa: E402
from tests import decoded  # noqa: E402
from tests.conftest import Service, start, stop  # noqa: E402
from tests.faulty_service import FAULTS  # noqa: E402
from tests.musetalk.faces.parser_weights import save_parser  # noqa: E402
from tests.sounds import encoded  # noqa: E402

pytestmark = [pytest.mark.serve, pytest.mark.slow]  # a cluster of its own, with PyTorch in each replica

LONG = "I would like you to walk me through a system that you designed, from the first sketch to production. "
SHORT = "How do you test what you build?"
CONFIG: dict[str, Any] = {
    "server": {"port": 0, "dashboard_port": 0},
    "cache": {"enabled": False},  # every film is to be drawn
    "mux": {"lead_s": 2.0, "segments_a_call": 1},
    "lipsync": {
        "engine": "musetalk",
        "musetalk": {"device": "cpu", "threads": 1, "batch_sizes": [2, 8, 16]},
        "batch": {"max_frames": 16, "wait_s": 0.05},
    },
    "deployments": {"lipsync": {"min_replicas": 2, "max_replicas": 2, "num_cpus": 0.2}},
}


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, faults: Path) -> Iterator[Service]:
    tmp = tmp_path_factory.mktemp("musetalk")
    weights = {"uri": str(tmp / "models"), "unpublished": True}
    write_models(tmp / "models")
    save_parser(tmp / "models/face-parse-bisent/79999_iter.pth")
    write_avatars(parse_config({"weights": weights, "avatars": {"uri": str(tmp / "home")}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FAULTS, str(faults))
        process, started = start(tmp, {**CONFIG, "weights": weights}, "tests.faulty_service")
    yield started
    stop(process)


def film(service: Service, text: str = LONG, **more: Any) -> httpx.Response:
    return httpx.post(f"{service.url}/v1/videos", json={"text": text, "stream": False, **more}, timeout=240)


def numbers(data: bytes) -> list[int]:
    return decoded.numbers(decoded.frames(data))


def test_speech_is_drawn_and_silence_is_the_background(service: Service) -> None:
    random = np.random.default_rng(0)
    t = np.arange(2 * 24_000) / 24_000
    voice = 0.2 * np.sin(2 * np.pi * 140 * t) * (1 + np.sin(2 * np.pi * 4 * t)) + random.normal(0, 0.02, len(t))
    sound = encoded(np.where((t > 0.3) & (t < 1.1), voice, 0.0).astype(np.float32), "wav")
    with httpx.stream("POST", f"{service.url}/v1/videos", files={"audio": ("a.wav", sound)}, timeout=240) as answer:
        pieces = list(answer.iter_raw())
    assert answer.status_code == 200 and answer.headers["x-engine"] == "musetalk; configured"
    frames = decoded.frames(b"".join(pieces))
    assert len(frames) % 8 == 0 and len(frames) >= 50
    avatar = AvatarStore(str(service.home)).load("interviewer_woman")
    box, loop = avatar.box("musetalk"), avatar.frames
    changes = []
    for i, frame in enumerate(frames):
        luma = frame.to_ndarray(format="yuv420p")[: avatar.meta.size].astype(int)
        change = np.abs(luma - loop[i % len(loop)][: avatar.meta.size])[box.y : box.y + box.h, box.x : box.x + box.w]
        changes.append(change.mean())
    spoken, silent = changes[12:24], changes[40:]
    assert min(spoken) > 3 * max(silent) and max(silent) < 4


def test_what_runs_and_why_is_told(service: Service) -> None:
    engine = service.health()["engine"]
    assert (engine["name"], engine["reason"], engine["device"]) == ("musetalk", "configured", "cpu")
    assert engine["weights"] == "MuseTalk 1.5" and "exact" in engine["decoder"] and engine["batch_sizes"] == [2, 8, 16]
    logs = cache_dir() / "logs" / service.url.rsplit(":", 1)[1]
    told = [line for path in logs.glob("*LipSync*") for line in path.read_text().splitlines() if "lip-sync ready" in line]
    assert len(told) >= 2 and all("musetalk" in line and "configured" in line for line in told)


def test_utterances_are_drawn_together(service: Service, faults: Path) -> None:
    (faults / "batches").unlink(missing_ok=True)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda avatar: film(service, avatar=avatar), ["interviewer_woman", "interviewer_man"] * 2))
    for answer in answers:
        seen = numbers(answer.content)
        assert seen == list(range(len(seen))) and len(seen) > 4 * FPS
    batches = [tuple(map(int, line.split())) for line in (faults / "batches").read_text().splitlines()]
    assert any(utterances > 1 for utterances, _ in batches)
    assert max(frames for _, frames in batches) <= 16


def test_a_killed_replica_is_a_hiccup(service: Service) -> None:
    victims = service.replicas("LipSync")
    data, killed = b"", False
    with httpx.stream("POST", f"{service.url}/v1/videos", json={"text": LONG}, timeout=240) as answer:
        for piece in answer.iter_raw():
            data += piece
            if not killed:
                victims[0].kill()
                killed = True
    seen = numbers(data)
    assert seen == list(range(len(seen))) and len(seen) > 4 * FPS


def test_memory_for_small_batches_is_enough(service: Service, faults: Path) -> None:
    (faults / "memory").write_text("2")
    try:
        answer = film(service, SHORT)
    finally:
        (faults / "memory").unlink()
    seen = numbers(answer.content)
    assert seen == list(range(len(seen))) and len(seen) > FPS


def test_memory_for_nothing_is_an_error_and_no_replica_is_stuck(service: Service, faults: Path) -> None:
    (faults / "memory").write_text("0")
    try:
        answer = film(service, SHORT)
    finally:
        (faults / "memory").unlink()
    assert answer.status_code == 500
    assert "memory" in answer.json()["error"]["message"] and "lipsync.musetalk.batch_sizes" in answer.json()["error"]["message"]
    assert [film(service, "Again.").status_code for _ in range(4)] == [200] * 4


def test_a_replica_without_its_card_is_replaced_while_others_draw(service: Service, faults: Path) -> None:
    until = time.monotonic() + 60
    while len(service.replicas("LipSync")) < 2 and time.monotonic() < until:  # one was killed above
        time.sleep(0.2)
    lost = service.replicas("LipSync")[0]
    (faults / f"lost-{lost.pid}").touch()
    for _ in range(2):
        seen = numbers(film(service, SHORT).content)
        assert seen == list(range(len(seen))) and len(seen) > FPS
    until = time.monotonic() + 60
    while lost.is_running() and time.monotonic() < until:
        time.sleep(0.2)
    assert not lost.is_running()


def test_asked_for_by_name_without_weights_it_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="musetalk was asked for, but model files are missing.*museserve weights download --for v15") as failed:
        start(tmp_path, CONFIG)
    assert "Traceback" not in str(failed.value)
