"""The service of one machine: beside another one, and when it loses parts of itself."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from museserve.app import haproxy
from museserve.app.ray_flags import free_port

pytestmark = pytest.mark.serve


class Started:
    """`museserve serve` as a process of its own, whose default avatar tells it from others."""

    def __init__(self, folder: Path, avatar: str, port: int) -> None:
        folder.mkdir(exist_ok=True)
        config, self._log = folder / f"{avatar}.yaml", folder / f"{time.time_ns()}.log"
        config.write_text(f"avatars: {{default: {avatar}}}\nserver: {{dashboard_port: 0}}\n")
        self.port = port
        command = [sys.executable, "-m", "museserve.app.cli", "serve", "--config", str(config), "--port", str(port)]
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out)
        assert until(lambda: "ready" in self.said() or self.process.poll() is not None, 180), self.said()
        assert self.process.poll() is None, self.said()
        self.children = psutil.Process(self.process.pid).children(recursive=True)

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def child(self, name: str) -> psutil.Process:
        return next(child for child in self.children if any(name in word for word in child.cmdline()[:1]))

    def ingress(self) -> int | None:
        """The process of the replica that runs now."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error):
                if any("museserve:Ingress" in word for word in process.cmdline()[:1]) and process.status() != psutil.STATUS_ZOMBIE:
                    return process.pid
        return None

    def who_answers(self) -> str | None:
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=2)
        except httpx.HTTPError:
            return None
        return str(answer.json()["default_avatar"]) if answer.status_code == 200 else None

    def left(self) -> list[str]:
        """The programs of it that still run."""
        alive = [child for child in self.children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
        return [child.name() for child in alive]


@contextmanager
def started(folder: Path, avatar: str = "interviewer_woman", port: int | None = None) -> Iterator[Started]:
    service = Started(folder, avatar, port or free_port())
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.process.send_signal(signal.SIGINT)
        service.process.wait(60)


def until(holds: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.1)
    return holds()


@pytest.mark.slow
def test_no_service_answers_for_another_and_one_without_its_node_ends(tmp_path: Path) -> None:
    with started(tmp_path) as one, started(tmp_path, "interviewer_man") as other:
        killed = one.child("museserve:Ingress")
        killed.kill()
        seen: set[str | None] = set()
        deadline = time.monotonic() + 60
        while one.ingress() in (None, killed.pid) and time.monotonic() < deadline:
            seen.add(one.who_answers())
            time.sleep(0.02)
        assert until(lambda: one.who_answers() is not None, 60)
        assert seen <= {None, "interviewer_woman"} and one.who_answers() == "interviewer_woman"
        other.child("raylet").kill()
        assert other.process.wait(20) == 1
        assert "has lost raylet of Ray" in other.said()
        assert until(lambda: not other.left()), other.left()
        assert one.who_answers() == "interviewer_woman"


def test_a_killed_service_holds_no_port_and_one_without_its_store_ends(tmp_path: Path) -> None:
    with started(tmp_path) as killed:
        killed.process.kill()
        assert until(lambda: "haproxy" not in killed.left()), killed.left()
    with started(tmp_path, port=killed.port) as service:
        assert "clearing what a service that was killed left" in service.said() and not killed.left()
        service.child("gcs_server").kill()
        assert service.process.wait(20) == 1
        assert "has lost gcs_server of Ray" in service.said()
        assert until(lambda: not service.left()), service.left()


def test_haproxy_listens_and_obeys_here_alone(tmp_path: Path) -> None:
    from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE

    settings = haproxy.Settings(10, 30, 100, ())
    changed = haproxy.changed(HAPROXY_CONFIG_TEMPLATE, settings, tmp_path)
    assert "bind *:" not in changed and "bind :" not in changed and "mode 666" not in changed
    assert haproxy.changed(changed, settings, tmp_path) == changed
    with pytest.raises(ValueError, match="writes it in another way"):
        haproxy.changed("global\n", settings, tmp_path)
