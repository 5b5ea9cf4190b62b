"""What an offline voice gives for one clause, and the verb that makes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from museserve.messages import FloatArray, Phoneme
from museserve.speech.engines.voices import Voice


@dataclass(frozen=True)
class Mark:
    """When a stretch of the spoken text sounds. `first`, `last`: characters text[first:last]; `start`, `end`: samples of the take."""

    first: int
    last: int
    start: int
    end: int


@dataclass(frozen=True)
class Take:
    """A spoken clause, or a piece of it. `pcm`: float32 (n,) at `SPEECH_RATE`, about `trim.MARGIN_S` of silence around the clause.

    Times of `phonemes` and `marks` are samples of this pcm, already corrected for the engine's bias. Pauses inside the clause are
    phonemes with the symbol "". `marks` is empty when the engine could not tell where the words are.
    `reaches`: characters of the text that are said by the end of this piece; None in the last one.
    """

    pcm: FloatArray
    phonemes: tuple[Phoneme, ...]
    marks: tuple[Mark, ...] = ()
    reaches: int | None = None


def joined(takes: Iterable[Take]) -> Take:
    """All pieces of a clause as one take."""
    pieces = list(takes)
    starts = np.cumsum([0, *(len(piece.pcm) for piece in pieces)]).tolist()
    phonemes = [Phoneme(p.symbol, p.start + at, p.end + at, p.stress) for piece, at in zip(pieces, starts, strict=False) for p in piece.phonemes]
    marks = [Mark(m.first, m.last, m.start + at, m.end + at) for piece, at in zip(pieces, starts, strict=False) for m in piece.marks]
    return Take(np.concatenate([np.zeros(0, np.float32), *(piece.pcm for piece in pieces)]), tuple(phonemes), tuple(marks))


class VoiceEngine(Protocol):
    """Synchronous and thread-safe; holds no state of an utterance."""

    name: str
    speeds: tuple[float, float]  # slowest and fastest that `speak` takes

    def speak(self, text: str, voice: Voice, language: str, speed: float) -> Iterator[Take]:
        """Speak one clause of normalised text in `language` (a base tag), in one piece or several that follow each other without a gap.

        A slow voice gives its first piece early. A clause with nothing to say gives one empty take.

        Raises:
            SpeechEngineError: the voice failed on this text.
        """
        ...

    def warm(self) -> None:
        """Load what `speak` needs, so that the first clause is as fast as the next.

        Raises:
            EngineUnavailableError: a library or model is missing or is not the one expected.
        """
        ...
