"""The mouth that is heard resembles the mouth that the phonemes ask for; silence and rooms are told from speech."""

from __future__ import annotations

import numpy as np
import pytest

from museserve.messages import FloatArray, SpeechWindow
from museserve.speech.engines.voice_engine import Synthesis
from museserve.timebase import SPEECH_RATE, frames_for
from musetalk.speech_cues.controls import JAW, ROUND, SEAL, WIDE
from musetalk.speech_cues.drive import listen
from musetalk.speech_cues.loudness import FEATURE_RATE, log_mel, loud_level, loudness, usable_level
from musetalk.speech_cues.sound_model import MODEL_PATH, N_FEATURES, OFFSETS, features_of, gate_threshold, load_model, pauses_in
from tests.musetalk.voices import english, english_man, korean, with_pause
from tools.train_sound import augmented, examples, fit, targets_of
from tools.training_voices import HELD_OUT_ENGLISH, HELD_OUT_KOREAN, SPEAKERS, Reading, readings


def noisy(pcm: FloatArray, decibels: float, seed: int = 3) -> FloatArray:
    """White noise `decibels` relative to the loud level."""
    noise = np.random.default_rng(seed).standard_normal(len(pcm))
    return (pcm + loud_level(pcm) * 10 ** (decibels / 20) * noise).astype(np.float32)


def correlation(a: FloatArray, b: FloatArray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize(("take", "least"), [(english, 0.70), (english_man, 0.75), (korean, 0.75)])
@pytest.mark.parametrize("noise_db", [-90.0, -20.0])
def test_the_jaw_is_heard(take, least: float, noise_db: float) -> None:
    spoken: Synthesis = take()
    heard = load_model().predict(features_of(noisy(spoken.pcm, noise_db), loud_level(spoken.pcm)))
    wanted = targets_of(spoken.pcm, spoken.phonemes)
    n = min(len(heard), len(wanted))
    assert correlation(heard[:n, 0], wanted[:n, 0]) > least


def test_sound_alone_draws_what_phonemes_draw() -> None:
    pcm, phonemes = with_pause(english(), 0.5)
    speech = SpeechWindow(0, pcm, 0, frames_for(len(pcm)), phonemes, loud_level(pcm), final=True)
    spoken, heard = listen(speech, "phonemes").rows, listen(speech, "sound").rows
    assert correlation(spoken[:, JAW], heard[:, JAW]) > 0.65
    assert correlation(spoken[:, ROUND] - spoken[:, WIDE], heard[:, ROUND] - heard[:, WIDE]) > 0.4
    assert 0.6 < heard[:, JAW].max() / spoken[:, JAW].max() < 1.5


@pytest.mark.parametrize("noise_db", [-40.0, -26.0])
def test_a_room_is_not_speech(noise_db: float) -> None:
    pcm, _ = with_pause(english(), 1.5)
    loud = noisy(np.concatenate([np.zeros(SPEECH_RATE, np.float32), pcm]), noise_db)
    heard = listen(SpeechWindow(0, loud, 0, frames_for(len(loud)), None, loud_level(pcm), final=True))
    pause = 1.0 + len(english().pcm) / SPEECH_RATE
    quiet = slice(int((pause + 0.5) * 25), int((pause + 1.2) * 25))
    assert not np.delete(heard.rows[quiet], SEAL, axis=1).any() and not heard.is_speaking[5:18].any()
    assert not heard.is_speaking[int((pause + 1.16) * 25) : int((pause + 1.3) * 25)].any()  # nor does a seal keep it awake
    talking = slice(int(1.4 * 25), int((pause - 0.3) * 25))
    assert heard.is_speaking[talking].mean() > 0.8


def test_the_gate_follows_the_floor() -> None:
    quiet = np.full(300, -45.0, np.float32)
    assert (gate_threshold(quiet) < -30).all()
    rising = np.where(np.arange(300) < 150, -60.0, -30.0).astype(np.float32)
    threshold = gate_threshold(rising)
    assert threshold[100] < -30 and threshold[-1] == pytest.approx(-23.0, abs=0.1)


def test_pauses_in_silence_reach_everywhere() -> None:
    grid = np.arange(0.2, 0.6, 0.005)
    pauses = pauses_in(np.zeros(SPEECH_RATE, np.float32), 0.0, 0.1, grid)
    assert any(p.start < 0.0 and p.end > 1.0 for p in pauses)


def test_features_are_silence_outside_and_the_same_wherever_cut() -> None:
    pcm = english().pcm
    level = loud_level(pcm)
    whole = features_of(pcm, level)
    assert whole.shape == (len(pcm) // 240 + 1, N_FEATURES * len(OFFSETS))
    part = features_of(pcm[24_000:48_000], level)
    inside = slice(15, 85)
    np.testing.assert_allclose(part[inside], whole[100:][inside], atol=1e-4)


def test_level_does_not_change_features() -> None:
    pcm = english().pcm
    np.testing.assert_allclose(log_mel(pcm, loud_level(pcm)), log_mel(pcm * 0.1, loud_level(pcm * 0.1)), atol=2e-3)
    assert loudness(pcm, loud_level(pcm)).max() < 8.0
    assert usable_level(0.0, np.zeros(0, np.float32)) > 0.0


def test_noise_copies_carry_their_phonemes_along() -> None:
    take = english()
    rng = np.random.default_rng(1)
    pcm, phonemes = augmented(take.pcm, take.phonemes, rng)
    factor = len(pcm) / len(take.pcm)
    assert phonemes[-1].end == pytest.approx(take.phonemes[-1].end * factor, abs=30)
    assert np.isfinite(pcm).all() and len(phonemes) == len(take.phonemes)


def test_training_learns_and_repeats() -> None:
    spoken = [Reading("a", t.pcm, t.phonemes) for t in (english(), korean())]
    learnt = list(examples(spoken, copies=1, seed=5))
    assert len(learnt) == 4
    model = fit(learnt, widths=(32, 16), epochs=120)
    again = fit(list(examples(spoken, copies=1, seed=5)), widths=(32, 16), epochs=120)
    np.testing.assert_array_equal(model.last, again.last)
    assert correlation(model.predict(learnt[0].features)[:, 0], learnt[0].targets[:, 0]) > 0.75


def test_held_out_sentences_are_not_trained_on() -> None:
    espeak = [speaker for speaker in SPEAKERS if speaker.voice.engine == "espeak"][-1:]
    assert len(list(readings(held_out=True, speakers=espeak))) == len(HELD_OUT_KOREAN)
    from tools.training_voices import ENGLISH, KOREAN

    assert not set(ENGLISH) & set(HELD_OUT_ENGLISH) and not set(KOREAN) & set(HELD_OUT_KOREAN)


def test_the_shipped_model_is_small() -> None:
    assert MODEL_PATH.stat().st_size < 1_000_000
    assert max(OFFSETS) / FEATURE_RATE <= 0.2  # seconds of look-ahead
