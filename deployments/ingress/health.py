"""`/health`: what runs, and why; 503 until an avatar can speak.

Whoever has no key learns whether it answers and is at work, which is what probes want.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import museserve
from configs.models import AppConfig
from deployments.ingress.access import caller_of
from deployments.ingress.avatars import Avatars
from deployments.ingress.graph_client import GraphClient
from deployments.ingress.sessions.registry import Sessions
from deployments.ingress.speech import voices_of
from museserve.errors import MuseserveError
from museserve.messages import ServiceInfo
from musetalk.weights.report import weights_report

ASK_S = 1.0  # while Mux is too busy to answer, what it said before is true enough
AGAIN_S = 2  # while it starts


class Health:
    def __init__(self, config: AppConfig, graph: GraphClient, avatars: Avatars, sessions: Sessions) -> None:
        self._config, self._graph, self._avatars, self._sessions = config, graph, avatars, sessions
        self._weights = weights_report(config)
        self._voices = [voice.id for voice in voices_of(config)]
        self._started = False

    async def read(self, request: Request) -> Response:
        if not self._started and (waits_for := await self._waits_for()):
            told = {"status": "starting", "error": {"code": "starting", "message": f"the service is starting: it waits for {waits_for}"}}
            return JSONResponse(told, 503, {"Retry-After": str(AGAIN_S)})
        self._started = True
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
                "transcription": self._config.transcription.model if self._config.transcription.chosen else None,
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

    async def _waits_for(self) -> str:
        """What is not there yet of what an avatar needs to speak; empty once one can."""
        try:
            info = await asyncio.wait_for(self._graph.ask_info(), ASK_S)
        except (asyncio.TimeoutError, MuseserveError):
            return "the voices and the lips"
        return "" if await self._avatars.any_ready(info.lipsync) else "an avatar that is prepared"

    def _metrics(self, info: ServiceInfo) -> dict[str, Any]:
        """Of all tenants together."""
        return {"capacity": info.capacity, "live_utterances": self._graph.live, "live_sessions": self._sessions.live}
