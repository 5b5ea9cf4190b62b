"""The phoneme times of every voice fit its sound."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import loudness as benchmark
from museserve.messages import Phoneme
from museserve.speech.engines import loudness
from museserve.speech.engines.voice_engine import joined
from museserve.speech.engines.voices import ESPEAK_MAN, ESPEAK_WOMAN, HIBARI, JOE, Voice
from museserve.timebase import SPEECH_RATE
from tools import calibration, training_voices

VOICES = [
    (HIBARI, "en", calibration.ENGLISH),
    (JOE, "en", calibration.ENGLISH),
    (ESPEAK_WOMAN, "ko", calibration.KOREAN),
    (ESPEAK_MAN, "ko", calibration.KOREAN),
    (ESPEAK_WOMAN, "en", calibration.ENGLISH),
    (ESPEAK_MAN, "en", calibration.ENGLISH),
]


@pytest.mark.parametrize("speed", [0.5, 0.75, 1.0, 1.1, 1.5, 2.0, 2.5])
@pytest.mark.parametrize(("voice", "language", "texts"), VOICES, ids=[f"{voice.name}-{language}" for voice, language, _ in VOICES])
def test_phonemes_fit_the_sound(request: pytest.FixtureRequest, voice: Voice, language: str, texts: tuple[str, ...], speed: float) -> None:
    engine = request.getfixturevalue(voice.engine)
    slowest, fastest = engine.speeds
    if not slowest <= speed <= fastest:
        pytest.skip(f"{voice.name} does not speak so fast")
    fits = calibration.measure(engine, voice, language, texts, speed)
    trusted = [fit for fit in fits if fit.r >= calibration.LOOSE]
    assert len(trusted) >= 6
    assert abs(calibration.median_offset_s(fits)) <= 0.015
    assert np.median([fit.r_as_is for fit in fits]) >= (0.5 if 0.75 <= speed <= 1.5 else 0.4)


@pytest.mark.parametrize("moved_ms", [-60, 35, 80])
def test_a_shift_of_the_labels_is_measured(hibari: object, moved_ms: int) -> None:
    take = joined(hibari.speak(calibration.ENGLISH[0], HIBARI, "en", 1.0))  # type: ignore[attr-defined]
    move = moved_ms * SPEECH_RATE // 1000
    late = [Phoneme(p.symbol, max(0, p.start + move), max(0, p.end + move)) for p in take.phonemes]
    as_is, shifted = calibration.fit(take.pcm, take.phonemes), calibration.fit(take.pcm, late)
    assert shifted.offset_s == pytest.approx(as_is.offset_s - moved_ms / 1000, abs=0.008)


@pytest.mark.parametrize(("voice", "language"), benchmark.SPEAKERS, ids=[f"{voice.name}-{language}" for voice, language in benchmark.SPEAKERS])
def test_every_voice_is_as_loud_as_it_should_be(request: pytest.FixtureRequest, voice: Voice, language: str) -> None:
    texts = (training_voices.KOREAN if language == "ko" else training_voices.ENGLISH)[:12]
    takes = [joined(request.getfixturevalue(voice.engine).speak(text, voice, language, 1.1)).pcm for text in texts]
    row = benchmark.row(voice, language, takes)
    assert row.whole == pytest.approx(loudness.TARGET_LUFS, abs=1.0)
    assert row.peak <= loudness.CEILING_DBTP


def test_women_and_men_of_espeak_differ_in_pitch(espeak: object) -> None:
    def pitch_hz(voice: Voice) -> float:
        pcm = joined(espeak.speak("아야어여 오요우유.", voice, "ko", 1.0)).pcm  # type: ignore[attr-defined]
        middle = pcm[len(pcm) // 3 : len(pcm) // 3 + 4096].astype(np.float64)
        echo = np.correlate(middle, middle, "full")[4095:]
        low, high = SPEECH_RATE // 350, SPEECH_RATE // 60
        return SPEECH_RATE / (low + int(echo[low:high].argmax()))

    assert pitch_hz(ESPEAK_WOMAN) > 1.4 * pitch_hz(ESPEAK_MAN)
