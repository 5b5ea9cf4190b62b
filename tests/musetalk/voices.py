"""Real speech for the animator's tests: the offline voices, each sentence spoken once."""

from __future__ import annotations

from functools import cache

import numpy as np

from museserve.messages import FloatArray, Phoneme
from museserve.speech.engines.espeak import EspeakEngine
from museserve.speech.engines.hibari import HibariEngine
from museserve.speech.engines.voice_engine import Synthesis, joined
from museserve.speech.engines.voices import ESPEAK_MAN, ESPEAK_WOMAN, HIBARI
from museserve.timebase import SPEECH_RATE

ENGLISH = "Maybe Bob found a better map of the moon. Why would you move?"
KOREAN = "안녕하세요. 먼저 자기소개를 부탁드립니다."


@cache
def english() -> Synthesis:
    return joined(HibariEngine().speak(ENGLISH, HIBARI, "en", 1.0))


@cache
def english_man() -> Synthesis:
    return joined(EspeakEngine().speak(ENGLISH, ESPEAK_MAN, "en", 1.0))


@cache
def korean() -> Synthesis:
    return joined(EspeakEngine().speak(KOREAN, ESPEAK_WOMAN, "ko", 1.0))


def with_pause(take: Synthesis, pause_s: float) -> tuple[FloatArray, tuple[Phoneme, ...]]:
    """The sentence twice with silence between."""
    gap = round(pause_s * SPEECH_RATE)
    later = len(take.pcm) + gap
    again = tuple(Phoneme(p.symbol, p.start + later, p.end + later, p.stress) for p in take.phonemes)
    return np.concatenate([take.pcm, np.zeros(gap, np.float32), take.pcm]), take.phonemes + again
