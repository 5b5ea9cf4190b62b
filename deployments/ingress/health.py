"""`/health`: what runs, and why. Whoever has no key learns whether it answers and is at work, which is what probes want."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import museserve
from configs.models import AppConfig
from deployments.ingress.access import caller_of
from deployments.ingress.graph_client import GraphClient
from deployments.ingress.sessions.registry import Sessions
from deployments.ingress.speech import voices_of
from museserve.messages import ServiceInfo
from musetalk.weights.report import weights_report

ASK_S = 1.0  # while Mux is too busy to answer, what it said before is true enough


class Health:
    def __init__(self, config: AppConfig, graph: GraphClient, sessions: Sessions) -> None:
        self._config, self._graph, self._sessions = config, graph, sessions
        self._weights = weights_report(config)
        self._voices = [voice.id for voice in voices_of(config)]

    async def read(self, request: Request) -> Response:
        info, caller = await self._graph.info_within(ASK_S), caller_of(request)
        busy = self._graph.live > 0
        if not caller.scopes:
            return JSONResponse({"status": "ok", "busy": busy})
        engine, speech = info.lipsync, info.speech
        facts = {"name": engine.name, "reason": engine.reason, "version": engine.version, "device": engine.device}
        return JSONResponse(
            {
                "status": "ok",
                "busy": busy,
                "engine": {**facts, **engine.details},
                "speech": {name: value for name, value in vars(speech).items() if value is not None},
                "weights": self._weights,
                "default_avatar": self._config.avatars.default,
                "voices": self._voices,
                **(self._metrics(info) if caller.may(("metrics",)) else {}),
                "versions": {
                    "museserve": museserve.__version__,
                    **{name: version(name) for name in ("ray", "av", "mediapipe", "opencv-python")},
                },
            }
        )

    def _metrics(self, info: ServiceInfo) -> dict[str, Any]:
        """Of all tenants together."""
        return {"capacity": info.capacity, "live_utterances": self._graph.live, "live_sessions": self._sessions.live}
