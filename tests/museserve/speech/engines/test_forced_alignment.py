"""Alignment against voices whose times are known, with espeak-ng as the voice that says the text again."""

from __future__ import annotations

from difflib import SequenceMatcher

import numpy as np
import pytest

from museserve.messages import Phoneme
from museserve.speech.engines.forced_alignment import align, warp
from museserve.speech.engines.voice_engine import SpeechMark, Synthesis, joined
from museserve.speech.engines.voices import ESPEAK_MAN, ESPEAK_WOMAN, HIBARI, JOE, Voice
from museserve.timebase import SPEECH_RATE
from tools.training_voices import HELD_OUT_ENGLISH, HELD_OUT_KOREAN

IN_MS = SPEECH_RATE / 1_000


def errors_ms(heard: Synthesis, known: Synthesis) -> tuple[list[float], list[float]]:
    """Of words that both say from the same letter on, and of phonemes in runs of three that both have."""
    phonemes, marks = align(heard.pcm, known)
    found = {mark.first: mark.start for mark in marks}
    words = [(found[mark.first] - mark.start) / IN_MS for mark in heard.marks if mark.first in found]
    real, said = ([p for p in row if p.symbol] for row in (heard.phonemes, phonemes))
    matcher = SequenceMatcher(None, [p.symbol for p in real], [p.symbol for p in said], autojunk=False)
    runs = [block for block in matcher.get_matching_blocks() if block.size >= 3]
    sounds = [(said[run.b + i].start - real[run.a + i].start) / IN_MS for run in runs for i in range(run.size)]
    return words, sounds


@pytest.mark.parametrize(
    ("voice", "other", "language", "speed"),
    [(JOE, ESPEAK_MAN, "en", 1.0), (HIBARI, ESPEAK_WOMAN, "en", 1.1), (ESPEAK_MAN, ESPEAK_WOMAN, "ko", 0.8)],
    ids=["joe", "hibari", "espeak-m"],
)
def test_found_times_are_those_of_the_voice(request: pytest.FixtureRequest, voice: Voice, other: Voice, language: str, speed: float) -> None:
    engine, espeak = request.getfixturevalue(voice.engine), request.getfixturevalue("espeak")
    words, sounds = list[float](), list[float]()
    for text in HELD_OUT_KOREAN if language == "ko" else HELD_OUT_ENGLISH:
        heard, known = joined(engine.speak(text, voice, language, speed)), joined(espeak.speak(text, other, language, 1.0))
        for all_of_them, of_this in zip((words, sounds), errors_ms(heard, known), strict=True):
            all_of_them += of_this
    for errors in (words, sounds):
        assert len(errors) >= 12
        median, p95 = np.percentile(np.abs(errors), (50, 95))
        print(f"{voice.name}: {len(errors)}, median {median:.0f} ms, p95 {p95:.0f} ms, bias {np.median(errors):+.0f} ms")
        assert median <= 25 and p95 <= 100


def test_a_stretched_copy_is_found_where_it_is() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 4))
    assert np.array_equal(warp(rows, np.repeat(rows, 3, 0)), 3 * np.arange(40) + 1)
    assert np.array_equal(warp(rows, rows), np.arange(40))


def test_silence_and_nothing_are_no_error() -> None:
    known = Synthesis(np.zeros(2_400, np.float32), (Phoneme("a", 0, 2_400),), (SpeechMark(0, 1, 0, 2_400),))
    phonemes, marks = align(np.zeros(4_800, np.float32), known)
    assert phonemes[0].end <= 4_800 and marks[0].end <= 4_800
    assert align(np.zeros(0, np.float32), known) == ([], [])
