"""One live conversation: messages in, a queue of utterances spoken in order into an outbox. Knows no socket and no Ray."""

from __future__ import annotations

import asyncio
import base64
import logging
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from configs.models import AppConfig
from deployments import quotas
from deployments.ingress.sessions import protocol as p
from deployments.ingress.sessions.live_sound import SentSound, SoundPart
from deployments.ingress.sessions.outbox import Outbox
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
from museserve.media.fragments import moved
from museserve.media.provenance import Origin, SentStream, Signer
from museserve.messages import Delivery, Fragment, FragmentHead, SpeechRequest, VideoRequest
from museserve.pipeline.idle_phase import grid_of, idle_frame
from museserve.speech.request import parse_delivery, parse_speech, speech_of
from museserve.speech.text.deltas import TextDeltas
from museserve.timebase import FPS, SEGMENT_FRAMES

logger = logging.getLogger("ray.serve")

START_AHEAD_S = 1.0  # the next utterance is begun when the client has only so much left to play
WAITING_S = 0.4  # with so little left and nothing to say, the client is told to idle
IDS_KEPT = 4_096


class OutOfPlaceError(RequestError):
    code = "out_of_place"


class QueueFullError(BusyError):
    code = "queue_full"


class Film(Protocol):
    """As `GraphClient.stream`."""

    def __call__(self, request: VideoRequest, sound: SoundPart | None = None) -> AsyncGenerator[Fragment, None]: ...


class Observer(Protocol):
    """What a session tells the metrics."""

    def first_fragment(self, seconds: float, cached: str) -> None: ...
    def queued(self, change: int) -> None: ...
    def interrupted(self) -> None: ...
    def outcome(self, outcome: str) -> None: ...
    def quality(self, stats: p.Stats) -> None: ...
    def taken_over(self) -> None: ...


@dataclass(frozen=True)
class SessionAvatar:
    """What a session must know of its avatar. name: what its caller calls it; init: the init segment that the client has."""

    id: str
    name: str
    version: str
    gender: str
    init: bytes
    idle: p.Idle
    media: p.Media
    uploaded: bool = False


@dataclass(frozen=True)
class Signing:
    """lips: the engine that draws, as manifests tell it."""

    signer: Signer
    lips: str


@dataclass(frozen=True)
class Run:
    """Where a part of an utterance goes: it begins with frame `first`, drawn on idle frame `phase`.

    received: its frames that the client has already, as it says (claimed). continues: without a gap, so that it needs no `started`.
    """

    first: int
    phase: int
    received: int = 0
    continues: bool = False
    claimed: bool = False


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
        self._signing = signing
        self._signatures: set[asyncio.Task[None]] = set()
        self.token = secrets.token_urlsafe(24)
        self.start = start
        self.outbox = Outbox(config.sessions.window_bytes, keep=start.resumable)
        self.began = self.last_active = time.monotonic()
        self.tenant = tenant
        self._avatar, self._config, self._film, self._observer = avatar, config, film, observer
        self._loop_frames = avatar.idle.frames
        self._queue: list[QueuedUtterance] = []
        self._outcomes: OrderedDict[str, str] = OrderedDict()
        self._n = 0
        self._last: QueuedUtterance | None = None  # was finished last, and may be playing still
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
                    self.last_active = time.monotonic()
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
        for task in (self._speaker, self._work, *self._signatures):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
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
            self._frames_since = 0
        queued.phase = message.phase if not self._queue else None
        if message.audio or message.pcm:
            self._uploading, self._refused_upload = queued, None
        self._n = queued.n
        self._queue.append(queued)
        self._observer.queued(+1)
        self.last_active = queued.queued_at
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
        self.last_active = time.monotonic()
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
            self._frames_since = 0  # what was sent is not played to its end
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
        self.last_active = time.monotonic()

    def _played(self, queued: QueuedUtterance) -> dict[str, Any]:
        """How far an utterance was played, as the client told or as it would be."""
        if queued.played is not None:
            return {"played_ms": queued.ms_at(queued.played), "played_told": True}
        left = max(0, math.ceil(self._ahead_s() * FPS)) if queued is self._last or queued is self._queue[0] else 0
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
        self._frames_since = 0
        self.last_active = time.monotonic()

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
            await self._run_patiently(queued, part)
        self._leave(queued, "finished")
        self._last = queued
        sound_ms = None if queued.sound is None else queued.sound.ms
        self.outbox.say(p.Finished(id=queued.id, n=queued.n, frames=queued.frames, phase=self._phase, sound_ms=sound_ms))
        if queued.sent is not None and self._signing is not None:
            task = asyncio.create_task(self._sign(queued, queued.sent, self._signing.lips))
            self._signatures.add(task)
            task.add_done_callback(self._signatures.discard)

    async def _sign(self, queued: QueuedUtterance, sent: SentStream, lips: str) -> None:
        avatar = self._avatar
        try:
            manifest = await asyncio.to_thread(sent.manifest, Origin(avatar.id, avatar.version, avatar.uploaded, queued.voice, lips))
            self.outbox.say(p.Manifest(id=queued.id, n=queued.n, c2pa=base64.b64encode(manifest).decode()))
        except EngineError as error:
            logger.error("an utterance was not signed: %s", error)
        finally:
            sent.close()

    async def _next_part(self, queued: QueuedUtterance) -> Spoken | None:
        """What to speak next; waits for it, and until the client has little left to play."""
        while not queued.done:
            if self._ahead_s() > START_AHEAD_S:
                await asyncio.sleep(self._ahead_s() - START_AHEAD_S)
            queued.changed.clear()
            if (part := queued.take()) is not None:
                return part
            begun = queued.frames and queued.received is None
            patience = self._ahead_s() - WAITING_S if begun and not queued.waiting else None
            if patience is not None and patience <= 0:
                queued.waiting = True
                sound_ms = None if queued.sound is None else queued.sound.ms_at(queued.frames)
                self.outbox.say(p.Waiting(id=queued.id, n=queued.n, frames=queued.frames, phase=self._phase, sound_ms=sound_ms))
                continue
            await _within(queued.changed.wait(), patience)
        return None

    async def _run_patiently(self, queued: QueuedUtterance, part: Spoken) -> None:
        """`_run`, tried again while the service is full and nothing of the part has come."""
        run, asked, before = self._run_of(queued), time.monotonic(), queued.frames
        if isinstance(part, SoundPart):
            part.first_frame = run.first
        phase = run.phase
        while True:
            try:
                return await self._run(queued, part, run)
            except BusyError as error:
                left_s = asked + self._config.capacity.wait_s - time.monotonic()
                if queued.frames > before or left_s <= 0:
                    raise
                wait_s = min(error.retry_after_s or 1.0, left_s)
                self.outbox.say(p.Delayed(id=queued.id, n=queued.n, retry_after_s=wait_s))
                await asyncio.sleep(wait_s)
            if run.first + run.received == 0:  # the client's idle loop has gone on
                waited = round((time.monotonic() - asked) * FPS)
                run = replace(run, phase=(phase + waited) % self._loop_frames)

    async def _run(self, queued: QueuedUtterance, part: Spoken, run: Run) -> None:
        """One call to the graph: a run of fragments, or its continuation without a gap."""
        request = self._request(queued, part, run)
        final = False
        sound = part if isinstance(part, SoundPart) else None
        pausing = asyncio.create_task(self._pause(queued, sound)) if sound is not None else None
        try:
            async with aclosing(self._film(request, sound)) as fragments:
                async for fragment in fragments:
                    final = fragment.final
                    await self.outbox.room()
                    if fragment.head is not None:
                        self._begin_run(queued, run, fragment, sound)
                    self._say_words(queued, fragment, run.first)
                    if fragment.n_frames:
                        self._post(queued, fragment, run)
        finally:
            if pausing is not None:
                pausing.cancel()
        if not final:
            raise EngineError(f"the utterance broke off after {queued.frames} frames")
        self._phase = idle_frame(run.phase, queued.frames - run.first, self._loop_frames)

    async def _pause(self, queued: QueuedUtterance, part: SoundPart) -> None:
        """Close a part of a sound when the client sends no more for now, and has little left to play."""
        assert queued.sound is not None
        while not part.closed:
            if (wait_s := max(part.pause_in_s(queued.frames), self._ahead_s() - WAITING_S)) <= 0:
                queued.sound.pause()
            await asyncio.sleep(max(wait_s, 0.0))

    def _run_of(self, queued: QueuedUtterance) -> Run:
        """Where the part that was taken goes."""
        received, queued.received = queued.received, None
        if received is not None:
            part = received.part
            return Run(part.first_frame, part.phase % self._loop_frames, received.frames - part.first_frame, claimed=True)
        first = queued.frames
        named = queued.phase if first == 0 or queued.waiting or self._ahead_s() <= 0 else None
        continues = queued.told and not queued.waiting and named is None
        if named is None:
            named = self._phase
            if queued.waiting:  # the client's idle loop has gone on
                named += max(0, round(-self._ahead_s() * FPS))
        queued.phase, queued.waiting = None, False
        return Run(first, named % self._loop_frames, continues=continues)

    def _begin_run(self, queued: QueuedUtterance, run: Run, fragment: Fragment, sound: SoundPart | None) -> None:
        head = fragment.head
        assert head is not None
        if not fragment.n_frames:  # all of the part was received: what follows begins where the client says. A voice may be quicker this time
            return
        if run.first + run.received == 0:
            self._observer.first_fragment(time.monotonic() - queued.queued_at, head.cached)
        queued.phase, queued.told = None, True
        if not run.continues:
            self._say_started(queued, run, head)
        captions = queued.captions
        self.outbox.say(
            p.Part(
                id=queued.id,
                n=queued.n,
                first_frame=run.first,
                phase=run.phase,
                chars=queued.chars,
                first_word=captions.n_words,
                first_cue=captions.n_cues,
                sound_ms=None if sound is None else sound.ms_at(run.first),
            )
        )

    def _request(self, queued: QueuedUtterance, part: Spoken, run: Run) -> VideoRequest:
        audio = part if isinstance(part, bytes) else None
        speech = speech_of(part, queued.delivery) if isinstance(part, str) else part if isinstance(part, SpeechRequest) else None
        return VideoRequest(
            secrets.token_hex(8),
            self._avatar.id,
            speech,
            audio,
            phase=run.phase,
            first_frame=run.received,
            begun=run.first > 0,
            claimed=run.claimed,
            session=self.id,
            tenant=self.tenant,
            rendition=queued.rendition,
        )

    def _say_started(self, queued: QueuedUtterance, run: Run, head: FragmentHead) -> None:
        grid = (grid_of(run.phase, self._loop_frames) - run.first) % self._loop_frames
        self.outbox.say(
            p.Started(
                id=queued.id,
                n=queued.n,
                first_frame=run.first + run.received,
                phase=idle_frame(run.phase, run.received, self._loop_frames),
                grid=grid,
                cached=head.cached,
                speech_engine=head.speech_engine,
                notice=head.notice,
                timings_ms=head.timings_ms,
            )
        )

    def _say_words(self, queued: QueuedUtterance, fragment: Fragment, first: int) -> None:
        final = fragment.words_final and queued.done
        if self.start.captions and (fragment.words or (fragment.final and final)):
            self.outbox.say(queued.captions.add(fragment.words, first, final=final, id=queued.id, n=queued.n))

    def _post(self, queued: QueuedUtterance, fragment: Fragment, run: Run) -> None:
        data, flags = fragment.data, p.FrameFlag(0)
        if fragment.head is not None:
            if data.startswith(self._avatar.init):
                data = data[len(self._avatar.init) :]
            else:
                flags |= p.FrameFlag.INIT
            if not run.continues:
                flags |= p.FrameFlag.STARTS
        if fragment.final and queued.done:
            flags |= p.FrameFlag.ENDS
        if fragment.key:
            flags |= p.FrameFlag.KEY
        if run.first:
            data = moved(data, run.first)
        self._copy(queued, data, fragment)
        at = run.first + fragment.first_frame
        shown = idle_frame(run.phase, fragment.first_frame, self._loop_frames)
        self.outbox.post(lambda seq: p.FrameHeader(seq, queued.n, at, fragment.n_frames, shown, flags).pack() + data, queued.n, at)
        queued.frames = at + fragment.n_frames
        self.last_active = time.monotonic()
        if self._ahead_s() <= 0:
            self._played_from, self._frames_since = time.monotonic(), 0
        self._frames_since += fragment.n_frames

    def _copy(self, queued: QueuedUtterance, data: bytes, fragment: Fragment) -> None:
        """For the signature. One that was begun in another session is not whole here."""
        if self._signing is None:
            return
        if queued.frames == 0 and queued.sent is None:
            queued.sent = SentStream(self._signing.signer)
            if not data.startswith(b"ftyp", 4):
                queued.sent.add(self._avatar.init)
        if fragment.head is not None:
            queued.voice = queued.voice or fragment.head.speech_engine
        if queued.sent is not None:
            queued.sent.add(data)

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
