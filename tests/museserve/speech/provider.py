"""A speech provider to test against: a real HTTP server with OpenAI's contract, a real voice, and faults on demand."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from museserve.speech.engines.espeak import EspeakEngine
from museserve.speech.engines.voice_engine import joined
from museserve.speech.engines.voices import ESPEAK_MAN
from museserve.timebase import SPEECH_RATE


class Provider:
    """`faults`: what the next requests get, one each; then they get sound. `requests`: the bodies seen. `cut_s`: sound before a fault."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.cut_s = 1.0
        self.hung_up = threading.Event()
        self._engine = EspeakEngine()
        app = Starlette(routes=[Route("/v1/audio/speech", self._speak, methods=["POST"])])
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()

    def pcm(self, text: str) -> bytes:
        """What is served for `text`: int16 at `SPEECH_RATE`."""
        sound = joined(self._engine.speak(text, ESPEAK_MAN, "en", 1.0)).pcm
        return (sound * 32767).astype("<i2").tobytes()

    async def _speak(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers["authorization"])
        fault = self.faults.pop(0) if self.faults else ""
        if fault.isdigit():
            error = {"message": "Incorrect API key provided: sk-secret", "type": "test", "code": fault}
            return JSONResponse({"error": error}, int(fault), headers={"retry-after": "0.05"})
        if fault == "html":
            return Response("<html>It works!</html>", media_type="text/html")
        if fault == "empty":
            return Response(b"", media_type="audio/pcm")
        sound = await asyncio.to_thread(self.pcm, body["input"])
        return StreamingResponse(self._pieces(sound, fault), media_type="audio/pcm", headers=_length(sound, fault))

    async def _pieces(self, sound: bytes, fault: str) -> AsyncIterator[bytes]:
        cut = int(self.cut_s * SPEECH_RATE) * 2
        try:
            if fault == "odd":
                yield sound[: cut + 1]
                return
            if fault in ("half", "stall"):
                yield sound[:cut]
                await asyncio.sleep(30 if fault == "stall" else 0.05)
                raise ConnectionResetError("this server hangs up here")
            step = 4_801  # odd, so that samples are torn apart at the borders
            for start in range(0, len(sound), step):
                yield sound[start : start + step]
                await asyncio.sleep(0.05 if fault == "slow" else 0)
        except asyncio.CancelledError:
            self.hung_up.set()
            raise
        except ConnectionResetError:
            # The promised Content-Length stays unmet; uvicorn then closes the connection.
            return


def _length(sound: bytes, fault: str) -> dict[str, str]:
    return {"content-length": str(len(sound))} if fault == "half" else {}
