"""`/v1/audio/speech` and `/v1/voices`: speech alone, by OpenAI's contract."""

from __future__ import annotations

import time
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from configs.models import AppConfig
from deployments import quotas
from deployments.ingress.answers import Streamed, begun
from deployments.ingress.bodies import SpeechBody, parse
from deployments.ingress.graph_client import GraphClient
from deployments.ingress.uploads import read_body
from museserve.media.speech_encode import CONTENT_TYPES
from museserve.speech.engines import voices
from museserve.speech.request import parse_delivery, parse_speech


class Speech:
    def __init__(self, config: AppConfig, graph: GraphClient) -> None:
        self._max_chars, self._graph = config.speech.max_text_chars, graph

    async def create(self, request: Request) -> Response:
        return await self.answer(parse(SpeechBody, (await read_body(request)).fields))

    async def answer(self, body: SpeechBody) -> Response:
        delivery = parse_delivery(body.voice, body.speed, body.language)
        speech = parse_speech(body.input, delivery, self._max_chars)
        quotas.charge("chars", len(speech.text))
        began = time.perf_counter()
        _, pieces = await begun(self._graph.speak(speech, body.response_format))
        timing = {"Server-Timing": f"tts;dur={(time.perf_counter() - began) * 1e3:.1f}"}
        return Streamed(pieces, media_type=CONTENT_TYPES[body.response_format], headers=timing)


async def list_voices(request: Request) -> Response:
    return JSONResponse({"data": [asdict(voice) for voice in voices.list_voices()]})
