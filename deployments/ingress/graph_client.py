"""The graph as the ingress calls it: everything that goes there, and how many videos are live."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from opentelemetry import trace
from ray.serve.handle import DeploymentHandle

from deployments import logs, tracing
from deployments.remote import answered, pulled
from museserve.errors import BusyError
from museserve.messages import FilmHead, Fragment, PreparationProgress, ServiceInfo, SpeechRequest, VideoRequest
from musetalk.avatars.format import AvatarMeta

logger = logging.getLogger("ray.serve")


class GraphClient:
    """Every call raises our own errors as they were raised on the other side; closing a generator cancels its call.

    max_live: videos made at once, from which on more are refused.
    """

    def __init__(self, mux: DeploymentHandle[Any], face_prep: DeploymentHandle[Any], max_live: int) -> None:
        self._mux, self._mux_stream = mux, mux.options(stream=True)
        self._face_prep = face_prep.options(stream=True)
        self._max_live = max_live
        self._info: ServiceInfo | None = None
        self.live = 0

    async def ask_info(self) -> ServiceInfo:
        """What runs in the graph, asked for anew."""
        info: ServiceInfo = await answered(self._mux.info.remote())
        self._info = info
        return info

    async def info(self) -> ServiceInfo:
        """The same, as it was known last."""
        return self._info or await self.ask_info()

    def stream(self, request: VideoRequest) -> AsyncGenerator[Fragment, None]:
        """Raises BusyError, and as `Mux.stream`."""
        return self._counted(self._mux_stream.stream, request)

    def film(self, request: VideoRequest) -> AsyncGenerator[FilmHead | bytes, None]:
        """Raises BusyError, and as `Mux.film`."""
        return self._counted(self._mux_stream.film, request)

    def speak(self, request: SpeechRequest, audio_format: str) -> AsyncGenerator[bytes, None]:
        return pulled(self._mux_stream.speak.remote(request, audio_format))

    def prepare(
        self, data: bytes, avatar_id: str, name: str, gender: str, clip: bool = False
    ) -> AsyncGenerator[PreparationProgress | AvatarMeta, None]:
        """The steps of an avatar's preparation and, at last, what is known of it. Raises as `FacePrep.prepare`."""
        return pulled(self._face_prep.prepare.remote(data, avatar_id, name or avatar_id, gender, clip))

    async def _counted(self, method: Any, request: VideoRequest) -> AsyncGenerator[Any, None]:
        if self.live >= self._max_live:
            most = f"{self.live} videos are being made, the most this service takes at once"
            raise BusyError(f"{most}; try again in a moment")
        self.live += 1
        logs.carry(request.ids)
        began, first_ms, ended = time.perf_counter(), -1.0, "broken off"
        try:
            with tracing.span(tracing.UTTERANCE, root=bool(request.session)) as span:
                with trace.use_span(span, record_exception=False):  # in a session nothing else begins a trace
                    answer = method.remote(request)
                async with aclosing(pulled(answer)) as items:
                    async for item in items:
                        if first_ms < 0:
                            first_ms = (time.perf_counter() - began) * 1e3
                            span.add_event("first answer")
                        yield item
            ended = "whole"
        finally:
            self.live -= 1
            logger.info("video: first answer after %.0f ms, %s after %.2f s", first_ms, ended, time.perf_counter() - began)
