"""The least of a bot: what a TTS service sends goes in, and all that comes out is kept with its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pipecat.frames.frames import EndFrame, ErrorFrame, Frame, OutputImageRawFrame, TTSAudioRawFrame, TTSStartedFrame, TTSStoppedFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner
from pipecat_museserve import MuseserveVideoService

RATE = 24_000
PATIENCE_S = 60.0  # on a machine that is busy the pictures come when they come


class Kept(FrameProcessor):
    """Frames that pass in one direction, with the time at which each did (perf_counter).

    small: of pictures each fourth line and column of the luma.
    """

    def __init__(self, direction: FrameDirection, small: bool = False) -> None:
        super().__init__()
        self._direction, self._small = direction, small
        self.frames: list[tuple[float, Frame]] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction is self._direction:
            now = time.perf_counter()
            self.frames.append((now, shrunk(frame) if self._small and isinstance(frame, OutputImageRawFrame) else frame))
        await self.push_frame(frame, direction)


class Bot:
    def __init__(self, worker: PipelineWorker, up: Kept, down: Kept) -> None:
        self.worker, self._up, self._down = worker, up, down

    async def send(self, *frames: Frame) -> None:
        for frame in frames:
            await self.worker.queue_frame(frame)

    async def say(self, pcm: bytes, context: str, **more: Any) -> None:
        await self.send(*said(pcm, context, **more))

    async def until(self, check: Callable[[], object], seconds: float = 60.0) -> None:
        for _ in range(round(seconds / 0.02)):
            if check():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"not so after {seconds} s; the last that came: {[str(frame) for frame in self.frames[-6:]]}")

    def forget(self) -> None:
        self._down.frames.clear()
        self._up.frames.clear()

    @property
    def timed(self) -> list[tuple[float, Frame]]:
        return self._down.frames

    @property
    def frames(self) -> list[Frame]:
        return [frame for _, frame in self._down.frames]

    @property
    def upstream(self) -> list[Frame]:
        return [frame for _, frame in self._up.frames]

    @property
    def pictures(self) -> list[OutputImageRawFrame]:
        return pictures_of(self.frames)

    @property
    def errors(self) -> list[ErrorFrame]:
        return [frame for frame in self.upstream if isinstance(frame, ErrorFrame)]

    def sound(self, context: str | None = None) -> bytes:
        return sound_of(self.frames, context)

    def came(self, kind: type[Frame]) -> list[float]:
        return [at for at, frame in self._down.frames if isinstance(frame, kind)]

    def stopped(self, context: str) -> bool:
        return bool(self.stopped_at(context))

    def stopped_at(self, context: str) -> float:
        """0 where it was not."""
        return next((at for at, frame in self.timed if isinstance(frame, TTSStoppedFrame) and frame.context_id == context), 0.0)


@asynccontextmanager
async def talking(
    service: MuseserveVideoService, *after: FrameProcessor, params: PipelineParams | None = None, small: bool = False
) -> AsyncIterator[Bot]:
    up, down = Kept(FrameDirection.UPSTREAM), Kept(FrameDirection.DOWNSTREAM, small)
    worker = PipelineWorker(Pipeline([up, service, down, *after]), cancel_on_idle_timeout=False, enable_rtvi=False, params=params)
    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def on_pipeline_started(worker: PipelineWorker, frame: Frame) -> None:
        started.set()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    await asyncio.wait_for(started.wait(), 60)
    try:
        yield Bot(worker, up, down)
        await worker.queue_frame(EndFrame())
        await asyncio.wait_for(running, 120)
    finally:
        if not running.done():
            await worker.cancel()
            await running


def said(pcm: bytes, context: str, rate: int = RATE, channels: int = 1, end: bool = True, begin: bool = True) -> list[Frame]:
    """What a TTS service sends, 100 ms at a time."""
    piece = rate // 10 * 2 * channels
    sound = [TTSAudioRawFrame(pcm[at : at + piece], rate, channels, context_id=context) for at in range(0, len(pcm), piece)]
    started, stopped = TTSStartedFrame(context_id=context), TTSStoppedFrame(context_id=context)
    return [*([started] if begin else []), *sound, *([stopped] if end else [])]


def pictures_of(frames: list[Frame]) -> list[OutputImageRawFrame]:
    return [frame for frame in frames if isinstance(frame, OutputImageRawFrame)]


def sound_of(frames: list[Frame], context: str | None = None) -> bytes:
    sound = [frame for frame in frames if isinstance(frame, TTSAudioRawFrame)]
    return b"".join(frame.audio for frame in sound if context in (None, frame.context_id))


def shrunk(picture: OutputImageRawFrame) -> OutputImageRawFrame:
    width, height = picture.size
    rgb = np.frombuffer(picture.image, np.uint8).reshape(height, width, 3)[::4, ::4].astype(float)
    luma = (16 + rgb @ np.array([0.257, 0.504, 0.098])).round().astype(np.uint8)
    return OutputImageRawFrame(luma.tobytes(), luma.shape[::-1], "L")


def array(picture: OutputImageRawFrame) -> NDArray[np.int16]:
    width, height = picture.size
    return np.frombuffer(picture.image, np.uint8).reshape(height, width, 3).astype(np.int16)


def mouth_motion(pictures: list[OutputImageRawFrame]) -> float:
    """Mean change of the lower middle of the picture from one frame to the next."""
    mouths = [array(picture)[256:400, 176:336, 1] for picture in pictures]
    return float(np.mean([np.abs(a - b).mean() for a, b in zip(mouths, mouths[1:], strict=False)]))
