"""Text to timed speech, one stream an utterance. The voices live in `museserve.speech`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from configs.models import AppConfig, SpeechConfig, WeightsConfig
from deployments import cores, logs, tracing
from deployments.live import LiveConfig
from deployments.metrics import TTSMetrics
from museserve.errors import MuseserveError
from museserve.messages import CallIds, SpeechChunk, SpeechInfo, SpeechRequest
from museserve.runtime import malloc
from museserve.timebase import SPEECH_RATE

logger = logging.getLogger("ray.serve")

QUIET_S = 0.3  # memory is given back when for so long nobody speaks,
GIVE_BACK_S = 10.0  # and no more often than this
NOBODY = CallIds()


class TTS:
    """A plain class: `graph.py` makes it a deployment."""

    def __init__(self, config: SpeechConfig, weights: WeightsConfig | None = None) -> None:
        logs.join_serve()
        tracing.join_serve()
        cores.keep_to_own()
        malloc.single_arena()
        from museserve.speech.synthesizer import Synthesizer  # brings the voices and onnxruntime, which no other replica shall load

        self._live = 0
        self._gave_back = time.monotonic()
        self._synthesizer = Synthesizer(config, weights)
        self._synthesizer.warm()
        malloc.trim()  # what the voices took while they were read, a hundred megabytes
        self._metrics = TTSMetrics()
        self._live_config = LiveConfig("tts", AppConfig(speech=config))
        logger.info("tts ready: %s", self._synthesizer.info)

    def reconfigure(self, user_config: Any) -> None:
        """What Serve calls with a new `user_config`. Raises ConfigError at the start alone."""
        self._live_config.changed(user_config)

    async def stream(self, request: SpeechRequest, ids: CallIds = NOBODY) -> AsyncGenerator[SpeechChunk, None]:
        """Chunks in order, the first as soon as the first clause is spoken. Raises SpeechEngineError, TextError."""
        logs.carry(ids)
        began, first = time.perf_counter(), True
        engine, took_ms, spoken_s = "none", 0.0, 0.0
        self._live += 1
        try:
            with tracing.span("synthesize") as span:
                async with aclosing(self._synthesizer.stream(request)) as chunks:
                    async for chunk in chunks:
                        if first:
                            took_ms, engine = (time.perf_counter() - began) * 1e3, chunk.engine or "none"
                            self._metrics.first_chunk_ms.observe(took_ms, tags={"engine": engine})
                            span.add_event("first chunk")
                            first = False
                        spoken_s = (chunk.start + len(chunk.pcm)) / SPEECH_RATE
                        yield chunk
                tracing.note_on(span, engine=engine, speech_s=spoken_s)
            logger.info("spoke %.2f s with %s, the first chunk after %.0f ms", spoken_s, engine, took_ms)
        except MuseserveError as error:
            self._metrics.errors.inc(tags={"code": error.code})
            raise
        finally:
            self._live -= 1
            rest_s = self._gave_back + GIVE_BACK_S - time.monotonic()
            asyncio.get_running_loop().call_later(max(QUIET_S, rest_s + 0.01), self._give_back)

    def _give_back(self) -> None:
        """A voice takes much memory for each clause of another length, and the heap would keep all that none of the next happens to fit into."""
        now = time.monotonic()
        if not self._live and now - self._gave_back >= GIVE_BACK_S:
            self._gave_back = now
            malloc.trim_in_background()

    async def info(self) -> SpeechInfo:
        return self._synthesizer.info
