"""One live conversation: messages in, a queue of utterances spoken in order into an outbox. Knows no socket and no Ray."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from configs.models import AppConfig
from deployments.ingress.bodies import speech_request
from deployments.ingress.sessions import protocol as p
from deployments.ingress.sessions.outbox import Outbox
from deployments.ingress.sessions.utterance import Manner, QueuedUtterance
from museserve.errors import AudioError, BusyError, ConflictError, EngineError, MuseserveError, PayloadTooLargeError, RequestError
from museserve.media.isobmff import parse_fragments, rebase
from museserve.messages import Fragment, VideoRequest
from museserve.pipeline.idle_phase import grid_of, idle_frame
from museserve.speech.text.deltas import TextDeltas
from museserve.timebase import AUDIO_TIMESCALE, FPS, OUTPUT_SAMPLES_PER_FRAME, VIDEO_TIMESCALE

logger = logging.getLogger("ray.serve")

Film = Callable[[VideoRequest], AsyncGenerator[Fragment, None]]

START_AHEAD_S = 1.0  # the next utterance is begun when the client has only so much left to play
WAITING_S = 0.4  # with so little left and nothing to say, the client is told to idle
IDS_KEPT = 4_096


class OutOfPlaceError(RequestError):
    code = "out_of_place"


class QueueFullError(BusyError):
    code = "queue_full"


class Observer(Protocol):
    """What a session tells the metrics."""

    def first_fragment(self, seconds: float, cached: str) -> None: ...
    def queued(self, change: int) -> None: ...
    def interrupted(self, utterances: int) -> None: ...
    def outcome(self, outcome: str) -> None: ...
    def quality(self, stats: p.Stats) -> None: ...


@dataclass(frozen=True)
class SessionAvatar:
    """What a session must know of its avatar. init: the init segment that the client has."""

    id: str
    gender: str
    loop_frames: int
    init: bytes


class Session:
    """`handle` and `handle_bytes` take what a client sends and never wait; what is to be sent comes out of `outbox`. End it with `aclose`."""

    def __init__(self, start: p.Start, face: SessionAvatar, config: AppConfig, film: Film, observer: Observer, name: str) -> None:
        self.id = name
        self.token = secrets.token_urlsafe(24)
        self.start = start
        self.outbox = Outbox(config.sessions.window_bytes, keep=start.resumable)
        self.began = self.last_active = time.monotonic()
        self._face, self._config, self._film, self._observer = face, config, film, observer
        self._queue: list[QueuedUtterance] = []
        self._outcomes: OrderedDict[str, str] = OrderedDict()
        self._n = 0
        self._uploading: QueuedUtterance | None = None
        self._refused_upload: str | None = None
        self._phase = 0  # the idle frame that follows what was spoken last
        self._played_from = 0.0  # when the client began to play what is contiguous with now ...
        self._frames_since = 0  # ... and how much of that was sent
        self._arrived = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._speaker = asyncio.create_task(self._speak_in_turn())

    @property
    def queue(self) -> tuple[str, ...]:
        return tuple(turn.id for turn in self._queue)

    def handle(self, text: str) -> p.ClientMessage | None:
        """One text message; what is wrong with it is answered. Returns it when it is for the connection to act upon: `end`."""
        utterance: str | None = None
        try:
            message = p.parse(text)
            utterance = getattr(message, "id", None)
            match message:
                case p.Speak():
                    self._announce(message)
                case p.Text():
                    self._more_text(message)
                case p.AudioEnd():
                    self._end_upload(message)
                case p.Interrupt():
                    self._interrupt(message.id)
                case p.State():
                    self.last_active = time.monotonic()
                    self.outbox.say(p.Accepted(what="state"))
                case p.Ping():
                    self.outbox.say_once(p.Pong(t=message.t))
                case p.Ack():
                    if not self.outbox.acknowledge(message.seq):
                        raise OutOfPlaceError(f"message {message.seq} was acknowledged, but was never sent")
                case p.Stats():
                    self._observer.quality(message)
                    self.outbox.say(p.Accepted(what="stats"))
                case p.End():
                    return message
        except MuseserveError as error:
            self._refuse(error, utterance)
        return None

    def handle_bytes(self, data: bytes) -> None:
        """One binary message: a piece of the recording that is being sent."""
        if self._refused_upload is not None:
            return  # the error was told; the rest of it is on its way
        turn = self._uploading
        if turn is None or turn.audio is None:
            self._refuse(OutOfPlaceError('a binary message came, but no recording was announced; send {"type":"speak","audio":true} first'), None)
            return
        turn.audio += data
        limit = self._config.sessions.audio_bytes
        if len(turn.audio) > limit:
            self._uploading, self._refused_upload = None, turn.id
            self._fail(turn, PayloadTooLargeError(f"the recording is longer than the {limit:,} bytes accepted"))

    async def aclose(self) -> None:
        """Stop all work."""
        for task in (self._speaker, self._work):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        for _ in self._queue:
            self._observer.outcome("ended")
        self._observer.queued(-len(self._queue))
        self._queue.clear()

    # --- what the client asks for --------------------------------------------------------------------------------------

    def _announce(self, message: p.Speak) -> None:
        name = message.id or f"u-{secrets.token_hex(6)}"
        try:
            turn = self._turn(message, name)
        except MuseserveError:
            if message.audio:
                self._refused_upload = name
            raise
        if message.interrupt:
            self._stop(list(self._queue), "client")
            self._frames_since = 0
        turn.phase = message.phase if not self._queue else None
        if message.audio:
            self._uploading, self._refused_upload = turn, None
        self._n = turn.n
        self._queue.append(turn)
        self._observer.queued(+1)
        self.last_active = turn.asked
        self.outbox.say(p.Queued(id=turn.id, n=turn.n, ahead=len(self._queue) - 1))
        self._arrived.set()

    def _turn(self, message: p.Speak, name: str) -> QueuedUtterance:
        limits = self._config.sessions
        if name in self._outcomes or name in self.queue:
            raise ConflictError(f"the id {name!r} was used before in this session; choose another, or leave it out")
        if len(self._queue) >= limits.queued_utterances and not message.interrupt:
            raise QueueFullError(f"{len(self._queue)} utterances are queued, the most accepted; wait for one to finish, or interrupt")
        if message.audio and self._uploading is not None:
            raise OutOfPlaceError(f"the recording of {self._uploading.id!r} is not complete; send its audio_end first")
        manner = Manner(message.voice or self.start.voice, message.speed or self.start.speed, message.language or self.start.language)
        # A word stands for the text that is still to come: the rest can be checked now.
        checked = speech_request("a" if message.text is None else message.text, manner.voice, manner.speed, manner.language, self._config)
        turn = QueuedUtterance(name, self._n + 1, manner, asked=time.monotonic())
        if message.text is not None:
            turn.text = checked.text
        elif message.deltas:
            turn.deltas = TextDeltas(self._config.speech.max_text_chars)
        else:
            turn.audio = bytearray()
        return turn

    def _more_text(self, message: p.Text) -> None:
        turn = self._find(message.id)
        if turn.deltas is None:
            raise OutOfPlaceError(f"utterance {message.id!r} was not announced with deltas")
        turn.deltas.add(message.delta, flush=message.flush, final=message.final)
        self._told(turn, message.phase)
        self.outbox.say(p.Accepted(what="text", id=turn.id, pending_chars=turn.deltas.pending_chars))

    def _end_upload(self, message: p.AudioEnd) -> None:
        if message.id == self._refused_upload:
            self._refused_upload = None
            raise OutOfPlaceError(f"utterance {message.id!r} was refused; the error before says why")
        turn = self._uploading
        if turn is None or turn.id != message.id:
            raise OutOfPlaceError(f"no recording of {message.id!r} is being sent")
        self._uploading = None
        if not turn.audio:
            error = AudioError("audio_end came, but no binary message with audio before it")
            self._fail(turn, error)
            return
        turn.audio_complete = True
        self._told(turn, message.phase)
        self.outbox.say(p.Accepted(what="audio_end", id=turn.id))

    def _told(self, turn: QueuedUtterance, phase: int | None) -> None:
        if phase is not None and turn is self._queue[0]:
            turn.phase = phase
        self.last_active = time.monotonic()
        turn.changed.set()

    def _find(self, utterance: str) -> QueuedUtterance:
        for turn in self._queue:
            if turn.id == utterance:
                return turn
        outcome = self._outcomes.get(utterance)
        raise OutOfPlaceError(f"utterance {utterance!r} is {outcome}" if outcome else f"there is no utterance {utterance!r}")

    def _interrupt(self, utterance: str | None) -> None:
        stopped = [turn for turn in self._queue if utterance in (None, turn.id)]
        if stopped:
            self._stop(stopped, "client")
            return
        if not self._queue:
            self._frames_since = 0  # what was sent is not played to its end
        reason = "nothing_queued" if utterance is None else "finished" if utterance in self._outcomes else "unknown"
        self.outbox.say(p.NothingToInterrupt(id=utterance, reason=reason))

    def _stop(self, turns: list[QueuedUtterance], by: str) -> None:
        """Drop utterances and all that is on its way for them. Nothing of them is posted after this."""
        if not turns:
            return
        self._observer.interrupted(len(turns))
        if turns[0] is self._queue[0] and self._work is not None:
            self._work.cancel()
            self._work = None
        for turn in turns:
            unsent = self.outbox.drop(turn.n)
            frames = turn.frames if unsent is None else unsent
            self._leave(turn, "interrupted")
            self.outbox.say(p.Interrupted.model_validate({"id": turn.id, "n": turn.n, "frames": frames, "by": by}))
        self._frames_since = 0
        self.last_active = time.monotonic()

    def _leave(self, turn: QueuedUtterance, outcome: str) -> None:
        if turn is self._uploading:
            self._uploading, self._refused_upload = None, turn.id
        self._queue.remove(turn)
        self._outcomes[turn.id] = outcome
        while len(self._outcomes) > IDS_KEPT:
            self._outcomes.popitem(last=False)
        self._observer.queued(-1)
        self._observer.outcome(outcome)

    def _refuse(self, error: MuseserveError, utterance: str | None) -> None:
        said = p.Failure(code=error.code, message=str(error), id=utterance, retry_after_s=error.retry_after_s)
        (self.outbox.say if utterance else self.outbox.say_once)(said)

    def _fail(self, turn: QueuedUtterance, error: MuseserveError) -> None:
        self._refuse(error, turn.id)
        self._leave(turn, "failed")
        self.outbox.say(p.Interrupted(id=turn.id, n=turn.n, frames=turn.frames, by="error"))

    # --- speaking ----------------------------------------------------------------------------------------------------

    async def _speak_in_turn(self) -> None:
        while True:
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            turn = self._queue[0]
            work = self._work = asyncio.create_task(self._speak(turn))
            try:
                await asyncio.wait({work})
            finally:
                work.cancel()
            if not work.cancelled() and (error := work.exception()) is not None and turn in self._queue:
                if not isinstance(error, MuseserveError):
                    logger.error("utterance failed in session %s", self.id, exc_info=error)
                    error = EngineError("the service failed on this utterance; its log has the details")
                self._fail(turn, error)

    async def _speak(self, turn: QueuedUtterance) -> None:
        while (part := await self._next_part(turn)) is not None:
            await self._run(turn, part)
        self._leave(turn, "finished")
        self.outbox.say(p.Finished(id=turn.id, n=turn.n, frames=turn.frames, phase=self._phase))

    async def _next_part(self, turn: QueuedUtterance) -> str | bytes | None:
        """What to speak next; waits for it, and until the client has little left to play."""
        while not turn.done:
            if self._ahead_s() > START_AHEAD_S:
                await asyncio.sleep(self._ahead_s() - START_AHEAD_S)
            turn.changed.clear()
            if (part := turn.take()) is not None:
                return part
            patience = self._ahead_s() - WAITING_S if turn.frames and not turn.waiting else None
            if patience is not None and patience <= 0:
                turn.waiting = True
                self.outbox.say(p.Waiting(id=turn.id, n=turn.n, frames=turn.frames, phase=self._phase))
                continue
            await _within(turn.changed.wait(), patience)
        return None

    async def _run(self, turn: QueuedUtterance, part: str | bytes) -> None:
        """One call to the graph: a run of fragments, or its continuation without a gap."""
        first = turn.frames
        named = turn.phase if first == 0 or turn.waiting or self._ahead_s() <= 0 else None
        continues = first > 0 and not turn.waiting and named is None
        phase = (self._phase if named is None else named) % self._face.loop_frames
        asked = self._request(turn, part, phase)
        turn.phase, turn.waiting = None, False
        final = False
        async with aclosing(self._film(asked)) as fragments:
            async for fragment in fragments:
                final = fragment.final
                await self.outbox.room()
                if fragment.head is not None:
                    if first == 0:
                        self._observer.first_fragment(time.monotonic() - turn.asked, fragment.head["cached"])
                    if not continues:
                        self._say_started(turn, first, phase, fragment)
                self._say_words(turn, fragment, first)
                self._post(turn, fragment, first, phase, starts=not continues)
        if not final:
            raise EngineError(f"the utterance broke off after {turn.frames} frames")
        self._phase = idle_frame(phase, turn.frames - first, self._face.loop_frames)

    def _request(self, turn: QueuedUtterance, part: str | bytes, phase: int) -> VideoRequest:
        name, avatar, manner = secrets.token_hex(8), self._face.id, turn.manner
        if isinstance(part, bytes):
            return VideoRequest(name, avatar, audio=part, phase=phase)
        speech = speech_request(part, manner.voice, manner.speed, manner.language, self._config, self._face.gender)
        return VideoRequest(name, avatar, speech=speech, phase=phase)

    def _say_started(self, turn: QueuedUtterance, first: int, phase: int, fragment: Fragment) -> None:
        head = fragment.head or {}
        grid = (grid_of(phase, self._face.loop_frames) - first) % self._face.loop_frames
        self.outbox.say(
            p.Started(
                id=turn.id,
                n=turn.n,
                first_frame=first,
                phase=phase,
                grid=grid,
                cached=head["cached"],
                speech_engine=head["speech_engine"],
                notice=head["notice"],
                timings_ms=head["timings_ms"],
            )
        )

    def _say_words(self, turn: QueuedUtterance, fragment: Fragment, first: int) -> None:
        final = fragment.words_final and turn.done
        if self.start.captions and (fragment.words or (fragment.final and final)):
            self.outbox.say(turn.captions.add(fragment.words, first, final=final, id=turn.id, n=turn.n))

    def _post(self, turn: QueuedUtterance, fragment: Fragment, first: int, phase: int, *, starts: bool) -> None:
        data, flags = fragment.data, p.FrameFlag(0)
        if fragment.first_frame == 0:
            if data.startswith(self._face.init):
                data = data[len(self._face.init) :]
            else:
                flags |= p.FrameFlag.INIT
            if starts:
                flags |= p.FrameFlag.STARTS
        if fragment.final and turn.done:
            flags |= p.FrameFlag.ENDS
        if first:
            data = _later(data, first)
        at = first + fragment.first_frame
        shown = idle_frame(phase, fragment.first_frame, self._face.loop_frames)
        self.outbox.post(lambda seq: p.FrameHeader(seq, turn.n, at, fragment.n_frames, shown, flags).pack() + data, turn.n, at)
        turn.frames = at + fragment.n_frames
        self.last_active = time.monotonic()
        if self._ahead_s() <= 0:
            self._played_from, self._frames_since = time.monotonic(), 0
        self._frames_since += fragment.n_frames

    def _ahead_s(self) -> float:
        """How much the client has left to play, if it began at once; 0 or less when nothing."""
        return self._frames_since / FPS - (time.monotonic() - self._played_from)


async def _within(wanted: Coroutine[Any, Any, Any], seconds: float | None) -> None:
    """Await something for at most so long."""
    task = asyncio.create_task(wanted)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        task.cancel()


def _later(data: bytes, frames: int) -> bytes:
    """A fragment moved by so many frames on both tracks."""
    times = {}
    for info in parse_fragments(data):
        for number, track in enumerate(info.tracks):
            by = frames * (VIDEO_TIMESCALE // FPS if number == 0 else AUDIO_TIMESCALE * OUTPUT_SAMPLES_PER_FRAME // AUDIO_TIMESCALE)
            times[track.track] = track.decode_time + by
    return rebase(data, times)
