"""What an agent does with sound, and what a runner does with frames."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from livekit import rtc
from livekit.agents.voice import avatar
from livekit.plugins.museserve import VideoGenerator

RATE = 24_000
PIECE = 4_800  # bytes: 100 ms


def frames_of(pcm: bytes, rate: int = RATE, channels: int = 1) -> list[rtc.AudioFrame]:
    pieces = [pcm[at : at + PIECE * channels] for at in range(0, len(pcm), PIECE * channels)]
    return [rtc.AudioFrame(piece, rate, channels, len(piece) // 2 // channels) for piece in pieces]


async def push(generator: VideoGenerator, pcm: bytes, end: bool = True) -> None:
    for frame in frames_of(pcm):
        await generator.push_audio(frame)
    if end:
        await generator.push_audio(avatar.AudioSegmentEnd())


class Pulled:
    """Everything that a generator gives, pulled as it comes."""

    def __init__(self, generator: VideoGenerator) -> None:
        self._generator = generator
        self.frames: list[Any] = []

    async def __aenter__(self) -> Pulled:
        self._task = asyncio.create_task(self._pull())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _pull(self) -> None:
        async for frame in self._generator:
            self.frames.append(frame)

    @property
    def pictures(self) -> list[rtc.VideoFrame]:
        return [frame for frame in self.frames if isinstance(frame, rtc.VideoFrame)]

    @property
    def sound(self) -> bytes:
        return b"".join(bytes(frame.data.cast("B")) for frame in self.frames if isinstance(frame, rtc.AudioFrame))

    @property
    def ends(self) -> int:
        return sum(isinstance(frame, avatar.AudioSegmentEnd) for frame in self.frames)
