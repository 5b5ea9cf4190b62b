"""A graph in which nobody answers, called as the ingress and Mux call theirs. What begins and what ends is written to a folder.

`build` is the `import_path` of a Serve document. Annotations must not be postponed here: by that of `build` Serve makes its argument.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import BaseModel
from ray import serve
from ray.serve import Application
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from configs.models import MuxConfig
from deployments import cores
from deployments.ingress.answers import Streamed
from deployments.ingress.graph_client import GraphClient
from deployments.metrics import MuxMetrics
from deployments.mux import RemoteEngines
from deployments.routing import router_config
from museserve.messages import AvatarRef, PreparationProgress, RenderedCrops, RenderRequest, SpeechChunk, SpeechRequest
from museserve.runtime import cpu

FOR_EVER_S = 3_600.0
MUX = MuxConfig(segment_timeout_s=0.7, retries=1)  # before a second replica is asked as well
LATE_MUX = MuxConfig(segment_timeout_s=60.0, retries=0)
SECOND = "second"  # in the name of a case: the second call is answered


class Told(BaseModel):
    folder: str


class Engines:
    """In place of TTS, LipSync and FacePrep. A case is the avatar's id, the text or the name that it is asked with."""

    def __init__(self, folder: str) -> None:
        cores.keep_to_own()
        self._folder = Path(folder)

    async def threads(self) -> tuple[int, int]:
        """Of a pool of ours, and of OpenCV."""
        return cpu.usable_cores(), cv2.getNumThreads()

    async def render(self, request: RenderRequest, ids: Any = None) -> RenderedCrops:
        case = request.avatar.id
        with self._noted(case) as before:
            if SECOND not in case or not before:
                await asyncio.sleep(FOR_EVER_S)
        return RenderedCrops(np.zeros((1, 6, 4), np.uint8))

    async def stream(self, request: SpeechRequest, ids: Any = None) -> AsyncGenerator[SpeechChunk, None]:
        with self._noted(request.text):
            yield SpeechChunk(0, np.zeros(960, np.float32))
            await asyncio.sleep(FOR_EVER_S)

    async def prepare(self, data: bytes, avatar_id: str, name: str, gender: str, clip: bool = False) -> AsyncGenerator[PreparationProgress, None]:
        with self._noted(avatar_id):
            yield PreparationProgress("read", 0.1)
            await asyncio.sleep(FOR_EVER_S)

    @contextmanager
    def _noted(self, case: str) -> Any:
        """Whether it was called before."""
        file = self._folder / case
        before = file.exists()
        self._note(file, "begun")
        try:
            yield before
            self._note(file, "answered")
        except (asyncio.CancelledError, GeneratorExit):
            self._note(file, "cancelled")
            raise

    @staticmethod
    def _note(file: Path, word: str) -> None:
        with file.open("a") as out:
            out.write(f"{word}\n")


class Relay:
    """In place of Mux."""

    def __init__(self, engines: Any) -> None:
        self._engines = RemoteEngines(engines, engines, MUX, MuxMetrics())

    async def speak(self, request: SpeechRequest, audio_format: str, whole: bool) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._engines.synthesize(request)) as chunks:
            async for chunk in chunks:
                yield chunk.pcm.tobytes()


class Asker:
    """Does what the path's name says, and answers when it has."""

    def __init__(self, folder: str, relay: Any, engines: Any, narrow: Any) -> None:
        self._folder = Path(folder)
        metrics = MuxMetrics()
        self._engines, self._late = RemoteEngines(engines, engines, MUX, metrics), RemoteEngines(engines, engines, LATE_MUX, metrics)
        self._narrow = RemoteEngines(narrow, narrow, LATE_MUX, metrics)
        self._handles = engines, narrow
        self._client = GraphClient(relay, engines, max_live=8, patience_s=5.0)

    def __serve_build_asgi_app__(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/health", self._health),
                Route("/threads", self._threads),
                Route("/stream/{case}", self._stream),
                Route("/{case}", self._do),
            ]
        )

    async def _health(self, request: Request) -> Response:
        return PlainTextResponse("here")

    async def _threads(self, request: Request) -> Response:
        return JSONResponse([await handle.threads.remote() for handle in self._handles])

    async def _stream(self, request: Request) -> Response:
        return Streamed(self._client.speak(SpeechRequest(request.path_params["case"]), "pcm"))

    async def _do(self, request: Request) -> Response:
        case = request.path_params["case"]
        await getattr(self, f"_{case}")(case)
        return PlainTextResponse("done")

    async def _late_then_second(self, case: str) -> None:
        await self._engines._render(_frame(case))

    async def _hedged_with_second(self, case: str) -> None:
        await self._late._render(_frame(case))

    async def _late_for_good(self, case: str) -> None:
        with suppress(Exception):
            await self._engines._render(_frame(case))

    async def _given_up(self, case: str) -> None:
        await self._cancelled(self._late._render(_frame(case)), case)

    async def _queued(self, case: str) -> None:
        """One of them is drawn, and the others wait for it in the caller's queue."""
        calls = [asyncio.create_task(self._narrow._render(_frame(case))) for _ in range(3)]
        await self._cancelled(asyncio.gather(*calls), case)

    async def _broken_off(self, case: str) -> None:
        async with aclosing(self._engines.synthesize(SpeechRequest(case))) as chunks:
            async for _ in chunks:
                break

    async def _failed_meanwhile(self, case: str) -> None:
        with suppress(ZeroDivisionError):
            async with aclosing(self._engines.synthesize(SpeechRequest(case))) as chunks:
                async for _ in chunks:
                    _ = 1 / 0

    async def _cancelled_while_waiting(self, case: str) -> None:
        async def listen() -> None:
            async with aclosing(self._engines.synthesize(SpeechRequest(case))) as chunks:
                async for _ in chunks:
                    pass

        await self._cancelled(listen(), case)

    async def _through_another(self, case: str) -> None:
        async with aclosing(self._client.speak(SpeechRequest(case), "pcm")) as pieces:
            async for _ in pieces:
                break

    async def _prepared_in_part(self, case: str) -> None:
        async with aclosing(self._client.prepare(b"", case, case, "female")) as steps:
            await anext(steps)

    async def _never_begun(self, case: str) -> None:
        await self._client.prepare(b"", case, case, "female").aclose()

    async def _cancelled(self, work: Awaitable[Any], case: str) -> None:
        task = asyncio.ensure_future(work)
        file = self._folder / case
        while not file.exists():  # noqa: ASYNC110  what is waited for happens in another process
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _frame(case: str) -> RenderRequest:
    return RenderRequest(AvatarRef(case, "0" * 16), (0,), np.zeros((1, 4), np.float32))


def build(told: Told) -> Application:
    def made(cls: Any, name: str, **options: Any) -> Any:
        options = {"max_ongoing_requests": 20, **options}
        return serve.deployment(cls, name=name, ray_actor_options={"num_cpus": options.pop("num_cpus", 0.1)}, **options)

    router = {"request_router_config": router_config(local=True)}
    engines = made(Engines, "Engines", num_replicas=2, **router).bind(told.folder)
    narrow = made(Engines, "Narrow", max_ongoing_requests=1, num_cpus=2, **router).bind(told.folder)
    relay = made(Relay, "Relay", **router).bind(engines)
    app: Application = made(serve.ingress()(Asker), "Asker").bind(told.folder, relay, engines, narrow)
    return app
