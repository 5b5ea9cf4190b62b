"""One call = one utterance: order, pacing, retries, composition, encoding. The others are called for it.

The work lives in `museserve.pipeline`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from ray.serve.handle import DeploymentHandle

from configs.models import AppConfig, MuxConfig
from deployments import cores, logs, tracing
from deployments.admission import Admission, Note, Posted
from deployments.live import LiveConfig
from deployments.metrics import MuxMetrics
from deployments.policy import told_by_mux
from deployments.remote import Hedges, answered, pulled, repulled, retried
from deployments.so_far import SpeechSoFar
from museserve.errors import BusyError, RenderError, RequestError, SpeechEngineError, StoreError
from museserve.media.decode import decode_speech
from museserve.media.speech_encode import SpeechEncoder
from museserve.messages import (
    CacheHit,
    CallIds,
    Conditioning,
    EngineInfo,
    FilmHead,
    Fragment,
    RenderedCrops,
    RenderRequest,
    ServiceInfo,
    SoundPiece,
    SpeechChunk,
    SpeechInfo,
    SpeechRequest,
    SpeechWindow,
    VideoRequest,
)
from museserve.pipeline.arriving import Arrivals
from museserve.pipeline.cache import UtteranceCache
from museserve.pipeline.engines import LipSync
from museserve.pipeline.utterance import Timings
from museserve.pipeline.video import VideoPipeline
from museserve.runtime import process
from museserve.runtime.deadline_executor import DeadlineExecutor
from museserve.runtime.foreign import READERS
from musetalk.avatars.format import Avatar
from musetalk.avatars.stores import shipped_store

logger = logging.getLogger("ray.serve")

Handle = DeploymentHandle[Any]

# How long speech is held back that only has its length in its head once all of it is there. A flac of unknown length is
# one that common readers refuse, a wav only seems to be a day long, and is wanted early.
WHOLE_WITHIN_S = {"flac": math.inf, "wav": 0.5}

# Arrays cross two and a half times faster than with cloudpickle, Serve's default.
PLAIN_PICKLE: dict[str, Any] = {"request_serialization": "pickle", "response_serialization": "pickle"}
POST_TIMEOUT_S = 2.0


class Mux:
    """A plain class: `graph.py` makes it a deployment and binds the handles."""

    def __init__(self, config: AppConfig, tts: Handle, lipsync: Handle) -> None:
        logs.join_serve()
        tracing.join_serve()
        cores.keep_to_own()
        process.tune_for_latency()
        READERS.warm(decode_speech)
        store = shipped_store(config, config.mux.avatar_cache_bytes, use=Avatar.open)  # pages come into memory before anyone waits for them
        store.watch()
        self._config, self._live_config, self._metrics = config.mux, LiveConfig("mux", config), MuxMetrics()
        self._executor = DeadlineExecutor([float("inf")] * config.mux.encode_threads)
        self._engines = RemoteEngines(tts, lipsync, config.mux, self._metrics)
        self._cache = cache = UtteranceCache.of(config)
        if cache is not None:
            cache.watch()
        most = config.deployments.lipsync.max_replicas
        self._admission = Admission(self._engines.post, secrets.token_hex(8), config.capacity, most)
        observer = MuxObserver(self._metrics, self._admission.tighten)
        self._pipeline = VideoPipeline(config, self._engines, store.load, self._executor, cache, observer, self._admission.place)
        self._arrivals = Arrivals()
        self._live = 0
        self._told = told_by_mux(config.capacity)

    def reconfigure(self, user_config: Any) -> None:
        """What Serve calls with a new `user_config`. Raises ConfigError at the start alone."""
        if (config := self._live_config.changed(user_config)) is not None:
            self._engines.configure(config.mux)
            self._pipeline.configure(config.mux)
            self._admission.configure(config.capacity, config.deployments.lipsync.max_replicas)
            self._told = told_by_mux(config.capacity)

    async def check_health(self) -> None:
        """Serve calls it from the start on: others count this replica before its first utterance."""
        self._admission.watch()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve shows the autoscaling policy."""
        return self._told

    async def stream(self, request: VideoRequest) -> AsyncGenerator[Fragment, None]:
        """Fragments as they are made, the first with the init segment and the head. Raises RequestError kinds before the first one."""
        with self._arrivals.of(request.arriving) as chunks:
            async with aclosing(self._counted(request.ids, self._pipeline.stream(request, chunks))) as fragments:
                async for fragment in fragments:
                    yield fragment

    async def feed(self, piece: SoundPiece) -> None:
        """More sound of a stream that runs on this replica, or is about to; the same piece may come twice. Raises RequestError: none does."""
        await self._arrivals.add(piece)

    async def film(self, request: VideoRequest) -> AsyncGenerator[FilmHead | bytes, None]:
        """A finished mp4 (faststart): what is known of it, then the file in pieces."""
        async with aclosing(self._counted(request.ids, self._pipeline.film(request))) as parts:
            async for part in parts:
                yield part

    async def speak(self, request: SpeechRequest, audio_format: str, whole: bool = False) -> AsyncGenerator[bytes, None]:
        """Encoded speech alone, streamed. whole: what needs its length in front is given at once, once all is there, unless that takes too long."""
        encoder = SpeechEncoder(audio_format, self._config.media.mp3_bit_rate_bps)
        loop = asyncio.get_running_loop()
        until = time.monotonic() + WHOLE_WITHIN_S[audio_format] if whole and audio_format in WHOLE_WITHIN_S else 0.0
        held: list[bytes] = []
        async with aclosing(self._engines.synthesize(request)) as chunks:
            async for chunk in chunks:
                if data := await loop.run_in_executor(self._executor, encoder.encode, chunk.pcm):
                    held.append(data)
                if held and time.monotonic() >= until:
                    yield b"".join(held)
                    held, until = [], 0.0
            held.append(await loop.run_in_executor(self._executor, encoder.finish))
            if rest := b"".join(held):
                yield encoder.with_length(rest) if until else rest

    async def clear_cache(self, tenant: str) -> None:
        """Asked of every replica: each has some of it in memory. Raises StoreError."""
        if self._cache is not None:
            try:
                await asyncio.to_thread(self._cache.clear, tenant)
            except OSError as error:
                logger.warning("the cache cannot be cleared: %s", error)
                raise StoreError("the cache cannot be cleared; the log has the details") from None

    async def info(self) -> ServiceInfo:
        lipsync, speech = (await self._engines.lipsync()).info, await self._engines.speech()
        return ServiceInfo(lipsync, speech, await self._admission.summary())

    async def _counted(self, ids: CallIds, video: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        """The items of an utterance's video, counted among the live ones and by how it ends."""
        logs.carry(ids)
        self._count_live(+1)
        outcome = "cancelled"
        try:
            async with aclosing(video):
                async for item in video:
                    yield item
            outcome = "finished"
        except RequestError:
            outcome = "refused"
            raise
        except BusyError:
            outcome = "busy"
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            self._count_live(-1)
            self._metrics.utterances.inc(tags={"outcome": outcome})

    def _count_live(self, change: int) -> None:
        self._live += change
        self._metrics.live.set(self._live)


class RemoteEngines:
    """`museserve.pipeline.engines.Engines` by the replicas of TTS and LipSync."""

    def __init__(self, tts: Handle, lipsync: Handle, config: MuxConfig, metrics: MuxMetrics) -> None:
        self._tts, self._tts_stream = tts, tts.options(stream=True, **PLAIN_PICKLE)
        self._lipsync_replicas = lipsync.options(**PLAIN_PICKLE)
        self._config, self._metrics = config, metrics
        self._lipsync: LipSync | None = None
        self._speech: SpeechInfo | None = None
        self._hedges = {"listen": Hedges(), "render": Hedges()}

    def configure(self, config: MuxConfig) -> None:
        self._config = config

    async def post(self, note: Note) -> Sequence[Posted]:
        """Tell every LipSync replica that runs; what each answers."""
        answers: Sequence[Posted] = await self._lipsync_replicas.broadcast("post", note).results_async(timeout_s=POST_TIMEOUT_S)
        return answers

    async def lipsync(self) -> LipSync:
        if self._lipsync is None:
            info: EngineInfo = await self._retried(lambda: answered(self._lipsync_replicas.info.remote()))
            self._lipsync = LipSync(info, self._listen, self._render)
        return self._lipsync

    async def speech(self) -> SpeechInfo:
        if self._speech is None:
            tries, timeout_s = self._config.retries + 1, self._config.segment_timeout_s
            self._speech = await retried(lambda: answered(self._tts.info.remote()), "speech", tries=tries, timeout_s=timeout_s)
        assert self._speech is not None
        return self._speech

    async def synthesize(self, request: SpeechRequest) -> AsyncGenerator[SpeechChunk, None]:
        """Chunks in order. When the replica is lost, another speaks anew, and what came already is skipped.

        A provider's voice would go on otherwise than it began: there SpeechEngineError is raised, unless nothing came
        yet.
        """
        so_far = SpeechSoFar()

        def ask(within_s: float | None) -> AsyncGenerator[SpeechChunk, None]:
            so_far.check()
            asked = replace(request)  # an object of its own, by which the call is told from the one before
            return so_far.rest(pulled(lambda: self._tts_stream.stream.remote(asked, logs.carried()), asked, within_s))

        def lost() -> None:
            self._metrics.takeovers.inc(tags={"lost": "tts"})

        tries, timeout_s = self._config.retries + 1, self._config.segment_timeout_s
        chunks = repulled(ask, "speech", tries=tries, timeout_s=timeout_s, failure=SpeechEngineError, on_retry=lost)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def _listen(self, window: SpeechWindow) -> Conditioning:
        heard: Conditioning = await self._ask_lipsync("listen", window)
        return heard

    async def _render(self, request: RenderRequest) -> RenderedCrops:
        rendered: RenderedCrops = await self._ask_lipsync("render", request)
        self._metrics.queue_ms.observe(rendered.queue_ms)
        return rendered

    async def _ask_lipsync(self, method: str, argument: SpeechWindow | RenderRequest) -> Any:
        call, hedges = getattr(self._lipsync_replicas, method), self._hedges[method]

        def hedged() -> None:
            self._metrics.hedged.inc(tags={"method": method})

        asked_at = time.monotonic()

        def ask() -> Awaitable[Any]:
            due_s = argument.due_s - (time.monotonic() - asked_at)  # of a call that is sent again it is less
            return hedges.first_of(lambda late: call.remote(late, logs.carried()), replace(argument, due_s=due_s), hedged)

        return await self._retried(ask)

    async def _retried(self, call: Callable[[], Awaitable[Any]]) -> Any:
        return await retried(
            call,
            "lip-sync",
            tries=self._config.retries + 1,
            timeout_s=self._config.segment_timeout_s,
            failure=RenderError,
            on_retry=self._metrics.retries.inc,
        )


class MuxObserver:
    """`museserve.pipeline.video.Observer` as metrics, and a line in the log for each utterance. tighten: told of streams with little in hand."""

    def __init__(self, metrics: MuxMetrics, tighten: Callable[[], None]) -> None:
        self._metrics, self._tighten = metrics, tighten

    def looked_up(self, found: CacheHit) -> None:
        self._metrics.cache.inc(tags={"found": found})

    def first_fragment(self, timings: Timings, request: VideoRequest) -> None:
        source = "text" if request.speech else "pcm" if request.arriving else "audio"
        self._metrics.first_fragment_s.observe(timings.first_ms["first_fragment"] / 1e3, tags={"source": source})
        for stage, ms in timings.first_ms.items():
            self._metrics.stage_ms.observe(ms, tags={"stage": stage})
        tracing.event("first fragment", **{f"{stage}_ms": ms for stage, ms in timings.first_ms.items()})

    def encoded(self, frames: int, began: float) -> None:
        tracing.done("encode", began, frames=frames)

    def tight(self) -> None:
        self._tighten()
        self._metrics.tight.inc()

    def ended(self, timings: Timings) -> None:
        if timings.frames:
            self._metrics.encode_ms.observe(timings.encode_ms / timings.frames)
            silent = timings.frames - timings.speaking_frames
            for kind, frames in (("speaking", timings.speaking_frames), ("idle", silent)):
                if frames > 0:
                    self._metrics.frames.inc(frames, tags={"kind": kind})
        if timings.underruns:
            self._metrics.underruns.inc(timings.underruns)
        tracing.note(frames=timings.frames, speaking_frames=timings.speaking_frames, underruns=timings.underruns)
        logger.info(
            "utterance: first fragment %.0f ms, %d frames (%d speaking), %d underruns, render %.1f and encode %.1f ms a frame",
            timings.first_ms.get("first_fragment", -1.0),
            timings.frames,
            timings.speaking_frames,
            timings.underruns,
            timings.render_ms / max(timings.speaking_frames, 1),
            timings.encode_ms / max(timings.frames, 1),
        )
