"""Pictures and sound of one face, 25 pictures a second, from the sound that an agent makes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass

from livekit import rtc
from livekit.agents.voice import avatar
from museserve_client import Client
from museserve_client.face import FPS, Idle
from museserve_client.sound import SAMPLE_BYTES
from museserve_client.talk import Talk, TalkStats

from .log import logger
from .sound import Segment

DEFAULT_URL = "http://127.0.0.1:8001"
RATES = (16_000, 24_000, 48_000)
FRAME_S = 1 / FPS
LEAD_S = FRAME_S  # sound that is handed over before it is heard: the loop may stand for so long
HANDED_S = 0.2  # for the consumer to come back after a clear

Frame = rtc.VideoFrame | rtc.AudioFrame | avatar.AudioSegmentEnd


@dataclass
class Stats(TalkStats):
    """Since the start."""

    segments: int = 0
    skipped: int = 0  # pictures that this process was too late for
    frames: int = 0


class VideoGenerator(Talk[Segment], avatar.VideoGenerator):
    """For an `AvatarRunner`: `start` first, `aclose` at the end.

    The sound that comes out is the very samples that went in (resampled to `audio_sample_rate` where they have another rate), beside the pictures
    that were drawn for them. Between segments, and before the first one, there are pictures of the idle loop and no sound.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        avatar: str | None = None,
        audio_sample_rate: int = 24_000,
        patience_s: float = 1.5,
        client: Client | None = None,
    ) -> None:
        """
        Args:
            url, key: of the service; MUSESERVE_URL and MUSESERVE_KEY where they are not given.
            avatar: an id of `GET /v1/avatars`; the service's default where it is not given.
            audio_sample_rate: of the sound that comes out, 16000, 24000 or 48000 Hz.
            patience_s: how long sound waits for its pictures. Then it is heard without them, and the log says so.
        """
        if audio_sample_rate not in RATES:
            raise ValueError(f"audio_sample_rate is one of {', '.join(map(str, RATES))}, got {audio_sample_rate}")
        self._own_client = client is None
        client = client or Client(url or os.getenv("MUSESERVE_URL") or DEFAULT_URL, key or os.getenv("MUSESERVE_KEY"))
        super().__init__(client, avatar, patience_s, "yuv420p", logger.log)
        self.stats: Stats = Stats()
        self._rate = audio_sample_rate
        self._away = False
        self._epoch = 0  # of clears
        self._back = asyncio.Event()  # the consumer wants the next frame
        self._back.set()
        self._closed = False
        self.on_started: Callable[[], None] | None = None
        self.on_finished: Callable[[float, bool], None] | None = None
        self.on_cut: Callable[[], None] | None = None

    # --- what it is ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin the session and have the face's first pictures. Raises MuseserveError."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.keep_session(ready)
        try:
            await asyncio.shield(ready)
        except BaseException:
            await self.aclose()
            raise

    @property
    def video_resolution(self) -> tuple[int, int]:
        return self._face.size

    @property
    def options(self) -> avatar.AvatarOptions:
        """For `AvatarRunner`. Raises RuntimeError before `start`."""
        width, height = self.video_resolution
        return avatar.AvatarOptions(width, height, FPS, self._rate, 1)

    @property
    def _face(self) -> Idle:
        if self._idle is None:
            raise RuntimeError("the generator was not started; await start() first")
        return self._idle

    async def aclose(self) -> None:
        self._closed = True
        self.clear_now()
        await self.close()
        if self._own_client:
            await self._client.aclose()

    def be_away(self, why: str, error: Exception | None = None) -> None:
        self._away = True
        logger.warning("museserve is away: %s", why)

    def be_back(self) -> None:
        if self._away:
            self._away = False
            logger.info("museserve is back")

    # --- what goes in -------------------------------------------------------------------------------------------

    async def push_audio(self, frame: rtc.AudioFrame | avatar.AudioSegmentEnd) -> None:
        now = asyncio.get_running_loop().time()
        segment = self.line[-1] if self.line and not self.line[-1].ended else None
        if isinstance(frame, avatar.AudioSegmentEnd):
            if segment is not None:
                segment.end()
                self.wrote()
            return
        if segment is None:
            segment = Segment(self._rate, now)
            self.line.append(segment)
            self.stats.segments += 1
        elif segment.played_out:
            segment.since = now  # its speaker had paused
        segment.push(frame)
        self.wrote()

    # --- clear --------------------------------------------------------------------------------------------------

    async def clear_buffer(self) -> None:
        """Nothing of what was pushed before comes out any more, once the frame that is being handed over has been."""
        self.clear_now()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._back.wait(), HANDED_S)

    def clear_now(self) -> None:
        self._epoch += 1
        now = asyncio.get_running_loop().time()
        cleared, take = list(self.line), self._showing
        self.line.clear()
        if take is not None:
            self._face.seek(take.idle_frame)
            take.tell_played()
        self._forget(list(self._takes))
        if cleared and self.on_cut is not None:
            self.on_cut()
        for segment in cleared:
            self.stats.interrupted += 1
            self._tell_finished(segment.heard(now) / self._rate, True)

    def _tell_finished(self, position_s: float, interrupted: bool) -> None:
        if self.on_finished is not None:
            self.on_finished(position_s, interrupted)

    # --- what comes out -----------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self._frames()

    async def _frames(self) -> AsyncGenerator[Frame, None]:
        async with aclosing(self._timed()) as frames:
            async for frame in frames:
                self._back.clear()
                try:
                    yield frame
                finally:
                    self._back.set()

    async def _timed(self) -> AsyncGenerator[Frame, None]:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self._closed:
            await asyncio.sleep(max(0.0, due - loop.time()))
            if loop.time() - due > LEAD_S:
                # The sound ran dry and stands one lead, which is one picture, farther on. Nothing is caught up with: pictures that come faster than
                # they are shown would wait in the synchronizer's queue, and be late from then on.
                due = loop.time()
                if self._showing is not None and self._showing.ready > 1:
                    self._showing.show()
                    self.stats.skipped += 1
            picture = await self.picture()
            assert picture is not None  # there is a face since the start
            yield rtc.VideoFrame(picture.width, picture.height, rtc.VideoBufferType.I420, picture.data)
            self.stats.frames += 1
            epoch = self._epoch
            segment = self.line[0] if self.line else None
            if segment is not None:
                begins = not segment.sent
                if pcm := self._sound(segment, due):
                    if begins and self.on_started is not None:
                        self.on_started()
                    yield rtc.AudioFrame(pcm, self._rate, 1, len(pcm) // SAMPLE_BYTES)
                if epoch == self._epoch and segment.over(loop.time()):
                    self.line.popleft()
                    if self.line:
                        self.line[0].since = loop.time()
                    self._tell_finished(segment.samples / self._rate, False)
                    yield avatar.AudioSegmentEnd()
            due += FRAME_S

    def _sound(self, segment: Segment, due: float) -> bytes:
        """What is handed over beside the picture that is shown at `due`."""
        lead = round(LEAD_S * self._rate)
        step = self._rate // FPS
        take = self._showing
        if segment.through:
            here = segment.heard(due) if segment.sent else 0
            pcm = segment.take(here + step + lead)
        elif take is not None and take.segment is segment and not self._stalled:
            here = take.sample_at(take.shown - 1)
            pcm = segment.take(min(here + step + lead, max(take.drawn_upto(), segment.sent)))
        else:
            return b""
        segment.hear(due, here)
        return pcm
