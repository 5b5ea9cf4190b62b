"""One live conversation: messages in, a queue of utterances spoken in order into an outbox. Knows no socket and no Ray."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any, Protocol

from configs.models import AppConfig
from deployments import quotas
from deployments.ingress.sessions import protocol as p
from deployments.ingress.sessions.live_sound import SentSound
from deployments.ingress.sessions.outbox import Outbox
from deployments.ingress.sessions.speaker import WAITING_S, Film, SessionAvatar, Signing, Speaker
from deployments.ingress.sessions.utterance import QueuedUtterance, Spoken, UtteranceCaptions
from museserve.errors import (
    AudioError,
    BusyError,
    ConflictError,
    EngineError,
    MuseserveError,
    PayloadTooLargeError,
    QuotaError,
    RequestError,
    TextError,
    without_paths,
)
from museserve.messages import Delivery
from museserve.speech.request import parse_delivery, parse_speech
from museserve.speech.text.deltas import TextDeltas
from museserve.timebase import FPS, SEGMENT_FRAMES

logger = logging.getLogger("ray.serve")

START_AHEAD_S = 1.0  # the next utterance is begun when the client has only so much left to play
IDS_KEPT = 4_096


class OutOfPlaceError(RequestError):
    code = "out_of_place"


class QueueFullError(BusyError):
    code = "queue_full"


class Observer(Protocol):
    """What a session tells the metrics."""

    def first_fragment(self, seconds: float, cached: str) -> None: ...
    def queued(self, change: int) -> None: ...
    def interrupted(self) -> None: ...
    def outcome(self, outcome: str) -> None: ...
    def quality(self, stats: p.Stats) -> None: ...
    def taken_over(self) -> None: ...


class Session:
    """`handle` and `handle_bytes` take what a client sends and never wait; what is to be sent comes out of `outbox`. End it with `aclose`."""

    def __init__(
        self,
        start: p.Start,
        avatar: SessionAvatar,
        config: AppConfig,
        film: Film,
        observer: Observer,
        name: str,
        tenant: str = "",
        signing: Signing | None = None,
    ) -> None:
        self.id = name
        self.token = secrets.token_urlsafe(24)
        self.start = start
        self.outbox = Outbox(config.sessions.window_bytes, keep=start.resumable)
        self.began = self._heard_at = time.monotonic()
        self.tenant = tenant
        self._avatar, self._config, self._observer = avatar, config, observer
        self._speaker = Speaker(name, tenant, start.captions, avatar, config, film, self.outbox, observer.first_fragment, signing)
        self._queue: list[QueuedUtterance] = []
        self._outcomes: OrderedDict[str, str] = OrderedDict()
        self._n = 0
        self._last: QueuedUtterance | None = None  # was finished last, and may be playing still
        self._uploading: QueuedUtterance | None = None
        self._refused_upload: str | None = None
        self._arrived = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._turns = asyncio.create_task(self._speak_in_turn())

    @property
    def last_active(self) -> float:
        """When something was said last, by either side, on the monotonic clock."""
        return max(self._heard_at, self._speaker.posted_at)

    @property
    def queue(self) -> tuple[str, ...]:
        return tuple(queued.id for queued in self._queue)

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
                    self._heard_at = time.monotonic()
                    self.outbox.say(p.Accepted(what="state"))
                case p.Ping():
                    self.outbox.say_once(p.Pong(t=message.t))
                case p.Ack():
                    if not self.outbox.acknowledge(message.seq):
                        raise OutOfPlaceError(f"message {message.seq} was acknowledged, but was never sent")
                case p.Played():
                    self._note_played(message)
                case p.Stats():
                    self._observer.quality(message)
                    self.outbox.say(p.Accepted(what="stats"))
                case p.End():
                    return message
        except MuseserveError as error:
            self._refuse(error, utterance)
        return None

    def handle_bytes(self, data: bytes) -> None:
        """One binary message: a piece of the recording or the sound that is being sent."""
        if self._refused_upload is not None:
            return  # the error was told; the rest of it is on its way
        queued = self._uploading
        if queued is None:
            message = 'a binary message came, but no recording or sound was announced; send {"type":"speak","audio":true} or "pcm":24000 first'
            self._refuse(OutOfPlaceError(message), None)
            return
        try:
            quotas.charge("upload_bytes", len(data))
            self._keep(queued, data)
        except (QuotaError, PayloadTooLargeError, AudioError) as error:
            self._fail_upload(queued, error)

    def _keep(self, queued: QueuedUtterance, data: bytes) -> None:
        """Raises PayloadTooLargeError, AudioError."""
        if queued.sound is not None:
            queued.sound.add(data)
            queued.changed.set()
            size, most_s = queued.sound.bytes, self._config.limits.max_audio_s
            if queued.sound.seconds > most_s:
                raise AudioError(f"the sound is longer than {most_s:g} s, the longest accepted")
        else:
            assert queued.audio is not None
            queued.audio += data
            size = len(queued.audio)
        if size > (most := self._config.sessions.audio_bytes):
            raise PayloadTooLargeError(f"the recording is longer than the {most:,} bytes accepted")

    def _fail_upload(self, queued: QueuedUtterance, error: MuseserveError) -> None:
        """The rest of it is passed over."""
        self._uploading, self._refused_upload = None, queued.id
        self._fail(queued, error)

    async def aclose(self) -> None:
        """Stop all work."""
        for task in (self._turns, self._work):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self._speaker.aclose()
        for queued in self._queue:
            self._observer.outcome("ended")
            if queued.sent is not None:
                queued.sent.close()
        self._observer.queued(-len(self._queue))
        self._queue.clear()

    # --- what the client asks for --------------------------------------------------------------------------------------

    def _announce(self, message: p.Speak) -> None:
        name = message.id or f"u-{secrets.token_hex(6)}"
        try:
            queued = self._new(message, name)
        except MuseserveError:
            if message.audio or message.pcm:
                self._refused_upload = name
            raise
        if message.interrupt:
            self._stop(list(self._queue), "client")
            self._speaker.cut()
        queued.phase = message.phase if not self._queue else None
        if message.audio or message.pcm:
            self._uploading, self._refused_upload = queued, None
        self._n = queued.n
        self._queue.append(queued)
        self._observer.queued(+1)
        self._heard_at = queued.queued_at
        if queued.received is not None:
            self._observer.taken_over()
        self.outbox.say(p.Queued(id=queued.id, n=queued.n, ahead=len(self._queue) - 1))
        self._arrived.set()

    def _new(self, message: p.Speak, name: str) -> QueuedUtterance:
        limits = self._config.sessions
        if name in self._outcomes or name in self.queue:
            raise ConflictError(f"the id {name!r} was used before in this session; choose another, or leave it out")
        if len(self._queue) >= limits.queued_utterances and not message.interrupt:
            raise QueueFullError(f"{len(self._queue)} utterances are queued, the most accepted; wait for one to finish, or interrupt")
        open_upload = self._uploading if message.audio or message.pcm else None
        if open_upload is not None and not message.interrupt:
            raise OutOfPlaceError(f"the recording of {open_upload.id!r} is not complete; send its audio_end first")
        delivery = self._delivery(message)
        # All that can be said of it now: the text, or the voice for what is still to come.
        most = self._config.speech.max_text_chars
        speech = None if message.text is None else parse_speech(message.text, delivery, most)
        queued = QueuedUtterance(name, self._n + 1, delivery, speech, queued_at=time.monotonic(), rendition=message.rendition)
        if message.text is not None:
            quotas.charge("chars", len(message.text))
            queued.chars = (0, len(message.text))
        elif message.deltas:
            queued.deltas = TextDeltas(most, begin=received.part.chars if (received := message.received) else None)
        elif message.audio:
            queued.audio = bytearray()
        elif message.pcm:
            queued.sound = SentSound(message.pcm, skip_ms=(received.part.sound_ms or 0) if (received := message.received) else 0)
        if message.received is not None:
            self._take_over(queued, message.received)
        return queued

    def _take_over(self, queued: QueuedUtterance, received: p.Received) -> None:
        """Raises RequestError when it is of no utterance that this service makes."""
        most = round(self._config.limits.max_utterance_s * FPS) + SEGMENT_FRAMES
        part = received.part
        if received.frames - part.first_frame > most:
            raise RequestError(f"{received.frames} frames were received; no text or recording has more than {most}")
        if part.chars is not None and part.chars[1] > self._config.speech.max_text_chars:
            raise TextError(
                f"received.part ends after {part.chars[1]:,} characters; accepted: {self._config.speech.max_text_chars:,} in one utterance"
            )
        queued.received, queued.frames = received, received.frames
        queued.captions = UtteranceCaptions(part.first_word, part.first_cue)

    def _delivery(self, message: p.Speak) -> Delivery:
        """Raises UnknownVoiceError, UnknownLanguageError."""
        start = self.start
        voice, speed = message.voice or start.voice, message.speed or start.speed
        return parse_delivery(voice, speed, message.language or start.language, self._avatar.gender)

    def _more_text(self, message: p.Text) -> None:
        queued = self._find(message.id)
        if queued.deltas is None:
            raise OutOfPlaceError(f"utterance {message.id!r} was not announced with deltas")
        quotas.charge("chars", len(message.delta))
        queued.deltas.add(message.delta, flush=message.flush, final=message.final)
        self._continued(queued, message.phase)
        self.outbox.say(p.Accepted(what="text", id=queued.id, pending_chars=queued.deltas.pending_chars))

    def _end_upload(self, message: p.AudioEnd) -> None:
        if message.id == self._refused_upload:
            self._refused_upload = None
            raise OutOfPlaceError(f"utterance {message.id!r} was refused; the error before says why")
        queued = self._uploading
        if queued is None or queued.id != message.id:
            raise OutOfPlaceError(f"no recording of {message.id!r} is being sent")
        self._uploading = None
        if not (queued.audio if queued.sound is None else queued.sound.bytes):
            error = AudioError("audio_end came, but no binary message with audio before it")
            self._fail(queued, error)
            return
        queued.audio_complete = True
        if queued.sound is not None:
            queued.sound.end()
        self._continued(queued, message.phase)
        self.outbox.say(p.Accepted(what="audio_end", id=queued.id))

    def _continued(self, queued: QueuedUtterance, phase: int | None) -> None:
        if phase is not None and queued is self._queue[0]:
            queued.phase = phase
        self._heard_at = time.monotonic()
        queued.changed.set()

    def _find(self, utterance: str) -> QueuedUtterance:
        for queued in self._queue:
            if queued.id == utterance:
                return queued
        outcome = self._outcomes.get(utterance)
        raise OutOfPlaceError(f"utterance {utterance!r} is {outcome}" if outcome else f"there is no utterance {utterance!r}")

    def _interrupt(self, utterance: str | None) -> None:
        stopped = [queued for queued in self._queue if utterance in (None, queued.id)]
        if stopped:
            self._stop(stopped, "client")
            return
        last = self._last if self._last is not None and utterance in (None, self._last.id) and not self._queue else None
        played = self._played(last) if last is not None else {}
        if not self._queue:
            self._speaker.cut()
        reason = "nothing_queued" if utterance is None else "finished" if utterance in self._outcomes else "unknown"
        self.outbox.say(p.NothingToInterrupt.model_validate({"id": utterance, "reason": reason, **played}))

    def _note_played(self, message: p.Played) -> None:
        if self._last is not None and self._last.id == message.id:
            queued = self._last
        elif message.id in self._outcomes:
            return
        else:
            queued = self._find(message.id)
        if message.frames > queued.frames:
            raise OutOfPlaceError(f"{message.frames} frames of {message.id!r} were played, and {queued.frames} were sent")
        queued.played = message.frames
        if message.phase is not None and queued.sound is not None and self._queue and queued is self._queue[0]:
            queued.phase = message.phase
        self._heard_at = time.monotonic()

    def _played(self, queued: QueuedUtterance) -> dict[str, Any]:
        """How far an utterance was played, as the client told or as it would be."""
        if queued.played is not None:
            return {"played_ms": queued.ms_at(queued.played), "played_told": True}
        left = max(0, math.ceil(self._speaker.ahead_s() * FPS)) if queued is self._last or queued is self._queue[0] else 0
        return {"played_ms": queued.ms_at(max(0, queued.frames - left)), "played_told": False}

    def _stop(self, stopped: list[QueuedUtterance], by: str) -> None:
        """Drop utterances and all that is on its way for them. Nothing of them is posted after this."""
        if not stopped:
            return
        self._observer.interrupted()
        if stopped[0] is self._queue[0] and self._work is not None:
            self._work.cancel()
            self._work = None
        for queued, played in [(queued, self._played(queued)) for queued in stopped]:
            unsent = self.outbox.drop(queued.n)
            frames = queued.frames if unsent is None else unsent
            self._leave(queued, "interrupted")
            self.outbox.say(p.Interrupted.model_validate({"id": queued.id, "n": queued.n, "frames": frames, "by": by, **played}))
        self._speaker.cut()
        self._heard_at = time.monotonic()

    def _leave(self, queued: QueuedUtterance, outcome: str) -> None:
        if queued is self._uploading:
            self._uploading, self._refused_upload = None, queued.id
        self._queue.remove(queued)
        self._outcomes[queued.id] = outcome
        while len(self._outcomes) > IDS_KEPT:
            self._outcomes.popitem(last=False)
        self._observer.queued(-1)
        self._observer.outcome(outcome)
        if queued.sent is not None and outcome != "finished":
            queued.sent.close()
            queued.sent = None

    def _refuse(self, error: MuseserveError, utterance: str | None) -> None:
        said = p.Failure(code=error.code, message=str(error), id=utterance, retry_after_s=error.retry_after_s)
        (self.outbox.say if utterance else self.outbox.say_once)(said)

    def _fail(self, queued: QueuedUtterance, error: MuseserveError) -> None:
        self._refuse(error, queued.id)
        played = self._played(queued)
        if queued is self._queue[0] and self._work is not None:  # else it waits for the rest for ever, and all behind it
            self._work.cancel()
            self._work = None
        self._leave(queued, "failed")
        self.outbox.say(p.Interrupted.model_validate({"id": queued.id, "n": queued.n, "frames": queued.frames, "by": "error", **played}))

    # --- speaking ----------------------------------------------------------------------------------------------------

    async def _speak_in_turn(self) -> None:
        while True:
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            queued = self._queue[0]
            work = self._work = asyncio.create_task(self._speak(queued))
            try:
                await asyncio.wait({work})
            finally:
                work.cancel()
            if not work.cancelled() and (error := work.exception()) is not None and queued in self._queue:
                if not isinstance(error, MuseserveError):
                    logger.error("utterance failed in session %s", self.id, exc_info=error)
                    error = EngineError("the service failed on this utterance; its log has the details")
                elif not isinstance(error, RequestError):
                    logger.warning("session %s: %s: %s", self.id, error.code, error)
                    error = without_paths(error)
                self._fail(queued, error)

    async def _speak(self, queued: QueuedUtterance) -> None:
        while (part := await self._next_part(queued)) is not None:
            await self._speaker.speak(queued, part)
        self._leave(queued, "finished")
        self._last = queued
        sound_ms = None if queued.sound is None else queued.sound.ms
        self.outbox.say(p.Finished(id=queued.id, n=queued.n, frames=queued.frames, phase=self._speaker.phase, sound_ms=sound_ms))
        self._speaker.sign(queued)

    async def _next_part(self, queued: QueuedUtterance) -> Spoken | None:
        """What to speak next; waits for it, and until the client has little left to play."""
        while not queued.done:
            if self._speaker.ahead_s() > START_AHEAD_S:
                await asyncio.sleep(self._speaker.ahead_s() - START_AHEAD_S)
            queued.changed.clear()
            if (part := queued.take()) is not None:
                return part
            begun = queued.frames and queued.received is None
            patience = self._speaker.ahead_s() - WAITING_S if begun and not queued.waiting else None
            if patience is not None and patience <= 0:
                queued.waiting = True
                sound_ms = None if queued.sound is None else queued.sound.ms_at(queued.frames)
                self.outbox.say(p.Waiting(id=queued.id, n=queued.n, frames=queued.frames, phase=self._speaker.phase, sound_ms=sound_ms))
                continue
            await _within(queued.changed.wait(), patience)
        return None


async def _within(wanted: Coroutine[Any, Any, Any], seconds: float | None) -> None:
    """Await something for at most so long."""
    task = asyncio.create_task(wanted)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        task.cancel()
