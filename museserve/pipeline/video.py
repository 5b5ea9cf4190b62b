"""From a request to its video: the avatar, the cache, the speech, the utterance.

Mux runs it on the cluster's engines, one process on its own.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

from configs.models import AppConfig, MuxConfig
from museserve.errors import AudioError, RequestError
from museserve.media.decode import decode_speech
from museserve.media.label import Label, check_label, label_for
from museserve.media.mp4 import to_mp4
from museserve.media.provenance import Marks, Origin
from museserve.media.text_track import TextTrack
from museserve.messages import CacheHit, FilmHead, Fragment, SpeechChunk, SpeechInfo, VideoRequest, Word
from museserve.pipeline.cache import CacheKeys, UtteranceCache, joins, recording, replay, replay_speech
from museserve.pipeline.engines import Engines, FilmedAvatar, LipSync, OpenAvatar, Place
from museserve.pipeline.utterance import Timings, UtterancePipeline, UtterancePlan
from museserve.runtime.deadline_executor import DeadlineExecutor
from museserve.runtime.foreign import READERS
from museserve.timebase import FPS, SEGMENT_FRAMES, SPEECH_RATE

UPLOAD_CHUNK = 2 * SPEECH_RATE
FILE_CHUNK = 2**20


class Observer(Protocol):
    """Who wants to know how it goes."""

    def looked_up(self, found: CacheHit) -> None: ...

    def first_fragment(self, timings: Timings, request: VideoRequest) -> None: ...

    def encoded(self, frames: int, began: float) -> None:
        """A fragment was composed and encoded, beginning at `began` by `time.perf_counter`."""

    def tight(self) -> None:
        """A live stream has hardly anything in hand."""

    def ended(self, timings: Timings) -> None: ...


@dataclass(frozen=True)
class _Lookup:
    """An utterance before it is filmed: since when, with what, and what the cache has of it."""

    began: float
    lipsync: LipSync
    avatar: FilmedAvatar
    speech_info: SpeechInfo | None = None
    keys: CacheKeys | None = None
    fragments: list[Fragment] | None = None
    speech: list[SpeechChunk] | None = None
    keep_fragments: bool = False

    @property
    def hit(self) -> CacheHit:
        return "segments" if self.fragments is not None else "no" if self.speech is None else "speech"

    def lasting(self, notice: str) -> bool:
        """Whether what was made may be kept: not when an offline voice spoke because the provider failed just now."""
        return self.speech_info is not None and not (notice and self.speech_info.engine == "openai")


class VideoPipeline:
    """`stream` and `film` take requests side by side.

    Args:
        config: limits, pacing, encoding.
        open_avatar: an avatar by its id, from a store; called in a thread. Raises UnknownAvatarError, EngineError.
        executor: where frames are composed and encoded, those that are needed first before all others.
        cache: of finished utterances; None = nothing is kept.
        place: what an utterance needs to be drawn; one out of the cache needs none.
    Raises:
        ConfigError: the label cannot be drawn, or the certificate does not sign.
    """

    def __init__(
        self,
        config: AppConfig,
        engines: Engines,
        open_avatar: OpenAvatar,
        executor: DeadlineExecutor,
        cache: UtteranceCache | None = None,
        observer: Observer | None = None,
        place: Place = lambda request: nullcontext(),
    ) -> None:
        self._config, self._limits = config.mux, config.limits
        self._engines, self._open_avatar, self._executor = engines, open_avatar, executor
        self._cache = cache
        self._observer = observer
        self._label = config.label
        check_label(config.label)
        self._marks = Marks(config.provenance)
        self._marks.signer  # noqa: B018  # what is wrong with a certificate is told at start
        self._place = place

    def configure(self, config: MuxConfig) -> None:
        """For the utterances that begin from now on."""
        self._config = config

    async def stream(self, request: VideoRequest, arriving: AsyncIterator[SpeechChunk] | None = None) -> AsyncGenerator[Fragment, None]:
        """Fragments as they are made, the first with the init segment and the head.

        arriving: the speech, where the request says that it is sent by other calls.

        Raises:
            RequestError, BusyError: before the first fragment. EngineError: at any time.
        """
        async with aclosing(self._stream(request, arriving=arriving)) as fragments:
            async for fragment in fragments:
                yield fragment

    async def film(self, request: VideoRequest) -> AsyncGenerator[FilmHead | bytes, None]:
        """A finished mp4 (faststart): what is known of it, then the file in pieces.

        Raises as `stream`, before the first item.
        """
        finished = await self.finished(request)
        head = finished.fragments[0].head
        assert head is not None
        file = io.BytesIO()
        await asyncio.get_running_loop().run_in_executor(self._executor, finished.write, file)
        yield FilmHead(head, finished.words)
        data = file.getbuffer()
        for at in range(0, len(data), FILE_CHUNK):
            yield bytes(data[at : at + FILE_CHUNK])

    async def finished(self, request: VideoRequest, on_fragment: Callable[[Fragment], object] = lambda fragment: None) -> FinishedFilm:
        """A whole utterance for a file: labelled where that is configured, and what it is marked with. Raises as `stream`."""
        avatar = await asyncio.to_thread(self._open_avatar, request.avatar)
        label = label_for(self._label, request.speech, avatar.uploaded)
        fragments = []
        async with aclosing(self._stream(request, label)) as made:
            async for fragment in made:
                fragments.append(fragment)
                on_fragment(fragment)
        head = fragments[0].head
        assert head is not None
        voice = head.speech_engine if request.speech is not None else ""
        lipsync = (await self._engines.lipsync()).info
        origin = Origin(avatar.ref.id, avatar.ref.version, avatar.uploaded, voice, lipsync.name)
        return FinishedFilm(request, fragments, origin, self._marks)

    async def _stream(
        self, request: VideoRequest, label: Label | None = None, arriving: AsyncIterator[SpeechChunk] | None = None
    ) -> AsyncGenerator[Fragment, None]:
        """label: is drawn on every picture."""
        if request.first_frame < 0 or request.first_frame % SEGMENT_FRAMES:
            raise RequestError(f"first_frame must be a multiple of {SEGMENT_FRAMES}, 0 or more, got {request.first_frame}")
        lookup = await self._look_up(request, label)
        if lookup.fragments is None:
            fragments, place = self._film(request, lookup, label, arriving), self._place(request)
        else:
            fragments, place = self._replay(request, lookup), nullcontext()
        async with place, aclosing(fragments):
            async for fragment in fragments:
                yield fragment

    async def _look_up(self, request: VideoRequest, label: Label | None) -> _Lookup:
        """The avatar, and what is known of this utterance from before."""
        began = time.perf_counter()
        lipsync = await self._engines.lipsync()
        avatar = await asyncio.to_thread(self._open_avatar, request.avatar)
        avatar.require(lipsync.info)
        if self._cache is None or request.speech is None:
            return _Lookup(began, lipsync, avatar)
        speech_info = await self._engines.speech()
        keys = self._cache.keys(request.speech, speech_info, avatar.ref, lipsync.info, request.phase, label, request.tenant, request.rendition)
        fragments = await asyncio.to_thread(self._cache.fragments, keys)
        if fragments is not None and not joins(fragments, request.first_frame):
            fragments = None  # its speech is there
        speech = None if fragments is not None else await asyncio.to_thread(self._cache.speech, keys)
        keep = (request.keep or speech is not None) and request.first_frame == 0  # a part is not kept
        if fragments is not None and request.keep:
            await asyncio.to_thread(self._cache.keep_longer, keys)
        lookup = _Lookup(began, lipsync, avatar, speech_info, keys, fragments, speech, keep)
        if self._observer is not None:
            self._observer.looked_up(lookup.hit)
        return lookup

    async def _film(
        self, request: VideoRequest, lookup: _Lookup, label: Label | None, arriving: AsyncIterator[SpeechChunk] | None
    ) -> AsyncGenerator[Fragment, None]:
        background = await asyncio.to_thread(lookup.avatar.background, lookup.lipsync.info.name)  # its first use may fetch 100 MB
        utterance = UtterancePipeline(
            background,
            arriving or self._chunks(request, lookup),
            lookup.lipsync,
            self._config,
            self._executor,
            UtterancePlan(
                request.utterance,
                request.paced,
                request.phase,
                self._limits.max_utterance_s,
                request.first_frame,
                label,
                recorded=request.audio is not None,
                live=request.arriving is not None,
                rendition=request.rendition,
            ),
            Timings(lookup.began),
            self._observer.encoded if self._observer is not None else None,
            self._observer.tight if self._observer is not None else None,
        )
        utterance.timings.mark("avatar")
        made: list[Fragment] = []
        fragments = utterance.fragments()
        try:
            async for fragment in fragments:
                if fragment.head is not None:
                    if self._observer is not None:
                        self._observer.first_fragment(utterance.timings, request)
                    fragment = replace(fragment, head=replace(fragment.head, cached=lookup.hit))
                if lookup.keep_fragments:
                    made.append(fragment)
                yield fragment
        finally:
            await fragments.aclose()
            if self._observer is not None:
                self._observer.ended(utterance.timings)
        if made and self._cache is not None and lookup.keys is not None and lookup.lasting(utterance.notice):
            await asyncio.to_thread(self._cache.keep_fragments, lookup.keys, made, long=request.keep)

    async def _replay(self, request: VideoRequest, lookup: _Lookup) -> AsyncGenerator[Fragment, None]:
        began = time.perf_counter()
        for fragment in replay(lookup.fragments or [], lookup.began, request.first_frame):
            wait_s = (fragment.first_frame - request.first_frame) / FPS - self._config.lead_s - (time.perf_counter() - began)
            if request.paced and wait_s > 0:
                await asyncio.sleep(wait_s)
            yield fragment

    def _chunks(self, request: VideoRequest, lookup: _Lookup) -> AsyncIterator[SpeechChunk]:
        if request.speech is None:
            return self._uploaded(request.audio or b"")
        if lookup.speech is not None:
            return replay_speech(lookup.speech)
        spoken = self._engines.synthesize(request.speech)
        return spoken if lookup.keys is None else recording(spoken, lambda chunks: self._keep_speech(lookup, chunks))

    async def _uploaded(self, audio: bytes) -> AsyncIterator[SpeechChunk]:
        limits = self._limits
        lengths = {"min_s": limits.min_audio_s, "max_s": limits.max_audio_s}
        pcm = await asyncio.to_thread(READERS.array, AudioError, "the recording", decode_speech, audio, **lengths)
        for start in range(0, len(pcm), UPLOAD_CHUNK):
            chunk = pcm[start : start + UPLOAD_CHUNK]
            yield SpeechChunk(start, chunk, final=start + UPLOAD_CHUNK >= len(pcm), engine="upload")

    def _keep_speech(self, lookup: _Lookup, chunks: list[SpeechChunk]) -> None:
        assert self._cache is not None and lookup.keys is not None
        if lookup.lasting("".join(chunk.notice for chunk in chunks)):
            asyncio.get_running_loop().run_in_executor(None, self._cache.keep_speech, lookup.keys, chunks)


@dataclass(frozen=True)
class FinishedFilm:
    """All fragments of an utterance, ready to be written into a file."""

    request: VideoRequest
    fragments: list[Fragment]
    origin: Origin
    marks: Marks

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for fragment in self.fragments for word in fragment.words)

    def write(self, file: BinaryIO) -> None:
        """As a finished mp4, with captions inside where the request wants them, and marked as generated. Raises EngineError."""
        request, last = self.request, self.fragments[-1]
        frames = last.first_frame + last.n_frames
        track = TextTrack.of(self.words, request.speech, frames) if request.text_track and request.speech is not None else None
        film = io.BytesIO()
        to_mp4([fragment.data for fragment in self.fragments], film, track)
        file.write(self.marks.finish(film.getvalue(), self.origin))
