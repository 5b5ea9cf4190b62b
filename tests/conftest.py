"""The real service, started once a run the way a user starts it, on a private port with a store of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import psutil
import pytest
import yaml

from tests.object_store import KEYS, ObjectStore
from tests.object_store import free_port as free_port

START_TIMEOUT_S = 600

hypothesis.settings.register_profile("busy", deadline=None)  # time is not asserted: the machine may be busy
hypothesis.settings.load_profile("busy")


OTHER_ORIGIN = f"http://127.0.0.1:{free_port()}"  # of a page that is served by somebody else

CONFIG: dict[str, Any] = {
    "server": {"port": 0, "dashboard_port": 0, "cors_origins": [OTHER_ORIGIN]},
    "limits": {"max_body_bytes": 4 * 2**20, "max_live_utterances": 6, "max_audio_s": 60},
    "capacity": {"lipsync_streams": 8},  # not what this machine happens to draw while others use it
    "avatars": {"max_pixels": 24_000_000},
    "mux": {"lead_s": 2.0},
    "sessions": {"max_sessions": 24, "window_bytes": 2**19, "slow_s": 4.0},
    "deployments": {"lipsync": {"min_replicas": 2, "max_replicas": 2, "num_cpus": 0.2}},
}


@dataclass
class Service:
    url: str
    pid: int
    media_root: Path
    home: Path
    log: Path

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """The processes of a deployment's replicas."""
        found = []
        for process in psutil.Process(self.pid).children(recursive=True):
            try:
                if process.cmdline() and process.cmdline()[0].startswith(f"ray::ServeReplica:museserve:{deployment}"):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found

    def health(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(f"{self.url}/health", timeout=30).json()
        return answer


def start(tmp: Path, config: dict[str, Any], module: str = "museserve.app.cli") -> tuple[subprocess.Popen[bytes], Service]:
    """`museserve serve` in a process of its own. `module`: what is run in place of the command line.

    Raises AssertionError with its log when it does not get ready.
    """
    media_root, home, log = tmp / "media", tmp / "home", tmp / "serve.log"
    for folder in (media_root, home):
        folder.mkdir(exist_ok=True)
    config = {
        **config,
        "limits": {**config.get("limits", {}), "media_root": str(media_root)},
        "avatars": {"uri": str(home), **config.get("avatars", {})},
        "cache": {"uri": str(tmp / "utterances"), **config.get("cache", {})},
        "weights": {"uri": str(tmp / "models"), **config.get("weights", {})},
    }
    path = tmp / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    env = {k: v for k, v in os.environ.items() if k != "OPENAI_API_KEY"}
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", module, "serve", "--config", str(path)], stdout=out, stderr=subprocess.STDOUT, env=env)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        ready = re.search(r"(http://127\.0\.0\.1:\d+)", log.read_text(errors="replace"))
        if ready:
            return process, Service(ready.group(1), process.pid, media_root, home, log)
        time.sleep(0.2)
    stop(process)
    raise AssertionError(f"the service did not get ready:\n{log.read_text(errors='replace')[-4000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C, then whatever of its own processes is left."""
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGINT)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in children:
        if child.is_running():
            child.kill()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    process, started = start(tmp_path_factory.mktemp("service"), CONFIG)
    yield started
    stop(process)


@dataclass
class Replicated:
    """A service with two ingress replicas. redeploy: a file; once it is made, they are replaced (tests/redeployed_service.py)."""

    service: Service
    redeploy: Path

    def whole(self) -> bool:
        return len(self.service.replicas("Ingress")) == 2

    def holder(self) -> tuple[psutil.Process, str]:
        """The replica that has the one session there is, and its own address."""
        for replica in self.service.replicas("Ingress"):
            for port in {each.laddr.port for each in replica.net_connections("tcp") if each.status == psutil.CONN_LISTEN}:
                try:
                    answer = httpx.get(f"http://127.0.0.1:{port}/health", timeout=5)
                except httpx.HTTPError:
                    continue  # not the port of HTTP
                if answer.status_code == 200 and answer.json()["live_sessions"]:
                    return replica, f"http://127.0.0.1:{port}"
        raise AssertionError("no replica has a session")


@contextmanager
def two_ingress_replicas(tmp: Path) -> Iterator[Replicated]:
    file = tmp / "redeploy"
    ingress = {"min_replicas": 2, "max_replicas": 2, "num_cpus": 0.1, "max_ongoing_requests": 100, "max_surge_percent": 100}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUSESERVE_TEST_REDEPLOY", str(file))
        config = {**CONFIG, "deployments": {"ingress": ingress, "lipsync": {"num_cpus": 0.2}}}
        process, started = start(tmp, config, "tests.redeployed_service")
    try:
        yield Replicated(started, file)
    finally:
        stop(process)


@pytest.fixture(scope="session")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    with two_ingress_replicas(tmp_path_factory.mktemp("replicated")) as started:
        yield started


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as made:
        yield made


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    server = ObjectStore.moto(tmp_path_factory.mktemp("moto"))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    server = ObjectStore.seaweed(tmp_path_factory.mktemp("seaweed"))
    yield server
    server.kill()


@pytest.fixture
def s3_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["moto", pytest.param("seaweed", marks=pytest.mark.slow)])
def s3(request: pytest.FixtureRequest, s3_keys: None) -> ObjectStore:
    """A real S3 server, shared by all tests: each makes a bucket of its own. Its keys are in the environment."""
    server: ObjectStore = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def bucket(s3: ObjectStore) -> str:
    """A new, empty one."""
    return s3.new_bucket()
