"""Pictures and sound of one face, 25 pictures a second, from the sound that an agent makes."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from livekit import rtc
from livekit.agents.voice import avatar
from museserve_client import Client, ClosedError, Finished, Fragment, MuseserveError, Notice, Part, Ready, Session, Started, Waiting
from museserve_client.face import FPS, Idle, Take
from museserve_client.pictures import SEGMENT_FRAMES, Decoder, Picture

from .log import logger
from .sound import Segment

DEFAULT_URL = "http://127.0.0.1:8001"
RATES = (16_000, 24_000, 48_000)
FRAME_S = 1 / FPS
LEAD_S = FRAME_S  # sound that is handed over before it is heard: the loop may stand for so long
BEGIN_FRAMES = SEGMENT_FRAMES  # in hand before speech begins
HOLD_FRAMES = 5  # a picture that does not come is stood in for by the last one; then the face idles
FADE_FRAMES = 4  # over which speech that comes to the loop too late or too early joins it
FADE_FROM = 2  # frames off, from which on it would be seen
EARLY_FRAMES = 15  # speech waits so long for the idle frame that it was drawn on
AWAY_S = 0.3  # without a connection sound waits no longer for its pictures
AGAIN_S = 2.0  # from the end of a session to the next try
LEARNING_RATE = 0.25
HANDED_S = 0.2  # for the consumer to come back after a clear

Frame = rtc.VideoFrame | rtc.AudioFrame | avatar.AudioSegmentEnd


@dataclass
class Stats:
    """Since the start. first_picture_s: from the first sound of a segment to its first picture, of the last hundred."""

    segments: int = 0
    interrupted: int = 0
    without_lips: int = 0
    stalls: int = 0  # pictures did not come in time
    skipped: int = 0  # pictures that this process was too late for
    reconnects: int = 0
    frames: int = 0
    first_picture_s: deque[float] = field(default_factory=lambda: deque(maxlen=100))


class VideoGenerator(avatar.VideoGenerator):
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
        self.stats = Stats()
        self._rate, self._avatar, self._patience_s = audio_sample_rate, avatar, patience_s
        self._own_client = client is None
        self._client = client or Client(url or os.getenv("MUSESERVE_URL") or DEFAULT_URL, key or os.getenv("MUSESERVE_KEY"))
        self._session: Session | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: Idle | None = None
        self._segments: deque[Segment] = deque()
        self._takes: deque[Take] = deque()
        self._showing: Take | None = None
        self._open: tuple[Segment, Take] | None = None  # what sound is written to
        self._stalled = 0
        self._last: Picture | None = None  # that was shown
        self._fading: tuple[Picture, int] | None = None  # from which, and over how many frames yet
        self._epoch = 0  # of clears
        self._latency_s = 0.25
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
        self._keeper = asyncio.create_task(self._keep_session(ready))
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
        tasks = [task for task in (self._keeper, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._idle is not None:
            self._idle.close()
        if self._own_client:
            await self._client.aclose()

    # --- the session --------------------------------------------------------------------------------------------

    async def _keep_session(self, ready: asyncio.Future[None]) -> None:
        """One after the other; what was said meanwhile is heard without lips."""
        while True:
            try:
                async with self._client.session(self._avatar, captions=False, on_notice=self._note, on_ready=self._look_at_face) as session:
                    if self._idle is None:
                        await self._open_face(session.ready)
                    self._session = session
                    if not ready.done():
                        ready.set_result(None)
                    else:
                        self.stats.reconnects += 1
                        logger.info("museserve is back", extra={"session": session.ready.session})
                    await session.wait_closed()
                    raise session.error or ClosedError("the session is over")
            except MuseserveError as error:
                if not ready.done():
                    ready.set_exception(error)
                    return
                logger.warning("museserve is away: %s", error)
            finally:
                self._session = None
            await asyncio.sleep(AGAIN_S)

    def _note(self, notice: Notice) -> None:
        if notice.what in ("resumed", "restarted", "moved"):
            self.stats.reconnects += 1
        level = logger.warning if notice.what in ("lost", "restarted") else logger.info
        level("museserve session %s: %s", notice.what, notice.message)

    def _look_at_face(self, ready: Ready) -> None:
        """Another session may have another version of the face."""
        if self._idle is not None and self._idle.url != ready.idle.url:
            self._run(self._open_face(ready))

    async def _open_face(self, ready: Ready) -> None:
        idle = Idle(self._client, ready)
        await idle.open()
        if self._idle is not None:
            self._idle.close()
        self._idle = idle

    def _run(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- what goes in -------------------------------------------------------------------------------------------

    async def push_audio(self, frame: rtc.AudioFrame | avatar.AudioSegmentEnd) -> None:
        now = asyncio.get_running_loop().time()
        segment = self._segments[-1] if self._segments and not self._segments[-1].ended else None
        if isinstance(frame, avatar.AudioSegmentEnd):
            if segment is not None:
                segment.end()
                self._write(segment)
                if self._open is not None and self._open[0] is segment:
                    self._open[1].end()
                    self._open = None
            return
        if segment is None:
            segment = Segment(self._rate, now)
            self._segments.append(segment)
            self.stats.segments += 1
        elif segment.sent == segment.samples:
            segment.since = now  # its speaker had paused
        segment.push(frame)
        self._write(segment)

    def _write(self, segment: Segment) -> None:
        """What nobody draws yet goes to the service, if there is one."""
        if segment.drawn == segment.samples or segment.through:
            return
        if (self._open is None or self._open[0] is not segment) and not self._begin_take(segment):
            return
        assert self._open is not None
        self._open[1].write(segment.undrawn())

    def _begin_take(self, segment: Segment) -> bool:
        """False where there is no session to speak in: `_lose_patience` knows what to do then."""
        if self._session is None:
            return False
        take = Take(segment, segment.drawn, self._face.frames)
        self._takes.append(take)
        try:
            take.utterance = self._session.speak(pcm=self._rate, phase=lambda: self._phase_of(take))
        except MuseserveError:
            self._takes.remove(take)
            return False
        self._open = segment, take
        self._run(self._follow(take))
        return True

    def _phase_of(self, take: Take) -> int | None:
        """The idle frame that will be on the screen when the pictures come that are asked for now."""
        loop = self._face.frames
        if take.received:  # its line broke, and it goes on
            return (take.grid + take.received) % loop
        if self._takes[0] is not take:
            return None  # it follows another one: the service knows
        return (self._face.next + round(self._latency_s * FPS) + 1) % loop

    async def _follow(self, take: Take) -> None:
        asked = asyncio.get_running_loop().time()
        try:
            assert take.utterance is not None
            async for event in take.utterance:
                if isinstance(event, Started):
                    take.begin(event)
                elif isinstance(event, Part):
                    take.add_part(event)
                elif isinstance(event, Fragment):
                    await take.room()
                    if take.decoder is None:
                        take.decoder = Decoder(self._face.init)
                    first = take.shown == 0 and take.ready < BEGIN_FRAMES
                    if not take.dropped:
                        take.add(await asyncio.to_thread(take.decoder.decode_fragment, event))
                    if first and take.ready >= BEGIN_FRAMES and self._takes and take is self._takes[0] and not take.start:
                        took = min(asyncio.get_running_loop().time() - asked, self._patience_s)
                        self._latency_s += LEARNING_RATE * (took - self._latency_s)
                elif isinstance(event, (Waiting, Finished)):
                    take.close(event)
                    self._face.prepare(event.phase)
                    if isinstance(event, Waiting):  # what is said next joins the loop where it will be by then, in a take of its own
                        take.end()
                        if self._open is not None and self._open[1] is take:
                            self._open = None
        except MuseserveError as error:
            take.failed = True
            if take in self._takes:
                logger.warning("museserve did not speak: %s", error)

    # --- clear --------------------------------------------------------------------------------------------------

    async def clear_buffer(self) -> None:
        """Nothing of what was pushed before comes out any more, once the frame that is being handed over has been."""
        self.clear_now()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._back.wait(), HANDED_S)

    def clear_now(self) -> None:
        self._epoch += 1
        now = asyncio.get_running_loop().time()
        cleared, take = list(self._segments), self._showing
        self._segments.clear()
        if take is not None:
            self._face.seek(take.idle_frame)
            take.tell_played()
        for one in self._takes:
            one.drop()
        self._takes.clear()
        self._showing = self._open = self._fading = None
        self._stalled = 0
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
            picture = self._last = self._faded(await self._picture())
            yield rtc.VideoFrame(picture.width, picture.height, rtc.VideoBufferType.I420, picture.data)
            self.stats.frames += 1
            epoch = self._epoch
            segment = self._segments[0] if self._segments else None
            if segment is not None:
                begins = not segment.sent
                if pcm := self._sound(segment, due):
                    if begins and self.on_started is not None:
                        self.on_started()
                    yield rtc.AudioFrame(pcm, self._rate, 1, len(pcm) // 2)
                if epoch == self._epoch and segment.over(loop.time()):
                    self._segments.popleft()
                    if self._segments:
                        self._segments[0].since = loop.time()
                    self._tell_finished(segment.samples / self._rate, False)
                    yield avatar.AudioSegmentEnd()
            due += FRAME_S

    async def _picture(self) -> Picture:
        self._lose_patience()
        while True:
            if self._showing is None and (joining := self._joinable()) is not None:
                self._join(joining)
                self._showing = joining
            take = self._showing
            if take is None:
                return await self._face.picture()
            if (picture := take.show()) is not None:
                self._stalled = 0
                if take.shown == 1 and take.start == 0:
                    self.stats.first_picture_s.append(asyncio.get_running_loop().time() - take.segment.pushed_at)
                return picture
            if take.exhausted:
                self._showing = None
                self._face.seek(take.idle_frame)
                continue
            return await self._stand_in(take)

    async def _stand_in(self, take: Take) -> Picture:
        self._stalled += 1
        if self._stalled == 1:
            self.stats.stalls += 1
            take.segment.since = asyncio.get_running_loop().time()
        if self._stalled <= HOLD_FRAMES and self._last is not None:
            return self._last
        if self._stalled == HOLD_FRAMES + 1:
            self._face.seek(take.idle_frame)
        return await self._face.picture()

    def _joinable(self) -> Take | None:
        """What is said next, when the idle loop is where it was drawn to begin."""
        while self._takes and self._takes[0].exhausted and self._is_done(self._takes[0]):
            self._takes.popleft()
        take = self._takes[0] if self._takes else None
        if take is None or take.segment.through or not self._segments or take.segment is not self._segments[0]:
            return None
        if take.ready < BEGIN_FRAMES and not (take.ready and take.frames is not None):
            return None
        early = (take.phase - self._face.next) % self._face.frames
        return None if take.shown == take.run_first and 0 < early <= EARLY_FRAMES else take

    def _join(self, take: Take) -> None:
        loop = self._face.frames
        off = (take.phase - self._face.next) % loop if take.shown == take.run_first else 0
        if FADE_FROM < off < loop - FADE_FROM and self._last is not None:
            self._fading = self._last, FADE_FRAMES

    def _faded(self, picture: Picture) -> Picture:
        if self._fading is None:
            return picture
        before, left = self._fading
        self._fading = (before, left - 1) if left > 1 else None
        share = 256 * left // (FADE_FRAMES + 1)
        old, new = (np.frombuffer(one.data, np.uint8).astype(np.uint16) for one in (before, picture))
        return replace(picture, data=((old * share + new * (256 - share)) >> 8).astype(np.uint8).tobytes())

    def _is_done(self, take: Take) -> bool:
        """Nothing more comes of it, and nothing has to be heard in its place."""
        current = bool(self._segments) and take.segment is self._segments[0]
        return take.final or (take.failed and (not current or take.segment.played_out))

    def _lose_patience(self) -> None:
        """Sound whose pictures do not come is heard without them."""
        segment = self._segments[0] if self._segments else None
        if segment is None or segment.through or segment.played_out or (self._showing is not None and not self._stalled):
            return
        waited_s = asyncio.get_running_loop().time() - segment.since
        connected = self._session is not None and self._session.connected
        failed = bool(self._takes) and self._takes[0].failed and self._takes[0].exhausted
        if not failed and waited_s < (self._patience_s if connected else min(AWAY_S, self._patience_s)):
            return
        why = "it did not draw it" if failed else f"nothing came for {waited_s:.1f} s" if connected else "there is no connection"
        logger.warning("museserve is away (%s): sound goes on without lips", why)
        self.stats.without_lips += 1
        segment.through = True
        if self._showing is not None:
            self._face.seek(self._showing.idle_frame)
        for take in [take for take in self._takes if take.segment is segment]:
            take.drop()
            self._takes.remove(take)
        if self._open is not None and self._open[0] is segment:
            self._open = None
        self._showing, self._stalled = None, 0

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
