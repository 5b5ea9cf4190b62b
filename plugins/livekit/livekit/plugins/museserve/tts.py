"""The voices of museserve as a TTS of an agent: face and voice by one service, without another key."""

from __future__ import annotations

import os

from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, APIConnectionError, APIConnectOptions, APIStatusError, tts, utils
from museserve_client import Client, ServiceError, UnreachableError

from .generator import DEFAULT_URL

RATE = 24_000


class TTS(tts.TTS[str]):
    def __init__(self, *, url: str | None = None, key: str | None = None, voice: str = "nova", speed: float = 1.0, language: str = "auto") -> None:
        """
        Args:
            url, key: of the service; MUSESERVE_URL and MUSESERVE_KEY where they are not given.
            voice: of `GET /v1/voices`. language: BCP 47 tag, or auto = seen from the text.
        """
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=RATE, num_channels=1)
        self.client = Client(url or os.getenv("MUSESERVE_URL") or DEFAULT_URL, key or os.getenv("MUSESERVE_KEY"))
        self.voice, self.speed, self.language = voice, speed, language

    @property
    def provider(self) -> str:
        return "museserve"

    def synthesize(self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS) -> tts.ChunkedStream:
        return _Speech(self, text, conn_options)

    async def aclose(self) -> None:
        await self.client.aclose()


class _Speech(tts.ChunkedStream):
    def __init__(self, made_by: TTS, text: str, conn_options: APIConnectOptions) -> None:
        super().__init__(tts=made_by, input_text=text, conn_options=conn_options)
        self._made_by = made_by

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        by = self._made_by
        output_emitter.initialize(request_id=utils.shortuuid(), sample_rate=RATE, num_channels=1, mime_type="audio/pcm")
        try:
            async for piece in by.client.speak(self.input_text, voice=by.voice, format="pcm", speed=by.speed, language=by.language):
                output_emitter.push(piece)
        except ServiceError as error:
            raise APIStatusError(str(error), status_code=error.status or -1) from error
        except UnreachableError as error:
            raise APIConnectionError(str(error)) from error
        output_emitter.flush()
