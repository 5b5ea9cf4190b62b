"""LiveKit's `AvatarRunner`, with exact accounts of what was heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from livekit import rtc
from livekit.agents.voice import avatar, io

from .generator import VideoGenerator


class AvatarRunner(avatar.AvatarRunner):
    """As LiveKit's, and beyond that:

    - an interruption takes what is queued for the tracks, too: it is silent at once, and the position is what was heard, not what was handed over;
    - each segment that the agent sent is told as finished exactly once, also when it was interrupted before anything of it was read;
    - a segment is told as finished when its last sample was heard.
    """

    def __init__(
        self,
        room: rtc.Room,
        *,
        audio_recv: avatar.AudioReceiver,
        video_gen: VideoGenerator,
        options: avatar.AvatarOptions | None = None,
        **more: Any,
    ) -> None:
        """video_gen: started. options: its own where they are not given."""
        super().__init__(room, audio_recv=_Receiver(audio_recv, video_gen), video_gen=video_gen, options=options or video_gen.options, **more)
        self._cuts: set[asyncio.Task[None]] = set()
        video_gen.on_cut = self._cut

    def _cut(self) -> None:
        task = asyncio.create_task(self.av_sync.clear_queue())
        self._cuts.add(task)
        task.add_done_callback(self._cuts.discard)


class _Receiver(avatar.AudioReceiver):
    """Stands between the runner and what it hears from. The generator knows what was heard, and tells; what the runner says of that goes nowhere."""

    def __init__(self, inner: avatar.AudioReceiver, generator: VideoGenerator) -> None:
        super().__init__()
        self._inner, self._generator = inner, generator
        self._told = 0  # segments
        self._tasks: set[asyncio.Task[None]] = set()
        generator.on_started = lambda: self._do(inner.notify_playback_started())
        generator.on_finished = self._tell_finished

    async def start(self) -> None:
        await self._inner.start()
        self._inner.on("clear_buffer", self._clear)

    def _clear(self) -> None:
        """At once: what the agent sends from now on is another segment. The runner, which would come to it later, is not told."""
        self._generator.clear_now()
        while self._outstanding:  # was taken back before anything of it was read
            self._tell_finished(0.0, True)

    @property
    def _outstanding(self) -> int | None:
        """Segments that the agent sent and that were not told as finished; None where that is not known here."""
        return self._inner.captured_playout_segments - self._told if isinstance(self._inner, io.AudioOutput) else None

    def _tell_finished(self, position_s: float, interrupted: bool) -> None:
        self._told += 1
        self._do(self._inner.notify_playback_finished(position_s, interrupted))

    def _do(self, work: None | Coroutine[None, None, None]) -> None:
        if work is not None:
            task = asyncio.ensure_future(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def notify_playback_finished(self, playback_position: float, interrupted: bool) -> None:
        pass

    def notify_playback_started(self) -> None:
        pass

    async def __aiter__(self) -> AsyncIterator[rtc.AudioFrame | avatar.AudioSegmentEnd]:
        async for frame in self._inner:
            if isinstance(frame, rtc.AudioFrame) and self._outstanding == 0:
                continue  # of a segment that was interrupted before the agent ended it
            yield frame

    async def aclose(self) -> None:
        self._inner.off("clear_buffer", self._clear)
        await self._inner.aclose()
