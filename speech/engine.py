"""What an offline voice gives for one clause, and the verb that makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from contracts import FloatArray, Phoneme
from speech.voices import Voice


@dataclass(frozen=True)
class Mark:
    """When a stretch of the spoken text sounds. `first`, `last`: characters text[first:last]; `start`, `end`: samples of the take."""

    first: int
    last: int
    start: int
    end: int


@dataclass(frozen=True)
class Take:
    """One spoken clause. `pcm`: float32 (n,) at `SPEECH_RATE`, about `trim.MARGIN_S` of silence around the sound.

    Times of `phonemes` and `marks` are samples of this pcm, already corrected for the engine's bias. Pauses inside the clause are
    phonemes with the symbol "". `marks` is empty when the engine could not tell where the words are.
    """

    pcm: FloatArray
    phonemes: tuple[Phoneme, ...]
    marks: tuple[Mark, ...] = ()


class VoiceEngine(Protocol):
    """Synchronous and thread-safe; holds no state of an utterance."""

    name: str
    speeds: tuple[float, float]  # slowest and fastest that `speak` takes

    def speak(self, text: str, voice: Voice, language: str, speed: float) -> Take:
        """Speak one clause of normalised text in `language` (a base tag). A clause with nothing to say gives an empty take.

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
