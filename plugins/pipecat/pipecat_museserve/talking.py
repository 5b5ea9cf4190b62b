"""One face that talks: 25 pictures a second, and beside them the sound that they were drawn for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from loguru import logger
from museserve_client import Client, ClosedError, Finished, Fragment, MuseserveError, Notice, Part, Ready, Session, Started, Waiting
from museserve_client.face import FPS, ROUNDED_S, Idle, Take
from museserve_client.pictures import SEGMENT_FRAMES, Decoder, Picture
from pipecat.frames.frames import TTSAudioRawFrame

from pipecat_museserve.speech import SAMPLE_BYTES, Speech

FRAME_S = 1 / FPS
LEAD_S = 0.12  # speech goes on before it is heard, pictures and sound alike: the event loop may stand for so long
POLL_S = 0.005  # for a picture that is late, within that lead
BEGIN_FRAMES = SEGMENT_FRAMES  # in hand before speech begins
HOLD_FRAMES = 5  # a picture that does not come is stood in for by the last one; then the face idles
FADE_FRAMES = 4  # over which speech that comes to the loop too late or too early joins it
FADE_FROM = 2  # frames off, from which on it would be seen
EARLY_FRAMES = 15  # speech waits so long for the idle frame that it was drawn on
LATE_S = 0.2  # behind its time by more, the clock is set anew
AWAY_S = 0.3  # without a connection sound waits no longer for its pictures
AGAIN_S = 2.0  # from the end of a session to the next try
LEARNING_RATE = 0.25
LONGEST_S = 60.0


@dataclass
class Stats:
    """Since the start. first_picture_s: from the first sound of a context to its first picture, of the last hundred."""

    contexts: int = 0
    interrupted: int = 0
    without_lips: int = 0
    stalls: int = 0
    reconnects: int = 0
    pictures: int = 0
    first_picture_s: deque[float] = field(default_factory=lambda: deque(maxlen=100))


@dataclass(frozen=True)
class Step:
    """What goes on now. picture: None while there is no face. begins: `sound` is the first of `speech`. over: `speech` was heard to its end.

    epoch: of the clears; a picture of an earlier one is not wanted any more, nor anything of a `speech` that was cleared.
    """

    epoch: int
    picture: Picture | None
    speech: Speech | None = None
    sound: TTSAudioRawFrame | None = None
    begins: bool = False
    over: bool = False


class TalkingFace:
    """`start`, then iterate over `steps` once; `aclose` at the end.

    on_away: told once when what is said goes on without lips, or there is no face, and why. on_back: told when lips move again.
    """

    def __init__(
        self, client: Client, avatar: str | None, patience_s: float, on_away: Callable[[str, Exception | None], None], on_back: Callable[[], None]
    ) -> None:
        self.stats = Stats()
        self.epoch = 0  # of clears
        self.longest_s = LONGEST_S  # of an utterance of the service; longer speech is drawn as several
        self._client, self._avatar, self._patience_s = client, avatar, patience_s
        self._on_away, self._on_back = on_away, on_back
        self._away = False
        self._session: Session | None = None
        self._connecting = True  # for the first time
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: Idle | None = None
        self.line: deque[Speech] = deque()  # what is said, in order
        self._silent = asyncio.Event()
        self._silent.set()
        self._takes: deque[Take] = deque()
        self._showing: Take | None = None
        self._open: tuple[Speech, Take] | None = None  # what sound is written to
        self._last: Picture | None = None  # that was shown
        self._fading: tuple[Picture, int] | None = None  # from which, and over how many frames yet
        self._stalled = 0
        self._latency_s = 0.25
        self._due = 0.0

    def start(self) -> None:
        self._due = asyncio.get_running_loop().time()
        self._keeper = asyncio.create_task(self._keep_session())

    async def aclose(self) -> None:
        self.line.clear()
        self._forget_takes(list(self._takes))
        tasks = [task for task in (self._keeper, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._idle is not None:
            self._idle.close()
        self._silent.set()

    # --- the session ----------------------------------------------------------------------------------------------

    async def _keep_session(self) -> None:
        """One after the other; what is said meanwhile is heard without lips."""
        before = False
        while True:
            try:
                async with self._client.session(self._avatar, captions=False, on_notice=self._note, on_ready=self._look_at_face) as session:
                    if self._idle is None:
                        await self._open_face(session.ready)
                    self._session, self._connecting = session, False
                    self.stats.reconnects += before
                    before = True
                    self.wrote()
                    logger.info(f"museserve session {session.ready.session} of {session.ready.avatar}")
                    if not self.line:
                        self._be_back()
                    await session.wait_closed()
                    raise session.error or ClosedError("the session is over")
            except MuseserveError as error:
                self._connecting = False
                self._be_away(str(error), error)
            finally:
                self._session = None
            await asyncio.sleep(AGAIN_S)

    def _note(self, notice: Notice) -> None:
        if notice.what in ("resumed", "restarted", "moved"):
            self.stats.reconnects += 1
        log = logger.warning if notice.what in ("lost", "restarted") else logger.info
        log(f"museserve session {notice.what}: {notice.message}")

    def _be_away(self, why: str, error: Exception | None = None) -> None:
        if not self._away:
            self._away = True
            self._on_away(why, error)

    def _be_back(self) -> None:
        if self._away:
            self._away = False
            self._on_back()

    def _look_at_face(self, ready: Ready) -> None:
        """Another session may have another version of the face."""
        if self._idle is not None and self._idle.url != ready.idle.url:
            self._run(self._open_face(ready))

    async def _open_face(self, ready: Ready) -> None:
        idle = Idle(self._client, ready, "rgb24")
        await idle.open()
        if self._idle is not None:
            self._idle.close()
        self._idle = idle

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- what is said ---------------------------------------------------------------------------------------------

    @property
    def speaking(self) -> Speech | None:
        """What is said, or what is said last where more waits."""
        return self.line[-1] if self.line else None

    def of_context(self, context: str | None) -> Speech | None:
        """What is said of a TTS context, else as `speaking`."""
        return next((speech for speech in reversed(self.line) if context is not None and speech.context == context), self.speaking)

    def add(self, speech: Speech) -> None:
        self.line.append(speech)
        self._silent.clear()
        self.stats.contexts += 1

    def wrote(self) -> None:
        """More sound came, or an end of it, or a session to draw it."""
        for speech in self.line:
            while speech.drawn < speech.samples and not speech.through:
                if not self._is_open(speech) and not self._begin_take(speech):
                    return
                assert self._open is not None
                take = self._open[1]
                most = self._most_samples(speech.rate)
                take.write(speech.undrawn(most - (speech.drawn - take.start)))
                if speech.drawn - take.start == most:
                    self._end_take()
            if speech.ended and self._is_open(speech):
                self._end_take()

    def _most_samples(self, rate: int) -> int:
        """Of an utterance, in whole segments: behind them there is no silence."""
        limits = self._session.ready.limits if self._session is not None else None
        most_s = self.longest_s if limits is None else min(self.longest_s, limits.audio_s, limits.audio_bytes / SAMPLE_BYTES / rate)
        return max(1, int(most_s * FPS / SEGMENT_FRAMES)) * SEGMENT_FRAMES * rate // FPS

    def _end_take(self) -> None:
        assert self._open is not None
        self._open[1].end()
        self._open = None

    async def wait_silent(self) -> None:
        """Until all was heard."""
        await self._silent.wait()

    def _is_open(self, speech: Speech) -> bool:
        return self._open is not None and self._open[0] is speech

    def _begin_take(self, speech: Speech) -> bool:
        """False where there is no session to speak in: `_lose_patience` knows what to do then."""
        if self._session is None or self._idle is None:
            return False
        take = Take(speech, speech.drawn, self._idle.frames)
        self._takes.append(take)
        try:
            take.utterance = self._session.speak(pcm=speech.rate, phase=lambda: self._phase_of(take))
        except MuseserveError:
            self._takes.remove(take)
            return False
        self._open = speech, take
        self._run(self._follow(take))
        return True

    def _phase_of(self, take: Take) -> int | None:
        """The idle frame that will be on the screen when the pictures come that are asked for now."""
        if self._idle is None:
            return None
        if take.received:  # its line broke, and it goes on
            return (take.grid + take.received) % self._idle.frames
        if self._takes[0] is not take:
            return None  # it follows another one: the service knows
        return (self._idle.next + round(self._latency_s * FPS) + 1) % self._idle.frames

    async def _follow(self, take: Take) -> None:
        asked = asyncio.get_running_loop().time()
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
                        take.decoder = Decoder(self._idle.init, "rgb24")
                    first = take.shown == 0 and take.ready < BEGIN_FRAMES
                    if not take.dropped:
                        take.add(await asyncio.to_thread(take.decoder.decode_fragment, event))
                    if first and take.ready >= BEGIN_FRAMES and self._takes and take is self._takes[0] and not take.start:
                        took = min(asyncio.get_running_loop().time() - asked, self._patience_s)
                        self._latency_s += LEARNING_RATE * (took - self._latency_s)
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
                logger.warning(f"museserve did not speak: {error}")

    # --- interruptions --------------------------------------------------------------------------------------------

    def clear(self) -> list[Speech]:
        """Nothing of what may be interrupted goes on any more. Returns that."""
        now = asyncio.get_running_loop().time()
        cleared = [speech for speech in self.line if speech.interruptible]
        if not cleared:
            return []
        self.epoch += 1
        self.stats.interrupted += len(cleared)
        take = self._showing
        if take is not None and take.segment in cleared and self._idle is not None:
            # What went on and was not heard is not seen either.
            ahead = max(0, int((self._due - now) * FPS))
            shown = max(0, take.shown - ahead)
            self._idle.seek((take.grid + shown) % self._idle.frames)
            if take.utterance is not None:
                take.utterance.played(shown)
        self._due = min(self._due, now + FRAME_S)
        for speech in cleared:
            self.line.remove(speech)
            speech.cleared = True
        self._forget_takes([take for take in self._takes if take.segment in cleared])
        if not self.line:
            self._silent.set()
        return cleared

    def _forget_takes(self, takes: list[Take]) -> None:
        for take in takes:
            take.drop()
            if take in self._takes:
                self._takes.remove(take)
            if self._open is not None and self._open[1] is take:
                self._open = None
            if self._showing is take:
                self._showing, self._fading, self._stalled = None, None, 0

    # --- what goes on ---------------------------------------------------------------------------------------------

    async def steps(self) -> AsyncIterator[Step]:
        """25 a second, for ever."""
        while True:
            await self._wait_due()
            epoch = self.epoch
            picture = self._last = self._faded(await self._picture())
            now = asyncio.get_running_loop().time()
            speech = self.line[0] if self.line else None
            begins = speech is not None and not speech.handed
            sound = None if speech is None else self._sound(speech, now)
            over = speech is not None and speech.over(now)
            if over:
                self._next_in_line(now)
            self._due = max(self._due, now - LATE_S) + FRAME_S
            self.stats.pictures += picture is not None
            yield Step(epoch, picture, speech, sound, begins and sound is not None, over)

    async def _wait_due(self) -> None:
        """Speech that goes on goes before its time, as soon as there are pictures of it."""
        loop = asyncio.get_running_loop()
        speech = self.line[0] if self.line else None
        if speech is not None and speech.handed and not speech.played_out:
            await asyncio.sleep(self._due - LEAD_S - loop.time())
            while not self._may_go(speech) and loop.time() < self._due:  # noqa: ASYNC110  # what it waits for comes in three ways
                await asyncio.sleep(POLL_S)
        else:
            await asyncio.sleep(self._due - loop.time())

    def _may_go(self, speech: Speech) -> bool:
        """Whether the next step has sound that follows what is heard now."""
        take = self._showing
        if speech.through or take is None or take.segment is not speech:
            return speech.through
        return take.ready > 0 and speech.place(min(take.sample_at(take.shown + 1), take.drawn_upto())) > speech.handed

    def _next_in_line(self, now: float) -> None:
        self.line.popleft()
        if self.line:
            self.line[0].since = now
        else:
            self._silent.set()

    async def _picture(self) -> Picture | None:
        self._lose_patience()
        while self._idle is not None:
            if self._showing is None and (joining := self._joinable(self._idle)) is not None:
                self._join(joining, self._idle)
            take = self._showing
            if take is None:
                return await self._idle_picture(self._idle)
            if (picture := take.show()) is not None:
                self._stalled = 0
                if take.shown == 1 and take.start == 0 and isinstance(take.segment, Speech):
                    self.stats.first_picture_s.append(asyncio.get_running_loop().time() - take.segment.came_at)
                    self._be_back()
                return picture
            if not take.exhausted:
                return await self._stand_in(take, self._idle)
            self._showing = None
            self._idle.seek(take.idle_frame)
        return None

    async def _idle_picture(self, idle: Idle) -> Picture | None:
        try:
            return await idle.picture()
        except MuseserveError as error:
            self._be_away(f"its idle loop cannot be shown: {error}", error)
            return self._last

    async def _stand_in(self, take: Take, idle: Idle) -> Picture | None:
        self._stalled += 1
        if self._stalled == 1:
            self.stats.stalls += 1
            if self.line:
                self.line[0].since = asyncio.get_running_loop().time()
        if self._stalled <= HOLD_FRAMES:
            return self._last
        if self._stalled == HOLD_FRAMES + 1:
            idle.seek(take.idle_frame)
        return await self._idle_picture(idle)

    def _joinable(self, idle: Idle) -> Take | None:
        """What is said next, when the idle loop is where it was drawn to begin."""
        while self._takes and self._takes[0].exhausted and self._is_done(self._takes[0]):
            self._takes.popleft()
        take = self._takes[0] if self._takes else None
        if take is None or not self.line or take.segment is not self.line[0] or self.line[0].through:
            return None
        if take.ready < BEGIN_FRAMES and not (take.ready and take.frames is not None):
            return None
        early = (take.phase - idle.next) % idle.frames
        return None if take.shown == take.run_first and 0 < early <= EARLY_FRAMES else take

    def _join(self, take: Take, idle: Idle) -> None:
        self._showing = take
        off = (take.phase - idle.next) % idle.frames if take.shown == take.run_first else 0
        if FADE_FROM < off < idle.frames - FADE_FROM and self._last is not None:
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

    def _is_done(self, take: Take) -> bool:
        """Nothing more comes of it, and nothing has to be heard in its place."""
        speech = self.line[0] if self.line else None
        return take.final or (take.failed and (speech is None or take.segment is not speech or speech.played_out))

    def _lose_patience(self) -> None:
        """Sound whose pictures do not come is heard without them."""
        speech = self.line[0] if self.line else None
        if speech is None or speech.through or speech.played_out or (self._showing is not None and not self._stalled):
            return
        waited_s = asyncio.get_running_loop().time() - speech.since
        connected = self._connecting if self._session is None else self._session.connected
        failed = bool(self._takes) and self._takes[0].failed and self._takes[0].exhausted
        if not failed and waited_s < (self._patience_s if connected else min(AWAY_S, self._patience_s)):
            return
        why = "it did not draw it" if failed else f"nothing came for {waited_s:.1f} s" if connected else "there is no connection"
        self._be_away(f"{why}: sound goes on without lips")
        self.stats.without_lips += 1
        speech.through = True
        if self._showing is not None and self._idle is not None:
            self._idle.seek(self._showing.idle_frame)
        self._forget_takes([take for take in self._takes if take.segment is speech])

    def _sound(self, speech: Speech, now: float) -> TTSAudioRawFrame | None:
        """What goes on beside the picture that is seen when `_due` comes."""
        take, before = self._showing, speech.handed
        if speech.through:
            upto = before + speech.out_rate // FPS
        elif speech.ended and speech.total - before <= ROUNDED_S * speech.out_rate:
            upto = speech.total
        elif take is None or take.segment is not speech or self._stalled:
            return None
        else:
            upto = speech.place(min(take.sample_at(take.shown), take.drawn_upto()))
        sound = speech.take(upto)
        if sound is not None:
            self._due = max(self._due, now)  # sound that is late is heard late, and what follows it, too
            speech.hear(self._due, before)
        return sound
