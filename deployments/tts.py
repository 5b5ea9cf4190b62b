"""Text to timed speech, one stream an utterance. The voices live in `speech`."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator
from typing import Any

from configs.models import SpeechConfig
from contracts import SpeechChunk, SpeechRequest
from deployments.metrics import TTSMetrics
from errors import MuseserveError
from speech.synthesizer import Synthesizer

logger = logging.getLogger("ray.serve")


class TTS:
    """A plain class: `graph.py` makes it a deployment."""

    def __init__(self, config: SpeechConfig) -> None:
        self._synthesizer = Synthesizer(config)
        self._synthesizer.warm()
        self._metrics = TTSMetrics()
        logger.info("tts ready: %s", self._synthesizer.info)

    async def stream(self, request: SpeechRequest) -> AsyncGenerator[SpeechChunk, None]:
        """Chunks in order, the first as soon as the first clause is spoken. Raises SpeechEngineError, TextError, UnknownVoiceError."""
        began, first = time.perf_counter(), True
        try:
            async for chunk in self._synthesizer.stream(request):
                if first:
                    self._metrics.first_chunk_ms.observe((time.perf_counter() - began) * 1e3, tags={"engine": chunk.engine or "none"})
                    first = False
                yield chunk
        except MuseserveError as error:
            self._metrics.errors.inc(tags={"code": error.code})
            raise

    async def info(self) -> dict[str, Any]:
        return dict(self._synthesizer.info)
