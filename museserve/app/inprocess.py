"""The same pipeline in one process, with no Ray and no server: what `museserve say` runs and what the graph's cost is measured against."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from configs.models import AppConfig
from museserve.media.decode import decode_speech
from museserve.media.mp4 import to_mp4
from museserve.media.text_track import TextTrack
from museserve.messages import Conditioning, Fragment, RenderedCrops, RenderRequest, SpeechChunk, SpeechRequest, SpeechWindow, Word
from museserve.pipeline.cache import UtteranceCache, recording, replay_speech
from museserve.pipeline.utterance import UtterancePipeline
from museserve.runtime import cpu
from museserve.runtime.deadline_executor import DeadlineExecutor
from museserve.speech.synthesizer import Synthesizer
from museserve.timebase import SPEECH_RATE
from musetalk.avatars.builtin import resolve
from musetalk.avatars.store import AvatarStore
from musetalk.factory import MUSETALK, load_engine, prepare_shipped, shipped_store


class Studio:
    """Everything loaded once; `film` as often as wanted.

    Raises, when made: EngineUnavailableError, ConfigError.
    """

    def __init__(self, config: AppConfig, store: AvatarStore | None = None) -> None:
        self._config = config
        self.store = store or shipped_store(config, config.mux.avatar_cache_bytes)
        self.engine = load_engine(config, self.store)
        if self.engine.info.name == MUSETALK:
            prepare_shipped(config, self.store)
        self.synthesizer = Synthesizer(config.speech)
        self._draw = ThreadPoolExecutor(cpu.usable_cores(), thread_name_prefix="draw")
        self._encode = DeadlineExecutor([math.inf] * config.mux.encode_threads)

    def utterance(
        self,
        avatar: str,
        speech: SpeechRequest | None = None,
        audio: bytes | None = None,
        spoken: AsyncIterator[SpeechChunk] | None = None,
        phase: int = 0,
    ) -> UtterancePipeline:
        """An utterance ready to film. Exactly one of `speech` and `audio` (an encoded file's bytes); spoken: its sound, if it is there.

        phase: the idle frame that its first picture is drawn on.
        """
        prepared = self.store.load(resolve(avatar))
        prepared.require(self.engine.info)
        chunks = spoken or (self.synthesizer.stream(speech) if speech is not None else self._upload(audio or b""))
        return UtterancePipeline(
            prepared.background(self.engine.info.name),
            chunks,
            self.engine.info,
            self._listen,
            self._render,
            self._config.mux,
            self._encode,
            paced=False,
            phase=phase,
            max_s=self._config.limits.max_utterance_s,
        )

    async def _listen(self, speech: SpeechWindow) -> Conditioning:
        return await asyncio.get_running_loop().run_in_executor(self._draw, self.engine.listen, speech)

    async def _render(self, request: RenderRequest) -> RenderedCrops:
        crops = await asyncio.get_running_loop().run_in_executor(self._draw, self.engine.render, [request])
        return RenderedCrops(crops[0])

    async def _upload(self, audio: bytes) -> AsyncIterator[SpeechChunk]:
        limits = self._config.limits
        pcm = await asyncio.to_thread(lambda: decode_speech(audio, min_s=limits.min_audio_s, max_s=limits.max_audio_s))
        step = 2 * SPEECH_RATE
        for start in range(0, len(pcm), step):
            yield SpeechChunk(start, pcm[start : start + step], final=start + step >= len(pcm), engine="upload")


async def render_to_file(
    studio: Studio,
    out: Path,
    *,
    avatar: str,
    speech: SpeechRequest | None = None,
    audio: bytes | None = None,
    text_track: bool = False,
    on_progress: Callable[[int, int | None], Any] = lambda frames, total: None,
) -> tuple[UtterancePipeline, list[Word]]:
    """Film into a finished mp4 at `out`, which appears only when it is complete. text_track: with captions inside.

    on_progress(frames so far, total when known).
    """
    utterance = studio.utterance(avatar, speech, audio)
    parts: list[bytes] = []
    words: list[Word] = []
    async for fragment in utterance.fragments():
        parts.append(fragment.data)
        words.extend(fragment.words)
        on_progress(_frames(fragment), utterance.total_frames)
    track = TextTrack.of(words, speech, utterance.total_frames or 0) if text_track and speech is not None else None
    partial = out.with_name(out.name + ".part")
    try:
        with partial.open("wb") as file:
            to_mp4(parts, file, track)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return utterance, words


async def prerender(studio: Studio, before: UtteranceCache, avatar: str, speech: SpeechRequest) -> tuple[bool, int]:
    """Put an utterance into the cache. Returns whether it was there, and its frames."""
    ref = studio.store.resolve(avatar)
    keys = before.keys(speech, studio.synthesizer.info, ref, studio.engine.info, 0)
    film = before.film(keys)
    if film is not None:
        return True, _frames(film[-1])
    known = before.speech(keys)
    spoken = replay_speech(known) if known else recording(studio.synthesizer.stream(speech), lambda chunks: before.keep_speech(keys, chunks))
    made = [fragment async for fragment in studio.utterance(avatar, speech, spoken=spoken).fragments()]
    before.keep_film(keys, made)
    return False, _frames(made[-1])


def _frames(fragment: Fragment) -> int:
    return fragment.first_frame + fragment.n_frames
