"""`/v1/audio/transcriptions`: recorded speech to text, by OpenAI's contract, passed on to the server that the operator chose."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from configs.models import AppConfig
from deployments.ingress.bodies import TranscriptionBody, parse
from deployments.ingress.uploads import read_body
from museserve.errors import NoTranscriptionError
from museserve.speech.transcription import Transcriber

NAMES = {b"\x1aE\xdf\xa3": "webm", b"OggS": "ogg", b"RIFF": "wav", b"ID3": "mp3", b"fLaC": "flac"}  # by how a file begins


class Transcription:
    def __init__(self, config: AppConfig) -> None:
        self._transcriber = Transcriber(config.transcription) if config.transcription.chosen else None

    async def create(self, request: Request) -> Response:
        if self._transcriber is None:
            raise NoTranscriptionError("nothing is written down here: the operator has set no transcription.base_url")
        upload = await read_body(request, ["file"])
        body = parse(TranscriptionBody, upload.fields)
        recording = upload.file("file")
        text = await self._transcriber.text(f"recording.{_ending(recording)}", recording, body.language)
        return JSONResponse({"text": text})


def _ending(recording: bytes) -> str:
    return next((ending for start, ending in NAMES.items() if recording.startswith(start)), "m4a")
