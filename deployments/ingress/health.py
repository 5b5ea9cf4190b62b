"""`/health`: what runs, and why."""

from __future__ import annotations

from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import museserve
from configs.models import AppConfig
from deployments.ingress.graph_client import GraphClient
from deployments.ingress.sessions.registry import Sessions
from museserve.speech.engines import voices
from musetalk.weights.report import weights_report

ASK_S = 1.0  # while Mux is too busy to answer, what it said before is true enough


class Health:
    def __init__(self, config: AppConfig, graph: GraphClient, sessions: Sessions) -> None:
        self._config, self._graph, self._sessions = config, graph, sessions
        self._weights = weights_report(config)

    async def read(self, request: Request) -> Response:
        info = await self._graph.info_within(ASK_S)
        engine, speech = info.lipsync, info.speech
        facts = {"name": engine.name, "reason": engine.reason, "version": engine.version, "device": engine.device}
        return JSONResponse(
            {
                "status": "ok",
                "engine": {**facts, **engine.details},
                "speech": {name: value for name, value in vars(speech).items() if value is not None},
                "weights": self._weights,
                "default_avatar": self._config.avatars.default,
                "voices": [voice.id for voice in voices.list_voices()],
                "capacity": info.capacity,
                "live_utterances": self._graph.live,
                "live_sessions": self._sessions.live,
                "versions": {
                    "museserve": museserve.__version__,
                    **{name: version(name) for name in ("ray", "av", "mediapipe", "opencv-python")},
                },
            }
        )
