"""What of a stream has come, so that after the loss of its replica another is asked for no more than the rest."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from museserve.errors import SpeechEngineError
from museserve.messages import PROVIDER, Fragment, SpeechChunk, VideoRequest, Word
from museserve.timebase import SEGMENT_FRAMES, SPEECH_RATE


class SpeechSoFar:
    """How much of an utterance's speech has come."""

    def __init__(self) -> None:
        self._samples = self._words = 0
        self._by_provider = False

    def check(self) -> None:
        """Before the speech is asked for again. Raises SpeechEngineError when a provider's voice had begun."""
        if self._by_provider:
            came_s = self._samples / SPEECH_RATE
            raise SpeechEngineError(f"the speech broke off after {came_s:.1f} s: its replica was lost, and the provider would not go on as it began")

    async def rest(self, chunks: AsyncGenerator[SpeechChunk, None]) -> AsyncGenerator[SpeechChunk, None]:
        """What has not come yet of `chunks`, the whole speech from its beginning."""
        known_words = self._words
        async with aclosing(chunks):
            async for chunk in chunks:
                words, known_words = chunk.words[known_words:], max(0, known_words - len(chunk.words))
                missing = chunk.start + len(chunk.pcm) - self._samples
                if missing <= 0 and not chunk.final:
                    continue
                # Also by a few samples: espeak-ng's clauses are not equally long every time.
                if chunk.start < self._samples:
                    pcm = chunk.pcm[len(chunk.pcm) - max(0, missing) :]
                    phonemes = None if chunk.phonemes is None else tuple(p for p in chunk.phonemes if p.start >= self._samples)
                    chunk = replace(chunk, start=self._samples, pcm=pcm, phonemes=phonemes)
                self._samples += len(chunk.pcm)
                self._words += len(words)
                self._by_provider = self._by_provider or chunk.engine == PROVIDER
                yield replace(chunk, words=words)


class FilmSoFar:
    """How much of an utterance's video has come."""

    def __init__(self, request: VideoRequest) -> None:
        self._request = request
        self._next = request.first_frame
        self._words = 0
        self._begun = False

    def request(self) -> VideoRequest:
        """For what is missing, from the border of its first segment on; a new object every time."""
        return replace(self._request, first_frame=self._border, claimed=self._request.claimed and not self._begun)

    @property
    def _border(self) -> int:
        return self._next - self._next % SEGMENT_FRAMES

    async def rest(self, fragments: AsyncGenerator[Fragment, None]) -> AsyncGenerator[Fragment, None]:
        """What has not come yet of `fragments`, the answer to `request()`, without a second init segment and head.

        Where it begins in mid-utterance, the pieces of its first segment are given together: of the next answer, that
        segment may have other pieces, because it was kept as one.

        Raises ConnectionError when they end too early, or are not those that are missing.
        """
        again, together = self._begun, self._border > 0
        known_words, carried, held = self._words, list[Word](), list[Fragment]()
        final = False
        async with aclosing(fragments):
            async for fragment in fragments:
                final = fragment.final
                if again and fragment.head is not None:
                    fragment = replace(fragment, data=_without_init(fragment.data), head=None)
                carried += fragment.words[known_words:]
                known_words = max(0, known_words - len(fragment.words))
                end = fragment.first_frame + fragment.n_frames
                if end <= self._next and not final:
                    continue
                held.append(replace(fragment, words=tuple(carried)))
                carried.clear()
                if together and end % SEGMENT_FRAMES:
                    continue
                for missing in held:
                    if missing.n_frames and missing.first_frame != self._next:
                        raise ConnectionError(f"frame {self._next} was missing, and frame {missing.first_frame} came")
                    self._next = missing.first_frame + missing.n_frames
                    self._words += len(missing.words)
                    self._begun = True
                    yield missing
                held.clear()
        if not final:
            raise ConnectionError("the stream ended before its last fragment")


def _without_init(data: bytes) -> bytes:
    at = data.find(b"moof")
    return data[at - 4 :] if at >= 0 else b""
