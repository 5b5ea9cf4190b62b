"""One utterance of a conversation: where its speech comes from, how far it is spoken, its captions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from deployments.ingress.sessions.live_sound import SentSound, SoundPart
from deployments.ingress.sessions.protocol import CueLines, Received, Words, WordTime
from museserve.media.captions import Cue, cues
from museserve.media.provenance import SentStream
from museserve.messages import Delivery, SpeechRequest, Word
from museserve.speech.text.clean import Speakable
from museserve.speech.text.deltas import TextDeltas
from museserve.timebase import FPS, SPEECH_RATE, SPEECH_SAMPLES_PER_FRAME

Spoken = SpeechRequest | Speakable | bytes | SoundPart  # in one go: a text, a part of one, a recording, a part of a sound


@dataclass
class QueuedUtterance:
    """Exactly one of `speech`, `deltas`, `audio` and `sound` is its source.

    phase: the idle frame that the client named for the next run, if it did.
    chars: which of all the text that came are those that `take` gave last. received: what the client has of the part that is taken next, from an
    earlier session. told: `started` was said. played: frames that were shown, as the client said last.
    sent: its stream, where it will be signed; voice: what spoke it. rendition: as in `VideoRequest`.
    """

    id: str
    n: int
    delivery: Delivery
    speech: SpeechRequest | None = None
    deltas: TextDeltas | None = None
    audio: bytearray | None = None
    audio_complete: bool = False
    sound: SentSound | None = None
    phase: int | None = None
    queued_at: float = 0.0
    chars: tuple[int, int] | None = None
    received: Received | None = None
    frames: int = 0
    waiting: bool = False
    told: bool = False
    played: int | None = None
    sent: SentStream | None = None
    voice: str = ""
    rendition: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    captions: UtteranceCaptions = field(default_factory=lambda: UtteranceCaptions())

    @property
    def done(self) -> bool:
        """Whether `take` will never give anything more."""
        if self.deltas is not None:
            return self.deltas.done
        if self.sound is not None:
            return self.sound.done
        return self.speech is None and self.audio is None

    def take(self) -> Spoken | None:
        """The next piece to speak in one go. None when there is none yet, or no more."""
        if self.sound is not None:
            return self.sound.take()
        if self.deltas is not None:
            text = self.deltas.take()
            self.chars = self.deltas.taken
            return text or None
        if self.speech is not None:
            speech, self.speech = self.speech, None
            return speech
        if self.audio is not None and self.audio_complete:
            audio, self.audio = bytes(self.audio), None
            return audio
        return None

    def ms_at(self, frame: int) -> int:
        """Where a frame is: in the sound, if the client sends that; else in the utterance, as its words count."""
        return round(frame * 1_000 / FPS) if self.sound is None else self.sound.ms_at(frame)


class UtteranceCaptions:
    """Words as they become known, and the cues they make; later words may change the last cues.

    first_word, first_cue: numbers of the first ones. Those before them were told in an earlier session.
    """

    def __init__(self, first_word: int = 0, first_cue: int = 0) -> None:
        self._first_word, self._first_cue = first_word, first_cue
        self._words: list[Word] = []
        self._cues: list[Cue] = []

    @property
    def n_words(self) -> int:
        return self._first_word + len(self._words)

    @property
    def n_cues(self) -> int:
        return self._first_cue + len(self._cues)

    def add(self, words: tuple[Word, ...], first_frame: int, *, final: bool, id: str, n: int) -> Words:
        """What to tell about words whose times count from `first_frame` of the utterance."""
        shift = first_frame * SPEECH_SAMPLES_PER_FRAME
        new = [Word(w.text, w.start + shift, w.end + shift, w.estimated) for w in words]
        first_word = self.n_words
        self._words += new
        made = cues(self._words)
        same = next((i for i, (old, now) in enumerate(zip(self._cues, made, strict=False)) if old != now), min(len(self._cues), len(made)))
        self._cues = made
        return Words(
            id=id,
            n=n,
            first_word=first_word,
            words=tuple(WordTime(text=w.text, start_ms=_ms(w.start), end_ms=_ms(w.end), estimated=w.estimated) for w in new),
            first_cue=self._first_cue + same,
            cues=tuple(CueLines(start_ms=cue.start_ms, end_ms=cue.end_ms, lines=cue.lines) for cue in made[same:]),
            final=final,
        )


def _ms(samples: int) -> int:
    return round(samples * 1_000 / SPEECH_RATE)
