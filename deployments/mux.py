"""One call = one utterance: order, pacing, retries, composition, encoding. The work lives in `media`; this deployment calls the others for it."""

from __future__ import annotations

import asyncio
import io
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayTaskError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from configs.models import AppConfig
from deployments.metrics import MuxMetrics
from deployments.remote import LOST, pulled, unwrap
from museserve.errors import BusyError, DeviceLostError, MuseserveError, RenderError, RequestError
from museserve.media.decode import decode_speech
from museserve.media.mp4 import to_mp4
from museserve.media.speech_encode import SpeechEncoder
from museserve.media.text_track import TextTrack
from museserve.messages import (
    Conditioning,
    EngineInfo,
    Fragment,
    RenderedCrops,
    RenderRequest,
    SpeechChunk,
    SpeechRequest,
    SpeechWindow,
    VideoRequest,
)
from museserve.pipeline.cache import CacheKeys, UtteranceCache, recording, replay_speech, with_replay_head
from museserve.pipeline.utterance import UtterancePipeline
from museserve.runtime import process
from museserve.runtime.deadline_executor import DeadlineExecutor
from museserve.timebase import FPS, SPEECH_RATE
from musetalk.avatars.builtin import BUILTIN
from musetalk.avatars.format import Avatar
from musetalk.factory import shipped_store

logger = logging.getLogger("ray.serve")

# Arrays cross two and a half times faster than with cloudpickle, Serve's default.
PLAIN_PICKLE: dict[str, Any] = {"request_serialization": "pickle", "response_serialization": "pickle"}
UPLOAD_CHUNK = 2 * SPEECH_RATE


@dataclass(frozen=True)
class Asked:
    """An utterance before it is filmed: since when, with what, and what the cache has of it."""

    began: float
    engine: EngineInfo
    avatar: Avatar
    keys: CacheKeys | None = None
    film: list[Fragment] | None = None
    speech: list[SpeechChunk] | None = None
    keeps: bool = False


class Mux:
    """A plain class: `graph.py` makes it a deployment and binds the handles."""

    def __init__(self, config: AppConfig, tts: DeploymentHandle, lipsync: DeploymentHandle) -> None:
        process.tune_for_latency()
        self._config, self._limits = config.mux, config.limits
        self._tts, self._tts_stream = tts, tts.options(stream=True, **PLAIN_PICKLE)
        self._lipsync = lipsync.options(**PLAIN_PICKLE)
        self._store = shipped_store(config, config.mux.avatar_cache_bytes)
        for avatar_id in BUILTIN:
            self._store.load(avatar_id).frames.max()  # brings the pages into memory before anyone waits for them
        self._pool = DeadlineExecutor([math.inf] * config.mux.encode_threads)
        self._metrics = MuxMetrics()
        self._engine: EngineInfo | None = None
        self._speaks: dict[str, Any] = {}
        self._before = UtteranceCache(config)
        self._live = 0

    async def stream(self, request: VideoRequest) -> AsyncGenerator[Fragment, None]:
        """Fragments as they are made, the first with the init segment and the head. Raises RequestError kinds before the first one."""
        self._count_live(+1)
        outcome = "cancelled"
        try:
            asked = await self._asked(request)
            fragments = self._film(request, asked) if asked.film is None else self._replay(request, asked.film)
            async with aclosing(fragments):
                async for fragment in fragments:
                    yield fragment
            outcome = "finished"
        except RequestError:
            outcome = "refused"
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            self._count_live(-1)
            self._metrics.utterances.inc(tags={"outcome": outcome})

    async def _film(self, request: VideoRequest, asked: Asked) -> AsyncGenerator[Fragment, None]:
        utterance = self._begin(request, asked)
        made: list[Fragment] = []
        fragments = utterance.fragments()
        try:
            async for fragment in fragments:
                if fragment.head is not None:
                    self._observe_first(utterance, request)
                    fragment.head["cached"] = "no" if asked.speech is None else "speech"
                if asked.keeps:
                    made.append(fragment)
                yield fragment
        finally:
            await fragments.aclose()
            self._observe_end(utterance)
        if made and self._lasting(asked, made[0].head["notice"]):  # type: ignore[index]
            await asyncio.to_thread(self._before.keep_film, asked.keys, made)

    async def _replay(self, request: VideoRequest, film: list[Fragment]) -> AsyncGenerator[Fragment, None]:
        began = time.perf_counter()
        for fragment in film:
            wait_s = fragment.first_frame / FPS - self._config.lead_s - (time.perf_counter() - began)
            if request.paced and wait_s > 0:
                await asyncio.sleep(wait_s)
            yield fragment

    async def film(self, request: VideoRequest) -> AsyncGenerator[Fragment, None]:
        """A finished mp4 (faststart) in pieces: the head first, without data, then the file."""
        parts: list[bytes] = []
        words, head, frames = [], None, 0
        async for fragment in self.stream(request):
            parts.append(fragment.data)
            words.extend(fragment.words)
            head = head or fragment.head
            frames += fragment.n_frames
        out = io.BytesIO()
        track = TextTrack.of(words, request.speech, frames) if request.text_track and request.speech is not None else None
        await asyncio.get_running_loop().run_in_executor(self._pool, to_mp4, parts, out, track)
        data = out.getbuffer()
        yield Fragment(b"", 0, 0, tuple(words), True, False, head)
        step = 2**20
        for at in range(0, len(data), step):
            yield Fragment(bytes(data[at : at + step]), 0, 0, final=at + step >= len(data))

    async def speak(self, request: SpeechRequest, audio_format: str) -> AsyncGenerator[bytes, None]:
        """Encoded speech alone, streamed."""
        encoder = SpeechEncoder(audio_format, self._config.media.mp3_bit_rate_bps)
        loop = asyncio.get_running_loop()
        chunks = self._speech(request)
        try:
            async for chunk in chunks:
                data = await loop.run_in_executor(self._pool, encoder.encode, chunk.pcm)
                if data:
                    yield data
            tail = await loop.run_in_executor(self._pool, encoder.finish)
            if tail:
                yield tail
        finally:
            await chunks.aclose()

    async def info(self) -> dict[str, Any]:
        engine = await self._engine_info()
        return {"engine": engine, "speech": await self._retried(lambda: self._tts.info.remote())}

    async def _asked(self, request: VideoRequest) -> Asked:
        """The avatar, and what is known of this utterance from before."""
        began = time.perf_counter()
        engine = await self._engine_info()
        avatar = await asyncio.to_thread(self._store.load, request.avatar)
        avatar.require(engine)
        if not self._before.enabled or request.speech is None:
            return Asked(began, engine, avatar)
        self._speaks = self._speaks or await self._retried(lambda: self._tts.info.remote())
        keys = self._before.keys(request.speech, self._speaks, avatar.ref, engine, request.phase)
        film = await asyncio.to_thread(self._before.film, keys)
        speech = None if film is not None else await asyncio.to_thread(self._before.speech, keys)
        self._metrics.cache.inc(tags={"found": "segments" if film is not None else "no" if speech is None else "speech"})
        if film is not None:
            film = with_replay_head(film, began)
        return Asked(began, engine, avatar, keys, film, speech, keeps=request.keep or speech is not None)

    def _begin(self, request: VideoRequest, asked: Asked) -> UtterancePipeline:
        utterance = UtterancePipeline(
            asked.avatar.background(asked.engine.name),
            self._chunks(request, asked),
            asked.engine,
            self._listen,
            self._render,
            self._config,
            self._pool,
            utterance=request.utterance,
            paced=request.paced,
            phase=request.phase,
            max_s=self._limits.max_utterance_s,
        )
        utterance.timings.started = asked.began
        utterance.timings.mark("avatar")
        return utterance

    def _chunks(self, request: VideoRequest, asked: Asked) -> AsyncIterator[SpeechChunk]:
        if request.speech is None:
            return self._upload(request.audio or b"")
        if asked.speech is not None:
            return replay_speech(asked.speech)
        return recording(self._speech(request.speech), lambda chunks: self._keep_speech(asked, chunks))

    def _keep_speech(self, asked: Asked, chunks: list[SpeechChunk]) -> None:
        if self._lasting(asked, "".join(chunk.notice for chunk in chunks)):
            asyncio.get_running_loop().run_in_executor(None, self._before.keep_speech, asked.keys, chunks)

    def _lasting(self, asked: Asked, notice: str) -> bool:
        """Whether this may be kept: not when an offline voice spoke because the provider failed just now."""
        return asked.keys is not None and not (notice and self._speaks["engine"] == "openai")

    async def _speech(self, request: SpeechRequest) -> AsyncGenerator[SpeechChunk, None]:
        async with aclosing(pulled(self._tts_stream.stream.remote(request))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _upload(self, data: bytes) -> AsyncIterator[SpeechChunk]:
        pcm = await asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: decode_speech(data, min_s=self._limits.min_audio_s, max_s=self._limits.max_audio_s)
        )
        for start in range(0, len(pcm), UPLOAD_CHUNK):
            yield SpeechChunk(start, pcm[start : start + UPLOAD_CHUNK], final=start + UPLOAD_CHUNK >= len(pcm), engine="upload")

    async def _listen(self, speech: SpeechWindow) -> Conditioning:
        heard: Conditioning = await self._retried(lambda: self._lipsync.listen.remote(speech))
        return heard

    async def _render(self, request: RenderRequest) -> RenderedCrops:
        rendered: RenderedCrops = await self._retried(lambda: self._lipsync.render.remote(request))
        self._metrics.queue_ms.observe(rendered.queue_ms)
        return rendered

    async def _retried(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Await a call to an idempotent method; send it again when the replica was lost. Cancelling cancels the call down to its queue."""
        for attempt in range(self._config.retries + 1):
            response = call()
            try:
                return await asyncio.wait_for(response, self._config.segment_timeout_s)
            except LOST as error:
                self._metrics.retries.inc()
                logger.warning("call %d of %d failed, sending again: %s", attempt + 1, self._config.retries + 1, type(error).__name__)
                last = error
                await asyncio.sleep(0.05 * 4**attempt)
            except (RayTaskError, MuseserveError) as error:  # which of them depends on the transport
                last = unwrap(error)
                if not isinstance(last, DeviceLostError):
                    raise last from None
                # Until its replica is replaced another one may answer.
                self._metrics.retries.inc()
                logger.warning("call %d of %d failed, sending again: %s", attempt + 1, self._config.retries + 1, last)
                await asyncio.sleep(0.05 * 4**attempt)
            except asyncio.CancelledError:
                response.cancel()  # type: ignore[attr-defined]
                raise
        if isinstance(last, BackPressureError):
            raise BusyError("the lip-sync replicas are full; try again in a moment") from None
        raise RenderError(f"a segment failed {self._config.retries + 1} times, last with {type(last).__name__}") from None

    async def _engine_info(self) -> EngineInfo:
        if self._engine is None:
            self._engine = await self._retried(lambda: self._lipsync.info.remote())
        assert self._engine is not None
        return self._engine

    def _count_live(self, change: int) -> None:
        self._live += change
        self._metrics.live.set(self._live)

    def _observe_first(self, utterance: UtterancePipeline, request: VideoRequest) -> None:
        timings = utterance.timings
        self._metrics.first_fragment_s.observe(timings.first_ms["first_fragment"] / 1e3, tags={"source": "text" if request.speech else "audio"})
        for stage, ms in timings.first_ms.items():
            self._metrics.stage_ms.observe(ms, tags={"stage": stage})

    def _observe_end(self, utterance: UtterancePipeline) -> None:
        timings = utterance.timings
        if timings.frames:
            self._metrics.encode_ms.observe(timings.encode_ms / timings.frames)
            for kind, frames in (("speaking", timings.speaking_frames), ("idle", timings.frames - timings.speaking_frames)):
                if frames > 0:
                    self._metrics.frames.inc(frames, tags={"kind": kind})
        if timings.underruns:
            self._metrics.underruns.inc(timings.underruns)
        logger.info(
            "utterance: first fragment %.0f ms, %d frames (%d speaking), %d underruns, render %.1f ms and encode %.1f ms a frame",
            timings.first_ms.get("first_fragment", -1.0),
            timings.frames,
            timings.speaking_frames,
            timings.underruns,
            timings.render_ms / max(timings.speaking_frames, 1),
            timings.encode_ms / max(timings.frames, 1),
        )
