"""A Ray cluster of one node as `ray start` makes it, to which a Serve document is deployed as an operator would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from configs.models import ServerConfig
from museserve.app.ray_flags import free_port, node_flags, one_machine_flags

ROOT = Path(__file__).resolve().parent.parent
APPS = "/api/serve/applications/"


@dataclass
class Cluster:
    """dashboard: its address; url: that of the service, once it is deployed."""

    pid: int
    dashboard: str
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def deploy(self, document: dict[str, Any]) -> None:
        document = {**document, "http_options": {"host": "127.0.0.1", "port": self.port}}
        httpx.put(self.dashboard + APPS, json=document, timeout=60).raise_for_status()

    def application(self) -> dict[str, Any]:
        answer = httpx.get(self.dashboard + APPS, timeout=30).raise_for_status().json()
        return dict(answer["applications"].get("museserve", {}))

    def replicas(self, deployment: str) -> list[int]:
        """Process ids of those that run."""
        known = self.application().get("deployments", {}).get(deployment, {})
        return sorted(r["pid"] for r in known.get("replicas", []) if r["state"] == "RUNNING")

    def settled(self, seconds: float = 300) -> None:
        """Wait until it runs as deployed and answers."""

        def runs() -> bool:
            app = self.application()
            assert app.get("status") != "DEPLOY_FAILED", app
            return app.get("status") == "RUNNING" and all(d["status"] == "HEALTHY" for d in app["deployments"].values())

        until(runs, seconds)
        until(self._answers, 60)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=30).status_code == 200
        except httpx.HTTPError:
            return False


def until(found: Callable[[], Any], seconds: float, every_s: float = 0.25) -> Any:
    """What `found` returns, as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, f"not so after {seconds:g} s"
        time.sleep(every_s)
    return result


@contextmanager
def cluster(*, num_cpus: int, env: dict[str, str], server: ServerConfig | None = None) -> Iterator[Cluster]:
    """A head that runs replicas too. num_cpus: as many as it says that it has. server: as the configuration has it."""
    temp = Path(tempfile.mkdtemp(prefix="muse-", dir="/tmp"))  # short: sockets below it have at most 107 characters
    server = server or ServerConfig()
    flags = node_flags(server) | one_machine_flags(server, temp)
    dashboard, log = free_port(), temp / "ray.log"
    command = [
        *(str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--disable-usage-stats"),
        *("--port", str(free_port()), "--dashboard-port", str(dashboard), "--num-cpus", str(num_cpus), "--num-gpus", "0"),
        *("--temp-dir", str(temp / "ray"), "--object-store-memory", str(200 * 2**20)),
    ]
    given = {k: v for k, v in os.environ.items() if k != "OPENAI_API_KEY"}
    path = os.pathsep.join([str(ROOT), *filter(None, [given.get("PYTHONPATH")])])
    given |= flags | {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": path, "RAY_raylet_start_wait_time_s": "120"} | env
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=given, cwd=temp)
    started: list[psutil.Process] = []
    try:
        made = Cluster(process.pid, f"http://127.0.0.1:{dashboard}", free_port(), log)

        def up() -> bool:
            assert process.poll() is None, log.read_text(errors="replace")[-3_000:]
            try:
                return httpx.get(made.dashboard + APPS, timeout=10).status_code == 200
            except httpx.HTTPError:
                return False

        until(up, 180)
        yield made
    finally:
        if process.poll() is None:
            started = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        _, left = psutil.wait_procs(started, timeout=15)
        ours = [p for p in psutil.process_iter(["cmdline"]) if any(str(temp) in word for word in p.info["cmdline"] or ())]
        for straggler in {*left, *ours}:
            try:
                straggler.kill()
            except psutil.NoSuchProcess:
                pass
        process.wait()
        shutil.rmtree(temp, ignore_errors=True)
