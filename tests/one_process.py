"""The API in one process, with no Ray cluster: the real ingress in front of the real pipeline. For the tests of clients, which know only an address.

    python -m tests.one_process FOLDER      prints the address; ends with its standard input. A line `move` there tells all sessions to move

What is between the two in a service, several replicas and what happens when one is lost, is not here.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn

from configs.models import load_config
from deployments.ingress import ingress
from deployments.ingress.graph_client import GraphClient, alongside, feed_every_s
from deployments.ingress.sessions.live_sound import BYTES_A_SAMPLE, SoundPart
from deployments.ingress.sessions.protocol import Moving
from museserve.app.inprocess import LocalPipeline
from museserve.media.speech_encode import SpeechEncoder
from museserve.messages import ArrivingSound, Fragment, ServiceInfo, SoundPiece, SpeechRequest, VideoRequest
from museserve.pipeline.arriving import Arrivals

MOVE_WITHIN_S = 30.0
LINES = {"sessions": {"window_bytes": 2**22}, "limits": {"max_audio_s": 120}}


class LocalGraph(GraphClient):
    """What `GraphClient` does by Ray's handles, here."""

    def __init__(self, local: LocalPipeline) -> None:
        self._local, self._arrivals, self.live = local, Arrivals(), 0

    def configure(self, max_live: int, patience_s: float) -> None:
        pass

    async def ask_info(self) -> ServiceInfo:
        engines = self._local.engines
        return ServiceInfo((await engines.lipsync()).info, await engines.speech(), {})

    info = ask_info

    async def info_within(self, seconds: float) -> ServiceInfo:
        return await self.ask_info()

    async def stream(self, request: VideoRequest, sound: SoundPart | None = None) -> AsyncGenerator[Fragment, None]:
        asked = request if sound is None else replace(request, arriving=ArrivingSound(secrets.token_hex(8), sound.rate))
        with self._arrivals.of(asked.arriving) as chunks:
            fragments = self._local.pipeline.stream(asked, chunks)
            async with aclosing(fragments if sound is None else alongside(fragments, self._feed(asked.leads, sound))) as made:
                async for fragment in made:
                    yield fragment

    async def _feed(self, stream: str, sound: SoundPart) -> None:
        at, final = 0, False
        while not final:
            pcm, final = await sound.after(at)
            await self._arrivals.add(SoundPiece(stream, at, pcm, final))
            at += len(pcm) // BYTES_A_SAMPLE
            await asyncio.sleep(feed_every_s(at / sound.rate))

    async def speak(self, request: SpeechRequest, audio_format: str, whole: bool = False) -> AsyncGenerator[bytes, None]:
        encoder = SpeechEncoder(audio_format, 64_000)
        async with aclosing(self._local.engines.synthesize(request)) as chunks:
            async for chunk in chunks:
                if data := encoder.encode(chunk.pcm):
                    yield data
        yield encoder.finish()


def main(folder: Path) -> None:
    places = {"avatars": {"uri": str(folder)}, "cache": {"uri": str(folder / "utterances")}, "weights": {"uri": str(folder / "models")}}
    config = load_config("local", {**LINES, **places, "server": {"port": 0}})
    local = LocalPipeline(config)

    def graph(*_: Any) -> LocalGraph:
        return LocalGraph(local)

    async def serve() -> None:
        vars(ingress)["GraphClient"] = graph
        served = ingress.Ingress(config, None, None)  # type: ignore[arg-type]
        app = served.__serve_build_asgi_app__()
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws_max_size=2**26))
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110  # it has no event
            await asyncio.sleep(0.02)
        print(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", flush=True)
        while await asyncio.to_thread(sys.stdin.readline) == "move\n":
            for live in served._sessions._live.values():
                live.session.outbox.say_once(Moving(within_s=MOVE_WITHIN_S))
        server.should_exit = True
        await serving

    asyncio.run(serve())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
