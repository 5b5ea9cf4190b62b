"""`/health` while the service starts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.testclient import TestClient

from configs.models import AppConfig
from deployments.ingress import health as module
from deployments.ingress.access import Gate, KnowCaller
from deployments.ingress.avatars import Avatars
from deployments.ingress.health import Health
from museserve.errors import EngineError
from museserve.messages import EngineInfo, ServiceInfo, SpeechInfo
from musetalk.avatars.stores import shipped_store


class Graph:
    """Tells what runs as `GraphClient` does. state: "absent" = nobody answers, "failing" = with an error, else it runs."""

    live = 0
    state = "absent"

    async def ask_info(self) -> ServiceInfo:
        if self.state == "absent":
            await asyncio.sleep(60)
        if self.state == "failing":
            raise EngineError("no replica is there")
        return ServiceInfo(EngineInfo("animator", "it is there", "1", "cpu", 0.0, 0.0), SpeechInfo("offline", "no key is set", "1"))

    async def info_within(self, seconds: float) -> ServiceInfo:
        return await self.ask_info()


def test_it_says_starting_until_an_avatar_can_speak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASK_S", 0.05)
    config = AppConfig.model_validate({"avatars": {"uri": str(tmp_path)}})
    graph: Any = Graph()
    sessions: Any = SimpleNamespace(live=0)
    health = Health(config, graph, Avatars(config, graph), sessions)
    middleware = [Middleware(KnowCaller, gate=Gate(config.access))]
    with TestClient(Starlette(routes=[Route("/health", health.read)], middleware=middleware)) as client:

        def waits_for(what: str) -> None:
            answer = client.get("/health")
            assert answer.status_code == 503 and answer.headers["retry-after"] == "2"
            assert answer.json()["status"] == "starting" and answer.json()["error"]["code"] == "starting"
            assert what in answer.json()["error"]["message"]

        waits_for("the voices and the lips")
        graph.state = "failing"
        waits_for("the voices and the lips")
        graph.state = "running"
        waits_for("an avatar")
        shipped_store(config, 2**28)
        told = client.get("/health")
        assert told.status_code == 200 and told.json()["status"] == "ok" and told.json()["engine"]["name"] == "animator"
