"""One utterance, as its speaker holds it: what was given of it, and what came."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from museserve_client.errors import MuseserveError
from museserve_client.messages import Event, Finished, Fragment, Interrupted, Part, Started, Waiting
from museserve_client.sound import Sound

if TYPE_CHECKING:
    from museserve_client.session import Session

FRAME_MS = 40
SEGMENT_FRAMES = 8
PCM_RATES = (16_000, 24_000, 48_000)
ID_MAX = 64

# The idle frame that the first picture shall be drawn on, or what knows it when the service is asked.
Phase = int | Callable[[], int | None] | None


@dataclass(frozen=True)
class Speak:
    """What was asked for. Exactly one of text, deltas, audio and pcm. phase: asked for again each time that it is told."""

    text: str | None = None
    deltas: bool = False
    audio: bytes | None = None
    pcm: int | None = None
    phase: Phase = None
    more: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        given = [name for name in ("text", "deltas", "audio", "pcm") if getattr(self, name) not in (None, False)]
        if len(given) != 1:
            raise ValueError(f"give exactly one of text, deltas, audio and pcm; got {' and '.join(given) or 'none'}")
        if self.pcm is not None and self.pcm not in PCM_RATES:
            raise ValueError(f"pcm is a rate in Hz, one of {', '.join(map(str, PCM_RATES))}; got {self.pcm}")
        if self.text is not None and not self.text.strip():
            raise ValueError("the text is empty")

    @property
    def named_phase(self) -> int | None:
        phase = self.phase() if callable(self.phase) else self.phase
        return None if phase is None else int(phase)


class Utterance:
    """Made by `Session.speak`. Iterate over it once: Started, Part, Words, Fragment, Waiting, Delayed, and at last Finished or Interrupted.

    Frames count from its beginning, also where a connection was lost and another session went on with it.
    """

    def __init__(self, session: Session, id: str, asked: Speak) -> None:
        self.id = id
        self.asked = asked
        self.frames = 0  # that came without a gap
        self.parts: list[Part] = []
        self.ended = False  # by whoever speaks: nothing more is written
        self._session = session
        self._events: deque[Event | Exception] = deque()
        self._news = asyncio.Event()
        self._over = False
        self.error: MuseserveError | None = None  # what the service said of it
        # How far it went out, and what came of it: session.py.
        self.wire_id = id
        self.number: int | None = None
        self.announced = self.cancelled = self.waiting = self.whole = False
        self.end_accepted = False
        self.pieces: list[dict[str, Any]] = []
        self.sent_pieces = self.accepted_pieces = 0
        self.sound = None if asked.pcm is None else Sound(asked.pcm)  # PCM, all of it
        self.tries = 0
        self.grid = 0
        self.base_frames = 0  # that came before its sound was begun again, with this position in the sound
        self.base_ms = 0.0
        self.sound_end_ms: float | None = None  # of all that is drawn, where the service told
        self.told_played = 0

    @property
    def done(self) -> bool:
        """Finished, interrupted or failed."""
        return self._over

    @property
    def sound_ms(self) -> float:
        """Length of the sound that was written."""
        return 0.0 if self.sound is None else self.sound.ms

    def write(self, piece: str | bytes) -> None:
        """More text of an utterance with deltas, or 16-bit little-endian mono samples of one with pcm. Nothing happens once it is done."""
        wanted = str if self.asked.deltas else bytes if self.asked.pcm is not None else None
        if wanted is None:
            raise ValueError("write belongs to an utterance with deltas or pcm")
        if not isinstance(piece, (wanted, bytearray, memoryview) if wanted is bytes else wanted):
            raise TypeError(f"this utterance is written in {wanted.__name__}, got {type(piece).__name__}")
        if self.ended:
            raise ValueError("nothing can be written after end")
        if self.done or self.cancelled or not piece:
            return
        if isinstance(piece, str):
            self._session._write_text(self, {"delta": piece})
        elif self.sound is not None:
            self._session._write_sound(self, self.sound, bytes(piece))

    def flush(self) -> None:
        """Speak the text that is there, even in the middle of a sentence."""
        if not self.asked.deltas:
            raise ValueError("flush belongs to an utterance with deltas")
        if not (self.done or self.ended):
            self._session._write_text(self, {"flush": True})

    def end(self) -> None:
        """The text or sound is complete."""
        if not self.asked.deltas and self.asked.pcm is None:
            raise ValueError("end belongs to an utterance with deltas or pcm")
        if self.ended:
            return
        self.ended = True
        if not (self.done or self.cancelled):
            self._session._end(self)

    def interrupt(self) -> None:
        """At once: nothing of it comes any more but Interrupted."""
        self._session._interrupt([self])

    def played(self, frames: int) -> None:
        """So many of its frames were shown. It is told to the service, which knows then where an interruption fell."""
        self._session._played(self, frames)

    def sound_at(self, frame: int) -> float:
        """Milliseconds into the sound at which a frame begins; behind the sound of its part there is silence. Raises ValueError of none that came."""
        for part in reversed(self.parts):
            if part.first_frame <= frame and part.sound_ms is not None:
                return part.sound_ms + FRAME_MS * (frame - part.first_frame)
        raise ValueError(f"frame {frame} is of no part that came with its place in the sound")

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            while self._events:
                event = self._events.popleft()
                if isinstance(event, Exception):
                    raise event
                yield event
                if isinstance(event, (Finished, Interrupted)):
                    return
            if self._over:
                return
            self._news.clear()
            await self._news.wait()

    # --- for the session ---------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        if self._over:
            return
        self._events.append(event)
        self._over = isinstance(event, (Finished, Interrupted))
        self._news.set()

    def fail(self, error: MuseserveError) -> None:
        if self._over:
            return
        self._events.append(error)
        self._over = True
        self._news.set()

    def forget_pending(self) -> None:
        """What came and was not taken is not wanted any more."""
        self._events.clear()

    @property
    def whole_frames(self) -> int:
        return self.frames - self.frames % SEGMENT_FRAMES

    @property
    def received(self) -> dict[str, Any] | None:
        """What another session must know to go on with it; None when it begins."""
        frames = self.whole_frames
        part = next((part for part in reversed(self.parts) if part.first_frame <= frames), None)
        if not frames or part is None or self.asked.pcm is not None:
            return None
        told: dict[str, Any] = {
            "first_frame": part.first_frame,
            "phase": part.phase,
            "first_word": part.first_word,
            "first_cue": part.first_cue,
        }
        if part.chars is not None:
            told["chars"] = list(part.chars)
        return {"frames": frames, "part": told}

    def forget_received(self) -> None:
        """The service is to say it from its beginning, with another face."""
        self.frames = self.base_frames = 0
        self.base_ms = 0.0
        self.sound_end_ms = None
        self.parts.clear()
        self.whole = False

    def begin_again(self) -> None:
        """Under another id, for half a recording may have arrived. PCM goes on behind what was received of it."""
        self.tries += 1
        suffix = f".{self.tries}"
        self.wire_id = self.id[: ID_MAX - len(suffix)] + suffix
        self.announced, self.number, self.end_accepted = False, None, False
        if self.asked.pcm is None:
            return
        frames = self.whole_frames
        part = next((part for part in reversed(self.parts) if part.first_frame <= frames and part.sound_ms is not None), None)
        if part is None or part.sound_ms is None:
            return
        at_ms = part.sound_ms + FRAME_MS * (frames - part.first_frame)
        end_ms = self.sound_ms if self.sound_end_ms is None else self.sound_end_ms
        self.frames, self.base_frames, self.base_ms = frames, frames, min(at_ms, end_ms)

    @property
    def base_sample(self) -> int:
        """Where in `sound` what this service has to get begins."""
        return 0 if self.sound is None else round(self.base_ms * self.sound.rate / 1_000)

    def placed(self, event: Event) -> Event:
        """With frames and positions that count from the beginning, where the sound was begun again behind it."""
        frames, ms = self.base_frames, self.base_ms
        if not isinstance(event, Fragment) and event.id != self.id:
            event = replace(event, id=self.id)
        if not frames:
            return event
        if isinstance(event, Started):
            return replace(event, first_frame=event.first_frame + frames, grid=event.grid - frames)
        if isinstance(event, (Part, Fragment)):
            moved = replace(event, first_frame=event.first_frame + frames)
            return replace(moved, sound_ms=moved.sound_ms + ms) if isinstance(moved, Part) and moved.sound_ms is not None else moved
        if isinstance(event, (Waiting, Finished)):
            return replace(event, frames=event.frames + frames, sound_ms=None if event.sound_ms is None else event.sound_ms + ms)
        if isinstance(event, Interrupted):
            return replace(event, frames=event.frames + frames, played_ms=None if event.played_ms is None else event.played_ms + ms)
        return event
