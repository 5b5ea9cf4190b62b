"""Real implementations of the protocols with knobs: predictable speech and pictures, delays and failures on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np

from museserve.errors import SpeechEngineError
from museserve.media.background import Background
from museserve.messages import AvatarRef, Box, ByteArray, Conditioning, EngineInfo, RenderedCrops, RenderRequest, SpeechChunk, SpeechWindow, Word
from museserve.timebase import SEGMENT_FRAMES, SPEECH_RATE

INFO = EngineInfo("fake", "asked for by a test", "1", "cpu", context_s=0.4, lookahead_s=0.2)


class FakeSpeech:
    """Chunks of a 220 Hz tone. fail_after: chunks before a SpeechEngineError; delay_s: before each chunk; engine: which they name."""

    def __init__(self, seconds: float, *, chunk_s: float = 0.5, delay_s: float = 0.0, fail_after: int | None = None, engine: str = "fake") -> None:
        self.seconds, self.chunk_s, self.delay_s, self.fail_after, self.engine = seconds, chunk_s, delay_s, fail_after, engine
        self.closed = False
        self.sent = 0

    async def stream(self) -> AsyncIterator[SpeechChunk]:
        total, step = round(self.seconds * SPEECH_RATE), round(self.chunk_s * SPEECH_RATE)
        try:
            for i, start in enumerate(range(0, total, step)):
                await asyncio.sleep(self.delay_s)
                if i == self.fail_after:
                    raise SpeechEngineError("the line went dead")
                n = np.arange(start, min(start + step, total))
                pcm = (0.3 * np.sin(2 * np.pi * 220 * n / SPEECH_RATE)).astype(np.float32)
                self.sent += 1
                yield SpeechChunk(start, pcm, None, (Word(f"w{i}", start, start + len(pcm)),), final=start + step >= total, engine=self.engine)
        finally:
            self.closed = True


class FakeLips:
    """Rows hold the frame's own number; crops are filled with the number of the background frame. silent: frames in which nobody speaks."""

    def __init__(self, box: Box, *, render_s: float = 0.0, silent: range = range(0), fail_at: int | None = None) -> None:
        self.box, self.render_s, self.silent, self.fail_at = box, render_s, silent, fail_at
        self.heard: list[int] = []
        self.asked: list[tuple[int, ...]] = []
        self.in_flight = self.most_in_flight = 0
        self.cancelled = 0

    async def listen(self, speech: SpeechWindow) -> Conditioning:
        await asyncio.sleep(0)
        frames = np.arange(speech.first_frame, speech.first_frame + speech.n_frames)
        self.heard.extend(frames.tolist())
        return Conditioning(speech.first_frame, frames[:, None].astype(np.float32), ~np.isin(frames, self.silent))

    async def render(self, request: RenderRequest) -> RenderedCrops:
        self.in_flight += 1
        self.most_in_flight = max(self.in_flight, self.most_in_flight)
        self.asked.append(request.background)
        try:
            await asyncio.sleep(self.render_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1
        if self.fail_at is not None and self.fail_at in request.rows[:, 0]:
            raise RuntimeError("device lost")
        levels = np.asarray(request.background, np.uint8)[:, None, None]
        return RenderedCrops(np.broadcast_to(levels, (request.n_frames, self.box.h * 3 // 2, self.box.w)).copy(), render_ms=self.render_s * 1e3)


def background(size: int = 64, n_frames: int = 4 * SEGMENT_FRAMES) -> Background:
    """A grey idle loop with a box in its middle."""
    frames: ByteArray = np.full((n_frames, size * 3 // 2, size), 128, np.uint8)
    return Background(AvatarRef("grey", "1"), frames, Box(size // 4, size // 4, size // 2, size // 2))
