"""How well a voice's phoneme times fit its sound: a coarse loudness drawn from the phonemes, slid along the real one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from museserve.messages import FloatArray, Phoneme
from museserve.speech.engines.voice_engine import VoiceEngine, joined
from museserve.speech.engines.voices import Voice
from museserve.timebase import SPEECH_RATE

HOP = SPEECH_RATE // 200  # 5 ms
WINDOW = 4 * HOP
REACH = 40  # hops to either side: 200 ms
FLOOR_DB = -50.0  # of the loudest window; what is quieter counts as silence
LOOSE = 0.45  # a correlation below this has no peak to be trusted

ENGLISH = (
    "Please tell me about a project that you are proud of.",
    "What happened when the database stopped responding?",
    "How would you explain a hash table to a beginner?",
    "I would like to hear about the biggest problem in your last job.",
    "Walk me through the steps that you took to fix it.",
    "Which part of the work did you enjoy the most?",
    "Thank you, that was a very helpful answer.",
    "Let us move on to the next question.",
)
KOREAN = (
    "안녕하세요, 만나서 반갑습니다.",
    "먼저 간단하게 자기소개를 부탁드립니다.",
    "가장 기억에 남는 프로젝트는 무엇인가요?",
    "그 문제를 어떻게 해결하셨는지 설명해 주세요.",
    "팀에서 맡았던 역할은 무엇이었나요?",
    "앞으로 어떤 개발자가 되고 싶으신가요?",
    "다음 질문으로 넘어가겠습니다.",
    "답변해 주셔서 감사합니다.",
)

# About how loud a sound is, pauses being the only thing below a stop.
_PAUSE, _STOP, _HISS, _NASAL, _GLIDE, _VOWEL = -0.6, 0.0, 0.35, 0.55, 0.75, 1.0
_LEVELS = (
    ("p b t d k ɡ q c ɟ ʔ ʈ ɖ", _STOP),
    ("f v s z ʃ ʒ θ ð h x ɕ ʑ ç ɣ ʂ ʐ tʃ dʒ tɕ dʑ ts dz χ ʁ ɸ β", _HISS),
    ("m n ŋ ɲ ɳ ɴ", _NASAL),
    ("j w l ɫ ɾ r ɹ ɻ ɰ ɥ ʎ ɭ", _GLIDE),
)
_TEMPLATE = {symbol: level for symbols, level in _LEVELS for symbol in symbols.split()} | {"": _PAUSE}


@dataclass(frozen=True)
class Fit:
    """`offset_s`: the sound comes this much later than the phonemes say. `r`: correlation there; `r_as_is`: without moving anything."""

    offset_s: float
    r: float
    r_as_is: float


def fit(pcm: FloatArray, phonemes: Sequence[Phoneme]) -> Fit:
    """Compare sound and phonemes of one utterance. pcm: float32 (n,) at `SPEECH_RATE`, at least half a second."""
    measured = _loudness(pcm)
    expected = _template(phonemes, len(measured))
    scores = np.asarray([_correlation(expected, measured, lag) for lag in range(-REACH, REACH + 1)])
    best = int(scores.argmax())
    between = 0.0
    if 0 < best < 2 * REACH:
        left, middle, right = scores[best - 1 : best + 2]
        between = 0.5 * (left - right) / (left - 2 * middle + right)
    return Fit((best - REACH + between) * HOP / SPEECH_RATE, float(scores[best]), float(scores[REACH]))


def measure(engine: VoiceEngine, voice: Voice, language: str, texts: Sequence[str], speed: float = 1.0) -> list[Fit]:
    quiet = replace(voice, gain=0.2)  # so that the limiter leaves its loudness as it is
    takes = [joined(engine.speak(text, quiet, language, speed)) for text in texts]
    return [fit(take.pcm, take.phonemes) for take in takes]


def median_offset_s(fits: Sequence[Fit]) -> float:
    """Over the sentences whose phonemes follow the sound at all."""
    return float(np.median([each.offset_s for each in fits if each.r >= LOOSE]))


def _loudness(pcm: FloatArray) -> NDArray[np.float64]:
    """dB (n,), one each `HOP`, centred on its time."""
    padded = np.pad(pcm.astype(np.float64), WINDOW // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.square(windows).mean(1)
    return np.asarray(10 * np.log10(np.maximum(power / power.max(), 10 ** (FLOOR_DB / 10))))


def _template(phonemes: Sequence[Phoneme], n: int) -> NDArray[np.float64]:
    expected = np.full(n, _PAUSE)
    for phoneme in phonemes:
        expected[round(phoneme.start / HOP) : round(phoneme.end / HOP)] = _TEMPLATE.get(phoneme.symbol, _VOWEL)
    # As blurred as the windows of the loudness are.
    kernel = np.hanning(WINDOW // HOP + 2)[1:-1]
    return np.convolve(np.pad(expected, len(kernel), mode="edge"), kernel / kernel.sum(), "same")[len(kernel) : -len(kernel)]


def _correlation(expected: NDArray[np.float64], measured: NDArray[np.float64], lag: int) -> float:
    """Of expected[i] with measured[i + lag], the ends being silence."""
    padded = np.pad(measured, REACH, constant_values=FLOOR_DB)[REACH + lag :][: len(expected)]
    padded = np.pad(padded, (0, len(expected) - len(padded)), constant_values=FLOOR_DB)
    return float(np.corrcoef(expected, padded)[0, 1])
