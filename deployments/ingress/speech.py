"""`/v1/audio/speech`, `/v1/audio/models`, `/v1/audio/voices`, `/v1/models` and `/v1/voices`: speech alone, by OpenAI's contract."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, replace

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from configs.models import AppConfig
from deployments import quotas
from deployments.ingress.answers import Streamed, begun, told
from deployments.ingress.bodies import SpeechBody, parse
from deployments.ingress.graph_client import GraphClient
from deployments.ingress.uploads import read_body
from museserve.media.speech_encode import CONTENT_TYPES
from museserve.speech.engines import natural, voices
from museserve.speech.engines.openai import has_key
from museserve.speech.engines.voices import VoiceInfo
from museserve.speech.request import parse_delivery, parse_speech


class Speech:
    def __init__(self, config: AppConfig, graph: GraphClient) -> None:
        self._max_chars, self._graph = config.speech.max_text_chars, graph
        self._voices = voices_of(config)

    async def create(self, request: Request) -> Response:
        return await self.answer(parse(SpeechBody, (await read_body(request)).fields))

    async def answer(self, body: SpeechBody) -> Response:
        delivery = parse_delivery(body.voice, body.speed, body.language)
        speech = replace(parse_speech(body.input, delivery, self._max_chars), instructions=body.instructions or "")
        quotas.charge("chars", len(speech.text))
        began = time.perf_counter()
        _, pieces = await begun(self._graph.speak(speech, body.response_format, whole=body.stream_format == "audio"))
        timing = {"Server-Timing": f"tts;dur={(time.perf_counter() - began) * 1e3:.1f}"}
        if body.stream_format == "sse":
            return Streamed(_events(pieces), media_type="text/event-stream", headers=timing | {"Cache-Control": "no-store"})
        return Streamed(pieces, media_type=CONTENT_TYPES[body.response_format], headers=timing)

    async def list_openai_voices(self, request: Request) -> Response:
        """As web clients of OpenAI-compatible servers ask for them."""
        return JSONResponse({"voices": [{"id": voice.id, "name": voice.id} for voice in self._voices]})

    async def list_voices(self, request: Request) -> Response:
        return JSONResponse({"data": [asdict(voice) for voice in self._voices]})


def voices_of(config: AppConfig) -> list[VoiceInfo]:
    """What may be asked for here, by the configuration and the files of this moment."""
    speech = config.speech
    return voices.list_voices(natural.find(speech, config.weights), provider=speech.engine != "offline" and has_key(speech.openai))


async def _events(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """OpenAI's events; tokens are not counted here. What breaks off ends with an event that says why."""
    async with aclosing(pieces):
        try:
            async for piece in pieces:
                yield _event({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()})
        except Exception as error:
            failed = told(error, "POST /v1/audio/speech")
            yield _event({"type": "error", "error": {"code": failed.code, "message": str(failed)}})
            return
    yield _event({"type": "speech.audio.done", "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}})


def _event(said: dict[str, object]) -> bytes:
    return f"data: {json.dumps(said)}\n\n".encode()


MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")  # that clients of OpenAI's ask for; all are spoken alike
MODELS_SINCE = 1_764_374_400  # some date has to stand there


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": MODELS_SINCE, "owned_by": "museserve"}


async def list_models(request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [_model(name) for name in MODELS]})


async def read_model(request: Request) -> Response:
    if (name := request.path_params["id"]) not in MODELS:
        raise HTTPException(404, f"there is no model {name[:80]!r}; there are {', '.join(MODELS)}")
    return JSONResponse(_model(name))


async def list_speech_models(request: Request) -> Response:
    """As Open WebUI asks for them."""
    return JSONResponse({"models": [{"id": name, "name": name} for name in MODELS]})
