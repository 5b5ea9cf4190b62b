"""The way of what is said into an outbox: each part is asked of the graph as a film, and its fragments get their places in the utterance, in the idle
loop and in the client's time. Knows no queue.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from configs.models import AppConfig
from deployments.ingress.sessions import protocol as p
from deployments.ingress.sessions.live_sound import SoundPart
from deployments.ingress.sessions.outbox import Outbox
from deployments.ingress.sessions.utterance import QueuedUtterance, Spoken
from museserve.errors import BusyError, EngineError
from museserve.media.fragments import moved
from museserve.media.provenance import Origin, SentStream, Signer
from museserve.messages import Fragment, FragmentHead, SpeechRequest, VideoRequest
from museserve.pipeline.idle_phase import grid_of, idle_frame
from museserve.speech.request import speech_of
from museserve.timebase import FPS

logger = logging.getLogger("ray.serve")

WAITING_S = 0.4  # with so little left and nothing to say, the client is told to idle


class Film(Protocol):
    """As `GraphClient.stream`."""

    def __call__(self, request: VideoRequest, sound: SoundPart | None = None) -> AsyncGenerator[Fragment, None]: ...


class FirstFragment(Protocol):
    """What is told of a first fragment: seconds since its utterance was queued, and whether it was in the cache."""

    def __call__(self, seconds: float, cached: str) -> None: ...


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


class Speaker:
    """phase: the idle frame that follows what was spoken last. posted_at: when the last fragment went into the outbox, on the monotonic clock."""

    def __init__(
        self,
        session: str,
        tenant: str,
        captions: bool,
        avatar: SessionAvatar,
        config: AppConfig,
        film: Film,
        outbox: Outbox,
        first_fragment: FirstFragment,
        signing: Signing | None,
    ) -> None:
        self._session, self._tenant, self._captions, self._avatar = session, tenant, captions, avatar
        self._config, self._film, self._outbox, self._first_fragment = config, film, outbox, first_fragment
        self._signing = signing
        self._signatures: set[asyncio.Task[None]] = set()
        self._loop_frames = avatar.idle.frames
        self.phase = 0
        self.posted_at = time.monotonic()
        self._played_from = 0.0  # when the client began to play what is contiguous with now ...
        self._frames_since = 0  # ... and how much of that was sent

    async def aclose(self) -> None:
        """Stop signing."""
        for task in list(self._signatures):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def ahead_s(self) -> float:
        """How much the client has left to play, if it began at once; 0 or less when nothing."""
        return self._frames_since / FPS - (time.monotonic() - self._played_from)

    def cut(self) -> None:
        """What was sent is not played to its end."""
        self._frames_since = 0

    def sign(self, queued: QueuedUtterance) -> None:
        """Tell the manifest of what was sent of it, as soon as it is there."""
        if queued.sent is not None and self._signing is not None:
            task = asyncio.create_task(self._sign(queued, queued.sent, self._signing.lips))
            self._signatures.add(task)
            task.add_done_callback(self._signatures.discard)

    async def _sign(self, queued: QueuedUtterance, sent: SentStream, lips: str) -> None:
        avatar = self._avatar
        try:
            manifest = await asyncio.to_thread(sent.manifest, Origin(avatar.id, avatar.version, avatar.uploaded, queued.voice, lips))
            self._outbox.say(p.Manifest(id=queued.id, n=queued.n, c2pa=base64.b64encode(manifest).decode()))
        except EngineError as error:
            logger.error("an utterance was not signed: %s", error)
        finally:
            sent.close()

    async def speak(self, queued: QueuedUtterance, part: Spoken) -> None:
        """Tried again while the service is full and nothing of the part has come. Raises MuseserveError."""
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
                self._outbox.say(p.Delayed(id=queued.id, n=queued.n, retry_after_s=wait_s))
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
                    await self._outbox.room()
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
        self.phase = idle_frame(run.phase, queued.frames - run.first, self._loop_frames)

    async def _pause(self, queued: QueuedUtterance, part: SoundPart) -> None:
        """Close a part of a sound when the client sends no more for now, and has little left to play."""
        assert queued.sound is not None
        while not part.closed:
            if (wait_s := max(part.pause_in_s(queued.frames), self.ahead_s() - WAITING_S)) <= 0:
                queued.sound.pause()
            await asyncio.sleep(max(wait_s, 0.0))

    def _run_of(self, queued: QueuedUtterance) -> Run:
        """Where the part that was taken goes."""
        received, queued.received = queued.received, None
        if received is not None:
            part = received.part
            return Run(part.first_frame, part.phase % self._loop_frames, received.frames - part.first_frame, claimed=True)
        first = queued.frames
        named = queued.phase if first == 0 or queued.waiting or self.ahead_s() <= 0 else None
        continues = queued.told and not queued.waiting and named is None
        if named is None:
            named = self.phase
            if queued.waiting:  # the client's idle loop has gone on
                named += max(0, round(-self.ahead_s() * FPS))
        queued.phase, queued.waiting = None, False
        return Run(first, named % self._loop_frames, continues=continues)

    def _begin_run(self, queued: QueuedUtterance, run: Run, fragment: Fragment, sound: SoundPart | None) -> None:
        head = fragment.head
        assert head is not None
        if not fragment.n_frames:  # all of the part was received: what follows begins where the client says. A voice may be quicker this time
            return
        if run.first + run.received == 0:
            self._first_fragment(time.monotonic() - queued.queued_at, head.cached)
        queued.phase, queued.told = None, True
        if not run.continues:
            self._say_started(queued, run, head)
        captions = queued.captions
        self._outbox.say(
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
            session=self._session,
            tenant=self._tenant,
            rendition=queued.rendition,
        )

    def _say_started(self, queued: QueuedUtterance, run: Run, head: FragmentHead) -> None:
        grid = (grid_of(run.phase, self._loop_frames) - run.first) % self._loop_frames
        self._outbox.say(
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
        if self._captions and (fragment.words or (fragment.final and final)):
            self._outbox.say(queued.captions.add(fragment.words, first, final=final, id=queued.id, n=queued.n))

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
        self._outbox.post(lambda seq: p.FrameHeader(seq, queued.n, at, fragment.n_frames, shown, flags).pack() + data, queued.n, at)
        queued.frames = at + fragment.n_frames
        self.posted_at = time.monotonic()
        if self.ahead_s() <= 0:
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
