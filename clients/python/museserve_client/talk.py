"""A face that talks, picture by picture: a session that is kept, speech that joins the idle loop and leaves it, sound that goes on where pictures do
not come. Who plays it says when the next picture is due, and what of the sound is heard beside it. Needs the extra `pictures`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np

from museserve_client.client import Client
from museserve_client.errors import ClosedError, MuseserveError
from museserve_client.face import FPS, Idle, Take
from museserve_client.messages import Finished, Fragment, Part, Ready, Started, Waiting
from museserve_client.pictures import SEGMENT_FRAMES, Decoder, Picture, Pixels
from museserve_client.session import Notice, Session
from museserve_client.sound import SAMPLE_BYTES, Sound

BEGIN_FRAMES = SEGMENT_FRAMES  # in hand before speech begins ...
SOONER = 0.75  # ... or fewer, where the rest of them came within this share of the time that they last, whenever it was looked
LOOKED = 8  # at so many, the last
HOLD_FRAMES = 5  # a picture that does not come is stood in for by the last one; then the face idles
FADE_FRAMES = 4  # over which speech that comes to the loop too late or too early joins it
UNSEEN_FRAMES = 2  # a step of the loop by so many more or fewer is within what it does by itself
EARLY_FRAMES = 15  # speech waits so long for the idle frame that it was drawn on
AWAY_S = 0.3  # without a connection sound waits no longer for its pictures
AGAIN_S = 2.0  # from the end of a session to the next try
LATENCY_S, LEARNING_RATE = 0.25, 0.25  # from sound to pictures: expected, and learned
LONGEST_S = 60.0

S = TypeVar("S", bound=Sound)


@dataclass
class TalkStats:
    """Since the start. first_picture_s: from the first sound of a segment to its first picture, of the last hundred."""

    interrupted: int = 0
    without_lips: int = 0
    stalls: int = 0  # pictures did not come in time
    reconnects: int = 0
    first_picture_s: deque[float] = field(default_factory=lambda: deque(maxlen=100))


@dataclass
class _Coming:
    """Pictures that somebody waits for: when the first came, whether there are enough to begin with, and whether as many as are safe anyway."""

    first_at: float
    enough: bool = False
    whole: bool = False


class Talk(Generic[S]):
    """To be subclassed by who plays it. `line`: what is said, in order; after each change of it `wrote`. `picture` for each frame.

    longest_s: of an utterance of the service; longer speech is drawn as several, as it is where the service takes less.
    """

    stats: TalkStats

    def __init__(self, client: Client, avatar: str | None, patience_s: float, pixels: Pixels, log: Callable[[int, str], None]) -> None:
        """
        Args:
            patience_s: how long sound waits for its pictures.
            log: of a level of `logging`, and a message.
        """
        self.line: deque[S] = deque()
        self.longest_s = LONGEST_S
        self._client, self._avatar, self._patience_s, self._pixels, self._log = client, avatar, patience_s, pixels, log
        self._session: Session | None = None
        self._connecting = True  # for the first time
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: Idle | None = None
        self._takes: deque[Take[S]] = deque()
        self._showing: Take[S] | None = None
        self._open: tuple[S, Take[S]] | None = None  # what sound is written to
        self._last: Picture | None = None  # that was shown
        self._fading: tuple[Picture, int] | None = None  # from which, and over how many frames yet
        self._stalled = 0
        self._latency_s = LATENCY_S
        self._rest_s: deque[float] = deque(maxlen=LOOKED)  # from the first pictures to `BEGIN_FRAMES` of them

    def be_away(self, why: str, error: Exception | None = None) -> None:
        """What is said goes on without lips, or there is no face."""

    def be_back(self) -> None:
        """A session began, or lips move."""

    async def close(self) -> None:
        """Of all that runs."""
        self.line.clear()
        self._forget(list(self._takes))
        tasks = [task for task in (self._keeper, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._idle is not None:
            self._idle.close()

    # --- the session --------------------------------------------------------------------------------------------

    def keep_session(self, first: asyncio.Future[None] | None = None) -> None:
        """One after the other, from now on. first: told of the first one; where that does not begin, there is no other."""
        self._keeper = asyncio.create_task(self._keep_session(first))

    async def _keep_session(self, first: asyncio.Future[None] | None) -> None:
        before = False
        while True:
            try:
                async with self._client.session(self._avatar, captions=False, on_notice=self._note, on_ready=self._look_at_face) as session:
                    if self._idle is None:
                        await self._open_face(session.ready)
                    self._session, self._connecting = session, False
                    self.stats.reconnects += before
                    before = True
                    if first is not None and not first.done():
                        first.set_result(None)
                    self._log(logging.INFO, f"museserve session {session.ready.session} of {session.ready.avatar}")
                    self.wrote()
                    if not self.line:
                        self.be_back()
                    await session.wait_closed()
                    raise session.error or ClosedError("the session is over")
            except MuseserveError as error:
                if first is not None and not first.done():
                    first.set_exception(error)
                    return
                self._connecting = False
                self.be_away(str(error), error)
            finally:
                self._session = None
            await asyncio.sleep(AGAIN_S)

    def _note(self, notice: Notice) -> None:
        self.stats.reconnects += notice.what in ("resumed", "restarted", "moved")
        level = logging.WARNING if notice.what in ("lost", "restarted") else logging.INFO
        self._log(level, f"museserve session {notice.what}: {notice.message}")

    def _look_at_face(self, ready: Ready) -> None:
        """Another session may have another version of the face."""
        if self._idle is not None and self._idle.url != ready.idle.url:
            self._run(self._open_face(ready))

    async def _open_face(self, ready: Ready) -> None:
        idle = Idle(self._client, ready, self._pixels)
        await idle.open()
        if self._idle is not None:
            self._idle.close()
        self._idle = idle

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- what is said ---------------------------------------------------------------------------------------------

    def wrote(self) -> None:
        """More sound came, or an end of it, or a session to draw it."""
        for segment in self.line:
            while segment.drawn < segment.samples and not segment.through:
                if not self._is_open(segment) and not self._begin_take(segment):
                    return
                assert self._open is not None
                take = self._open[1]
                most = self._most_samples(segment.rate)
                take.write(segment.undrawn(most - (segment.drawn - take.start)))
                if segment.drawn - take.start == most:
                    self._end_take()
            if not segment.ended and not segment.through:
                return  # what is behind it is drawn behind it, also where its sound came first
            if self._is_open(segment):
                self._end_take()

    def _most_samples(self, rate: int) -> int:
        """Of an utterance, in whole segments: behind them there is no silence."""
        limits = self._session.ready.limits if self._session is not None else None
        most_s = self.longest_s if limits is None else min(self.longest_s, limits.audio_s, limits.audio_bytes / SAMPLE_BYTES / rate)
        return max(1, int(most_s * FPS / SEGMENT_FRAMES)) * SEGMENT_FRAMES * rate // FPS

    def _is_open(self, segment: S) -> bool:
        return self._open is not None and self._open[0] is segment

    def _end_take(self) -> None:
        assert self._open is not None
        self._open[1].end()
        self._open = None

    def _begin_take(self, segment: S) -> bool:
        """False where there is no session to speak in: `_lose_patience` knows what to do then."""
        if self._session is None or self._idle is None:
            return False
        take = Take(segment, segment.drawn, self._idle.frames)
        self._takes.append(take)
        try:
            take.utterance = self._session.speak(pcm=segment.rate, phase=lambda: self._phase_of(take))
        except MuseserveError:
            self._takes.remove(take)
            return False
        self._open = segment, take
        self._run(self._follow(take))
        return True

    def _phase_of(self, take: Take[S]) -> int | None:
        """The idle frame that will be on the screen when the pictures come that are asked for now."""
        if self._idle is None:
            return None
        if take.received:  # its line broke, and it goes on
            return (take.grid + take.received) % self._idle.frames
        if self._takes[0] is not take:
            return None  # it follows another one: the service knows
        return (self._idle.next + round(self._latency_s * FPS)) % self._idle.frames

    async def _follow(self, take: Take[S]) -> None:
        asked = asyncio.get_running_loop().time()
        coming: _Coming | None = None
        try:
            assert take.utterance is not None and self._idle is not None
            async for event in take.utterance:
                if isinstance(event, Started):
                    take.begin(event)
                elif isinstance(event, Part):
                    take.add_part(event)
                elif isinstance(event, Fragment):
                    await take.room()
                    if take.decoder is None:
                        take.decoder = Decoder(self._idle.init, self._pixels)
                    if take.dropped:
                        continue
                    take.add(await asyncio.to_thread(take.decoder.decode_fragment, event))
                    if coming is None:
                        coming = _Coming(asyncio.get_running_loop().time())
                        coming.enough = coming.whole = bool(take.start) or take not in list(self._takes)[:1]  # nobody waits for it
                    self._learn(take, coming, asked)
                elif isinstance(event, (Waiting, Finished)):
                    take.close(event)
                    self._idle.prepare(event.phase)
                    if isinstance(event, Waiting):  # what is said next joins the loop where it will be by then, in a take of its own
                        take.end()
                        if self._open is not None and self._open[1] is take:
                            self._open = None
        except MuseserveError as error:
            take.failed = True
            if take in self._takes:
                self._log(logging.WARNING, f"museserve did not speak: {error}")

    def _learn(self, take: Take[S], coming: _Coming, asked: float) -> None:
        """From pictures that somebody waits for, when the next ones will be there. asked: when these were asked for."""
        now = asyncio.get_running_loop().time()
        if not coming.enough and self._may_begin(take):
            coming.enough = True
            self._latency_s += LEARNING_RATE * (min(now - asked, self._patience_s) - self._latency_s)
        if not coming.whole and take.shown + take.ready >= BEGIN_FRAMES:
            coming.whole = True
            self._rest_s.append(now - coming.first_at)

    def _forget(self, takes: Iterable[Take[S]]) -> None:
        """Nobody wants them any more."""
        for take in takes:
            take.drop()
            if take in self._takes:
                self._takes.remove(take)
            if self._open is not None and self._open[1] is take:
                self._open = None
            if self._showing is take:
                self._showing, self._fading, self._stalled = None, None, 0

    # --- what is shown --------------------------------------------------------------------------------------------

    async def picture(self) -> Picture | None:
        """The next one. None while there is no face, and where a coded one would be shown twice."""
        self._last = self._faded(await self._next_picture())
        return self._last

    async def _next_picture(self) -> Picture | None:
        self._lose_patience()
        while self._idle is not None:
            if self._showing is None and (joining := self._joinable(self._idle)) is not None:
                self._join(joining, self._idle)
            take = self._showing
            if take is None:
                return await self._idle_picture(self._idle)
            if (picture := take.show()) is not None:
                self._stalled = 0
                if take.shown == 1 and take.start == 0:
                    self.stats.first_picture_s.append(asyncio.get_running_loop().time() - take.segment.came_at)
                    self.be_back()
                return picture
            if not take.exhausted:
                return await self._stand_in(take, self._idle)
            self._showing = None
            self._idle.seek(take.idle_frame)
        return None

    @property
    def _held(self) -> Picture | None:
        """The last one, once more. A coded one stays where it is shown, without being sent again."""
        return None if self._pixels == "h264" else self._last

    async def _idle_picture(self, idle: Idle) -> Picture | None:
        try:
            return await idle.picture()
        except MuseserveError as error:
            self.be_away(f"its idle loop cannot be shown: {error}", error)
            return self._held

    async def _stand_in(self, take: Take[S], idle: Idle) -> Picture | None:
        self._stalled += 1
        if self._stalled == 1:
            self.stats.stalls += 1
            take.segment.since = asyncio.get_running_loop().time()
        # Coded speech goes on from its own last picture, so no other may come between.
        if self._pixels == "h264" or (self._stalled <= HOLD_FRAMES and self._last is not None):
            return self._held
        if self._stalled == HOLD_FRAMES + 1:
            idle.seek(take.idle_frame)
        return await self._idle_picture(idle)

    def _joinable(self, idle: Idle) -> Take[S] | None:
        """What is said next, when the idle loop is where it was drawn to begin."""
        while self._takes and self._takes[0].exhausted and self._is_done(self._takes[0]):
            self._takes.popleft()
        take = self._takes[0] if self._takes else None
        if take is None or not self.line or take.segment is not self.line[0] or take.segment.through:
            return None
        if not self._may_begin(take):
            return None
        early = (take.phase - idle.next) % idle.frames
        return None if take.shown == take.run_first and UNSEEN_FRAMES < early <= EARLY_FRAMES else take

    def _may_begin(self, take: Take[S]) -> bool:
        """Whether there are pictures enough to go on without a gap."""
        if not take.ready or take.ready >= BEGIN_FRAMES or take.frames is not None:
            return take.ready > 0
        in_time = bool(self._rest_s) and max(self._rest_s) <= SOONER * take.ready / FPS
        return in_time and not take.start  # somebody waits for it

    def _join(self, take: Take[S], idle: Idle) -> None:
        self._showing = take
        off = (take.phase - idle.next) % idle.frames if take.shown == take.run_first else 0
        if UNSEEN_FRAMES < off < idle.frames - UNSEEN_FRAMES and self._last is not None and self._pixels != "h264":
            self._fading = self._last, FADE_FRAMES

    def _faded(self, picture: Picture | None) -> Picture | None:
        if self._fading is None or picture is None:
            return picture
        before, left = self._fading
        self._fading = (before, left - 1) if left > 1 else None
        if len(before.data) != len(picture.data):
            return picture
        share = 256 * left // (FADE_FRAMES + 1)
        old, new = (np.frombuffer(one.data, np.uint8).astype(np.uint16) for one in (before, picture))
        return replace(picture, data=((old * share + new * (256 - share)) >> 8).astype(np.uint8).tobytes())

    def _is_done(self, take: Take[S]) -> bool:
        """Nothing more comes of it, and nothing has to be heard in its place."""
        current = bool(self.line) and take.segment is self.line[0]
        return take.final or (take.failed and (not current or take.segment.played_out))

    def _lose_patience(self) -> None:
        """Sound whose pictures do not come is heard without them."""
        segment = self.line[0] if self.line else None
        if segment is None or segment.through or segment.played_out or (self._showing is not None and not self._stalled):
            return
        waited_s = asyncio.get_running_loop().time() - segment.since
        connected = self._connecting if self._session is None else self._session.connected
        failed = bool(self._takes) and self._takes[0].failed and self._takes[0].exhausted
        if not failed and waited_s < (self._patience_s if connected else min(AWAY_S, self._patience_s)):
            return
        why = "it did not draw it" if failed else f"nothing came for {waited_s:.1f} s" if connected else "there is no connection"
        self.be_away(f"{why}: sound goes on without lips")
        self.stats.without_lips += 1
        segment.through = True
        if self._showing is not None and self._idle is not None:
            self._idle.seek(self._showing.idle_frame)
        self._forget([take for take in self._takes if take.segment is segment])
