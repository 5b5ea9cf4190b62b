"""Speech that is sent while it is made: PCM by calls of their own, as chunks for the stream that they belong to. No Ray."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import av
import numpy as np

from museserve.errors import RequestError
from museserve.messages import ArrivingSound, FloatArray, SoundPiece, SpeechChunk
from museserve.timebase import SPEECH_RATE

STREAM_S, LOOK_S = 2.0, 0.01  # how long a piece waits for its stream, whose call it may have overtaken, and how often it looks


class Arrivals:
    """The sounds of the streams that run in this process, by name."""

    def __init__(self) -> None:
        self._sounds: dict[str, ArrivingSpeech] = {}

    @contextmanager
    def of(self, sound: ArrivingSound | None) -> Iterator[AsyncIterator[SpeechChunk] | None]:
        """The chunks of a stream's sound while it runs. None: it has none."""
        if sound is None:
            yield None
            return
        speech = self._sounds[sound.name] = ArrivingSpeech(sound.rate)
        try:
            yield speech.chunks()
        finally:
            del self._sounds[sound.name]

    async def add(self, piece: SoundPiece) -> None:
        """Raises RequestError: its stream is over, or does not run here; a piece before it is missing."""
        until = time.monotonic() + STREAM_S
        while (speech := self._sounds.get(piece.follows)) is None:
            if time.monotonic() >= until:
                raise RequestError("no stream takes this sound: it is over, or runs elsewhere")
            await asyncio.sleep(LOOK_S)
        speech.add(piece)


class ArrivingSpeech:
    """`add` pieces in order, `chunks` once."""

    def __init__(self, rate: int) -> None:
        self._to_speech = ToSpeechRate(rate)
        self._samples = 0
        self._held: list[FloatArray] = []
        self._final = False
        self._came = asyncio.Event()

    def add(self, piece: SoundPiece) -> None:
        """What came before is passed over. Raises RequestError when something before it is missing."""
        if piece.start > self._samples:
            raise RequestError(f"the sound goes on at sample {piece.start}, and {self._samples} came")
        pcm = np.frombuffer(piece.pcm, "<i2")[self._samples - piece.start :]
        if self._final:
            return
        self._samples += len(pcm)
        self._held.append(self._to_speech.push(pcm))
        if piece.final:
            self._held.append(self._to_speech.finish())
            self._final = True
        self._came.set()

    async def chunks(self) -> AsyncIterator[SpeechChunk]:
        """What came since the last one, as one; the last is final."""
        start = 0
        while True:
            await self._came.wait()
            self._came.clear()
            pcm, final = np.concatenate(self._held or [np.zeros(0, np.float32)]), self._final
            self._held.clear()
            if len(pcm) or final:
                yield SpeechChunk(start, pcm, final=final, engine="upload")
            if final:
                return
            start += len(pcm)


class ToSpeechRate:
    """int16 (n,) at `rate` -> float32 at SPEECH_RATE, in a stream; sample 0 stays where it is. Holds back about a millisecond."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._resampler = None if rate == SPEECH_RATE else av.AudioResampler(format="fltp", layout="mono", rate=SPEECH_RATE)

    def push(self, pcm: np.ndarray[tuple[int], np.dtype[np.int16]]) -> FloatArray:
        """What can be said for certain so far."""
        if self._resampler is None:
            return np.multiply(pcm, 1 / 32_768, dtype=np.float32)
        if not len(pcm):
            return np.zeros(0, np.float32)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = self._rate, None
        return self._resampled(frame)

    def finish(self) -> FloatArray:
        """The rest, as if silence followed."""
        return np.zeros(0, np.float32) if self._resampler is None else self._resampled(None)

    def _resampled(self, frame: av.AudioFrame | None) -> FloatArray:
        assert self._resampler is not None
        parts = [out.to_ndarray()[0] for out in self._resampler.resample(frame)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)
