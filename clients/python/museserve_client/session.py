"""A live session: one face, one queue of utterances, over as many connections and sessions of the service as it takes."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from museserve_client.connection import Connection, Dial
from museserve_client.errors import ClosedError, MuseserveError, ServiceError
from museserve_client.messages import (
    Accepted,
    Delayed,
    Failure,
    Finished,
    Fragment,
    Interrupted,
    Moving,
    NothingToInterrupt,
    Part,
    Queued,
    Ready,
    ServerMessage,
    Started,
    Waiting,
    Words,
)
from museserve_client.sound import SAMPLE_BYTES, Sound
from museserve_client.utterance import Phase, Speak, Utterance

logger = logging.getLogger(__name__)

AUDIO_PIECE_BYTES = 256 * 1024
END_S = 2.0  # for the service to close after `end`
QUEUE_MAX = 16  # until the service says


@dataclass(frozen=True)
class Notice:
    """What became of the connection.

    lost: it is tried again. resumed: it is back, and nothing is missing. restarted: another session began, and what was not finished goes on in it.
    moving: the service stops this part of itself, and the session goes elsewhere. moved: it did. failed: it is over, `error` says why.
    """

    what: Literal["lost", "resumed", "restarted", "moving", "moved", "failed"]
    message: str
    error: MuseserveError | None = None


class Session:
    """Made by `Client.session`; an asynchronous context manager. `ready` is what the service said last of the session."""

    def __init__(
        self, dial: Dial, start: Mapping[str, Any], on_notice: Callable[[Notice], None] | None, on_ready: Callable[[Ready], None] | None
    ) -> None:
        self._connection = Connection(dial, start, self)
        self._on_notice, self._on_ready = on_notice, on_ready
        self._ready: Ready | None = None
        self._unfinished: list[Utterance] = []
        self._held = False  # connected, but what the service got is not known yet
        self._lost = self._moving = False
        self._run: asyncio.Task[None] | None = None
        self._error: MuseserveError | None = None
        self._begun = asyncio.Event()
        self._state: str | None = None

    async def __aenter__(self) -> Session:
        self._run = asyncio.create_task(self._go())
        try:
            await self._begun.wait()
        except BaseException:
            await self.aclose()
            raise
        if self._error is not None:
            await self.aclose()
            raise self._error
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    @property
    def ready(self) -> Ready:
        """Raises ClosedError before the session began."""
        if self._ready is None:
            raise ClosedError("the session has not begun; use it as `async with client.session() as session`")
        return self._ready

    @property
    def connected(self) -> bool:
        return self._connection.open

    @property
    def error(self) -> MuseserveError | None:
        """Why the session is over; None while it is not."""
        return self._error

    def speak(
        self,
        text: str | None = None,
        *,
        deltas: bool = False,
        audio: bytes | None = None,
        pcm: int | None = None,
        id: str | None = None,
        phase: Phase = None,
        voice: str | None = None,
        speed: float | None = None,
        language: str | None = None,
        rendition: int = 0,
        interrupt: bool = False,
    ) -> Utterance:
        """Say something, behind all that was asked for before.

        Args:
            text: all of it; or deltas: it is written piece by piece with `Utterance.write`.
            audio: a recording (wav, mp3, m4a, ogg, webm, flac); or pcm: its samples are written as they are made, 16-bit little-endian mono at this
                rate: 16000, 24000 or 48000 Hz.
            phase: the idle frame that the first picture shall be drawn on, or a function that is asked for it whenever the service is told.
            interrupt: what was asked for before is interrupted first.
        Raises:
            ValueError: of none or several of these. ClosedError: the session is over.
        """
        if self._error is not None or self._run is None or self._run.done():
            raise self._error or ClosedError("the session is over")
        more = {"voice": voice, "speed": speed, "language": language, "rendition": rendition or None}
        asked = Speak(text, deltas, audio, pcm, phase, tuple((name, value) for name, value in more.items() if value is not None))
        utterance = Utterance(self, id or f"c-{secrets.token_hex(6)}", asked)
        if interrupt:
            self.interrupt()
        self._unfinished.append(utterance)
        self._announce()
        return utterance

    def interrupt(self) -> None:
        """All that is spoken or queued."""
        self._interrupt(list(self._unfinished))

    def state(self, state: Literal["listening", "thinking"]) -> None:
        """What the person's side of the conversation is at."""
        self._state = state
        self._connection.send({"type": "state", "state": state})

    async def wait_closed(self) -> None:
        """Until it is over; `error` says why then."""
        if self._run is not None:
            await asyncio.wait({self._run})

    async def aclose(self) -> None:
        connected = self._connection.open
        self._connection.end()
        if self._run is not None:
            await asyncio.wait({self._run}, timeout=END_S if connected else 0)
            self._run.cancel()
            await asyncio.gather(self._run, return_exceptions=True)
        self._fail_all(self._error or ClosedError("the session was closed"))

    async def _go(self) -> None:
        try:
            await self._connection.run()
        except MuseserveError as error:
            self._error = error
            self._fail_all(error)
            if self._ready is not None:
                self._tell("failed", str(error), error)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            logger.exception("the session failed")
            self._error = MuseserveError(f"the session failed: {error!r}")
            self._fail_all(self._error)
        finally:
            self._begun.set()

    def _fail_all(self, error: MuseserveError) -> None:
        for utterance in self._unfinished:
            utterance.fail(error)
        self._unfinished.clear()

    def _tell(self, what: Any, message: str, error: MuseserveError | None = None) -> None:
        logger.info("session %s: %s", what, message)
        if self._on_notice is not None:
            self._on_notice(Notice(what, message, error))

    # --- what becomes of the connection: `connection.Hooks` ------------------------------------------------------

    def began(self, ready: Ready, anew: bool) -> None:
        before, self._ready = self._ready, ready
        self._held = not anew
        if anew and before is not None:
            self._held = True
            self._reset(same_face=before.idle.url == ready.idle.url)
            self._held = False
        if self._on_ready is not None:
            self._on_ready(ready)
        if before is not None:
            if self._moving and anew:
                self._tell("moved", "the session moved to another part of the service")
            elif anew:
                self._tell("restarted", "another session began; what was not finished goes on")
            else:
                self._tell("resumed", "the connection is back")
        self._lost = self._moving = False
        self._begun.set()
        if anew:
            if self._state is not None:
                self.state(self._state)  # type: ignore[arg-type]
            self._announce()

    def _reset(self, same_face: bool) -> None:
        """Another session: all that did not come whole is to be said there, from where it stopped."""
        for utterance in list(self._unfinished):
            if utterance.cancelled:
                self._end_here(utterance, Interrupted(utterance.id, utterance.number or 0, utterance.frames))
                continue
            if utterance.whole and same_face:
                self._finish_here(utterance)
                continue
            utterance.announced, utterance.number = False, None
            utterance.sent_pieces = utterance.accepted_pieces = 0
            utterance.pieces = _joined(utterance.pieces)
            if not same_face:
                utterance.forget_received()
            if utterance.asked.pcm is not None:
                self._sound_again(utterance)
            utterance.waiting = False

    def caught_up(self) -> None:
        for utterance in list(self._unfinished):
            if utterance.cancelled:
                self._connection.send({"type": "interrupt", "id": utterance.wire_id})
            elif utterance.announced and utterance.number is None:
                utterance.announced = False
            elif utterance.announced and not utterance.end_accepted and (utterance.asked.audio is not None or utterance.asked.pcm is not None):
                self._connection.send({"type": "interrupt", "id": utterance.wire_id})
                self._sound_again(utterance)
            utterance.sent_pieces = utterance.accepted_pieces
        self._held = False
        self._announce()

    def _sound_again(self, utterance: Utterance) -> None:
        utterance.begin_again()
        if utterance.ended and utterance.sound is not None and utterance.frames and utterance.base_sample >= utterance.sound.samples:
            self._finish_here(utterance)

    def _finish_here(self, utterance: Utterance) -> None:
        """All of it came, and the service did not come to say so."""
        phase = (utterance.grid + utterance.frames) % self.ready.idle.frames
        sound_ms = None if utterance.sound is None else utterance.sound_ms
        self._end_here(utterance, Finished(utterance.id, utterance.number or 0, utterance.frames, phase, sound_ms))

    def lost(self, code: int) -> None:
        if not self._lost:
            self._lost = True
            self._tell("lost", f"the connection is lost (close code {code})")

    # --- what goes out -----------------------------------------------------------------------------------------

    def _announce(self) -> None:
        if self._held or not self._connection.open:
            return
        most = self._ready.limits.queued_utterances if self._ready else QUEUE_MAX
        uploading = False
        for before, utterance in enumerate(list(self._unfinished)):
            sound = utterance.asked.audio is not None or utterance.asked.pcm is not None
            if not utterance.announced:
                if before >= most or (sound and uploading):
                    return  # they are announced in order
                self._speak(utterance, before)
            else:
                self._send_pieces(utterance)
            uploading = uploading or (utterance.asked.pcm is not None and not utterance.ended)

    def _speak(self, utterance: Utterance, before: int) -> None:
        asked = utterance.asked
        speak: dict[str, Any] = {"type": "speak", "id": utterance.wire_id, **dict(asked.more)}
        if asked.text is not None:
            speak["text"] = asked.text
        elif asked.deltas:
            speak["deltas"] = True
        elif asked.audio is not None:
            speak["audio"] = True
        else:
            speak["pcm"] = asked.pcm
        if (received := utterance.received) is not None:
            speak["received"] = received
        if before == 0:  # behind other speech the service knows better
            speak.update(_named(asked.named_phase))
        utterance.announced = self._connection.send(speak)
        if asked.audio is not None:
            for at in range(0, len(asked.audio), AUDIO_PIECE_BYTES):
                self._connection.send(asked.audio[at : at + AUDIO_PIECE_BYTES], utterance)
            self._connection.send({"type": "audio_end", "id": utterance.wire_id})
        elif utterance.sound is not None:
            utterance.sound.drawn = utterance.base_sample
            self._send_sound(utterance, utterance.sound)
            if utterance.ended:
                self._connection.send({"type": "audio_end", "id": utterance.wire_id})
        else:
            self._send_pieces(utterance)

    def _write_text(self, utterance: Utterance, piece: dict[str, Any]) -> None:
        utterance.pieces.append({"delta": "", **piece})
        self._send_pieces(utterance)

    def _write_sound(self, utterance: Utterance, sound: Sound, piece: bytes) -> None:
        sound.write(piece)
        if utterance.announced and not self._held:
            self._send_sound(utterance, sound)

    def _send_sound(self, utterance: Utterance, sound: Sound) -> None:
        while piece := sound.undrawn(AUDIO_PIECE_BYTES // SAMPLE_BYTES):
            self._connection.send(piece, utterance)

    def _end(self, utterance: Utterance) -> None:
        if utterance.asked.deltas:
            self._write_text(utterance, {"final": True})
        elif utterance.announced and not self._held:
            self._connection.send({"type": "audio_end", "id": utterance.wire_id})
        self._announce()

    def _send_pieces(self, utterance: Utterance) -> None:
        if self._held or not utterance.announced or not utterance.asked.deltas:
            return
        first = bool(self._unfinished) and self._unfinished[0] is utterance
        while utterance.sent_pieces < len(utterance.pieces):
            phase = _named(utterance.asked.named_phase) if first and (utterance.waiting or not utterance.frames) else {}
            piece = utterance.pieces[utterance.sent_pieces]
            if not self._connection.send({"type": "text", "id": utterance.wire_id, **piece, **phase}):
                return
            utterance.sent_pieces += 1

    def _interrupt(self, utterances: list[Utterance]) -> None:
        for utterance in utterances:
            if utterance.done or utterance.cancelled:
                continue
            utterance.cancelled = True
            utterance.forget_pending()
            self._connection.drop(utterance)
            if utterance.announced:
                self._connection.send({"type": "interrupt", "id": utterance.wire_id})
            else:
                self._end_here(utterance, Interrupted(utterance.id, 0, utterance.frames))

    def _played(self, utterance: Utterance, frames: int) -> None:
        here = frames - utterance.base_frames
        if utterance.asked.pcm is None or utterance.done or here <= 0 or frames <= utterance.told_played or utterance.number is None:
            return
        utterance.told_played = frames
        self._connection.send({"type": "played", "id": utterance.wire_id, "frames": here})

    # --- what comes in -----------------------------------------------------------------------------------------

    def message(self, message: ServerMessage) -> None:
        utterance = self._by_wire_id(getattr(message, "id", None))
        if isinstance(message, Moving):
            self._moving = True
            self._tell("moving", "this part of the service is being stopped")
        elif isinstance(message, Failure):
            self._failed(message, utterance)
        elif utterance is None:
            return
        elif isinstance(message, Queued):
            utterance.number = message.n
        elif isinstance(message, Accepted):
            if message.what == "audio_end":
                utterance.end_accepted = True
            else:
                utterance.accepted_pieces += 1
        elif isinstance(message, (Interrupted, NothingToInterrupt)):
            self._interrupted(message, utterance)
        elif isinstance(message, (Started, Part, Words, Waiting, Delayed, Finished)):
            self._of(utterance, message)

    def fragment(self, fragment: Fragment) -> None:
        utterance = next((one for one in self._unfinished if one.number == fragment.n), None)
        if utterance is None or utterance.cancelled:
            return
        placed = utterance.placed(fragment)
        assert isinstance(placed, Fragment)
        utterance.frames = placed.first_frame + placed.n_frames
        utterance.whole = placed.ends
        utterance.tell(placed)

    def _of(self, utterance: Utterance, message: Started | Part | Words | Waiting | Delayed | Finished) -> None:
        if utterance.cancelled and not isinstance(message, Finished):
            return
        placed = utterance.placed(message)
        if isinstance(placed, Started):
            utterance.waiting, utterance.grid, utterance.sound_end_ms = False, placed.grid, None
        elif isinstance(placed, Part):
            utterance.parts.append(placed)
        elif isinstance(placed, Waiting):
            utterance.waiting = True
            utterance.sound_end_ms = utterance.sound_ms if placed.sound_ms is None else placed.sound_ms
        if isinstance(placed, Finished):
            self._end_here(utterance, placed)
        else:
            utterance.tell(placed)

    def _interrupted(self, message: Interrupted | NothingToInterrupt, utterance: Utterance) -> None:
        if isinstance(message, NothingToInterrupt):
            message = Interrupted(utterance.id, utterance.number or 0, utterance.frames)
        placed = utterance.placed(message)
        assert isinstance(placed, Interrupted)
        if placed.by == "error":
            utterance.fail(utterance.error or ServiceError("failed", "the service failed on this utterance"))
            self._remove(utterance)
        else:
            self._end_here(utterance, placed)

    def _failed(self, failure: Failure, utterance: Utterance | None) -> None:
        error = ServiceError(failure.code, failure.message, retry_after_s=failure.retry_after_s)
        if utterance is None:
            if failure.closing is None:
                logger.warning("the service refused a message: %s", error)
        elif utterance.number is None:
            utterance.fail(error)
            self._remove(utterance)
        else:
            utterance.error = error  # where it ends with that, `interrupted` follows

    def _end_here(self, utterance: Utterance, event: Finished | Interrupted) -> None:
        utterance.tell(event)
        self._remove(utterance)

    def _remove(self, utterance: Utterance) -> None:
        with suppress(ValueError):
            self._unfinished.remove(utterance)
        self._announce()

    def _by_wire_id(self, wire_id: str | None) -> Utterance | None:
        return next((one for one in self._unfinished if one.wire_id == wire_id), None)


def _named(phase: int | None) -> dict[str, int]:
    return {} if phase is None else {"phase": phase}


def _joined(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same text in as few pieces as say the same."""
    fewer: list[dict[str, Any]] = []
    for piece in pieces:
        if fewer and not fewer[-1].get("flush") and not fewer[-1].get("final"):
            fewer[-1] = {**fewer[-1], **piece, "delta": fewer[-1]["delta"] + piece["delta"]}
        else:
            fewer.append(dict(piece))
    return fewer
