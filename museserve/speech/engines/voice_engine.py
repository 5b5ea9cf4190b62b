"""What every offline voice does: a clause in, its sound with phonemes and speech marks out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from museserve.messages import FloatArray, Phoneme
from museserve.speech.engines.voices import Voice


@dataclass(frozen=True)
class SpeechMark:
    """Where a word, or several spoken as one, sounds: the characters text[first:last], the samples pcm[start:end]."""

    first: int
    last: int
    start: int
    end: int


@dataclass(frozen=True)
class Synthesis:
    """A spoken clause, or a piece of it.

    pcm: float32 (n,) at `SPEECH_RATE`, with about `postprocess.MARGIN_S` of silence before and after the clause.
    phonemes: cover pcm without gaps, pauses with the symbol ""; in samples of it, corrected for the engine's bias.
    marks: in order, in samples of pcm; empty when the engine could not tell where the words are.
    text_end: characters of the text that are said by the end of this piece; None in the last one.
    """

    pcm: FloatArray
    phonemes: tuple[Phoneme, ...]
    marks: tuple[SpeechMark, ...] = ()
    text_end: int | None = None


def joined(pieces: Iterable[Synthesis]) -> Synthesis:
    """All pieces of a clause as one."""
    pcms: list[FloatArray] = [np.zeros(0, np.float32)]
    phonemes: list[Phoneme] = []
    marks: list[SpeechMark] = []
    at = 0
    for piece in pieces:
        phonemes += [Phoneme(p.symbol, p.start + at, p.end + at, p.stress) for p in piece.phonemes]
        marks += [SpeechMark(m.first, m.last, m.start + at, m.end + at) for m in piece.marks]
        pcms.append(piece.pcm)
        at += len(piece.pcm)
    return Synthesis(np.concatenate(pcms), tuple(phonemes), tuple(marks))


class VoiceEngine(Protocol):
    """Synchronous and thread-safe; holds no state of an utterance."""

    name: str
    speeds: tuple[float, float]  # slowest and fastest that `speak` takes

    def speak(self, text: str, voice: Voice, language: str, speed: float) -> Iterator[Synthesis]:
        """Speak a clause, in one piece or several that follow each other without a gap.

        A slow voice gives its first piece early. A clause with nothing to say gives one empty piece.

        Args:
            text: in its spoken form, as `normalize` gives it.
            language: a base tag.
            speed: times the voice's own pace, within `speeds`.
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
