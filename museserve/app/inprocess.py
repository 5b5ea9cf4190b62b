"""The same pipeline in one process, with no Ray and no server: what `museserve say` runs and what the graph's cost is measured against."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

from configs.models import AppConfig
from museserve.messages import (
    ANIMATOR,
    Conditioning,
    Fragment,
    RenderedCrops,
    RenderRequest,
    SpeechChunk,
    SpeechInfo,
    SpeechRequest,
    SpeechWindow,
    VideoRequest,
    Word,
)
from museserve.pipeline.cache import UtteranceCache
from museserve.pipeline.engines import LipSync
from museserve.pipeline.video import VideoPipeline
from museserve.runtime import cpu
from museserve.runtime.deadline_executor import DeadlineExecutor
from museserve.speech.synthesizer import Synthesizer
from musetalk.avatars.format import Avatar
from musetalk.avatars.preparation import renew
from musetalk.avatars.progress import Progress
from musetalk.avatars.store import AvatarStore
from musetalk.avatars.stores import shipped_store
from musetalk.engine import LipSyncEngine
from musetalk.factory import ready_engine

T = TypeVar("T")
OnFragment = Callable[[Fragment], object]


def _ignore(fragment: Fragment) -> None: ...


class LocalEngines:
    """`museserve.pipeline.engines.Engines` in this process."""

    def __init__(self, config: AppConfig, engine: LipSyncEngine) -> None:
        self._engine = engine
        self.synthesizer = Synthesizer(config.speech, config.weights)
        self.spoke: dict[str, None] = {}  # the engines of the voices that were heard, in order
        self._threads = ThreadPoolExecutor(cpu.usable_cores(), thread_name_prefix="draw")

    async def lipsync(self) -> LipSync:
        return LipSync(self._engine.info, self._listen, self._render)

    async def speech(self) -> SpeechInfo:
        return self.synthesizer.info

    async def synthesize(self, request: SpeechRequest) -> AsyncGenerator[SpeechChunk, None]:
        async with aclosing(self.synthesizer.stream(request)) as chunks:
            async for chunk in chunks:
                if chunk.engine:
                    self.spoke[chunk.engine] = None
                yield chunk

    async def _listen(self, window: SpeechWindow) -> Conditioning:
        return await self._run(self._engine.listen, window)

    async def _render(self, request: RenderRequest) -> RenderedCrops:
        (crops,) = await self._run(self._engine.render, [request])
        return RenderedCrops(crops)

    async def _run(self, verb: Callable[..., T], argument: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, verb, argument)


class LocalPipeline:
    """Everything loaded once; film as often as wanted.

    Args:
        cache: whether finished utterances are looked up and kept.
        progress: told while the shipped avatars are prepared for MuseTalk, which takes minutes the first time; None = the log.
    Raises, when made:
        EngineUnavailableError, ConfigError.
    """

    def __init__(self, config: AppConfig, store: AvatarStore | None = None, *, cache: bool = False, progress: Progress | None = None) -> None:
        self.store = store or shipped_store(config, config.mux.avatar_cache_bytes, use=Avatar.open)
        self._media = config.mux.media
        self.engine = ready_engine(config, self.store, progress=progress)
        self.engines = LocalEngines(config, self.engine)
        executor = DeadlineExecutor([float("inf")] * config.mux.encode_threads)
        kept = UtteranceCache.of(config) if cache else None
        self.pipeline = VideoPipeline(config, self.engines, self._open, executor, kept)

    def _open(self, avatar_id: str) -> Avatar:
        """No face preparation runs beside this process, which would have made avatars of another version anew.

        MuseTalk's share is not made here: it takes networks of its own.
        """
        if self.engine.info.name == ANIMATOR:
            renew(avatar_id, self.store, self._media)
        return self.store.load(avatar_id)

    async def fragments(self, request: VideoRequest, on_fragment: OnFragment = _ignore) -> list[Fragment]:
        """The whole utterance; `on_fragment` is told of each as it is made. Raises as `VideoPipeline.stream`."""
        made = []
        async for fragment in self.pipeline.stream(request):
            made.append(fragment)
            on_fragment(fragment)
        return made


async def render_to_file(
    local: LocalPipeline, request: VideoRequest, out: Path, on_fragment: OnFragment = _ignore
) -> tuple[list[Fragment], tuple[Word, ...]]:
    """Film into a finished mp4 at `out`, which appears only when it is complete.

    Returns the fragments and the words.
    """
    film = await local.pipeline.finished(request, on_fragment)
    partial = out.with_name(out.name + ".part")
    try:
        with partial.open("wb") as file:
            film.write(file)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return film.fragments, film.words
