from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from museserve.speech.words import estimate, silences, syllables
from museserve.timebase import SPEECH_RATE


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("안녕하세요.", 5),
        ("cat", 1),
        ("table", 2),
        ("interview,", 3),
        ("the", 1),
        ("make", 1),
        ("queue", 1),
        ("AWS", 5),
        ("3개", 2),
        ("2024", 5),
        ("—", 0),
        ("…", 0),
    ],
)
def test_syllables(word: str, count: int) -> None:
    assert syllables(word) == count


def test_times_follow_the_syllables() -> None:
    words = estimate(["안녕하세요", "네"], 0, 6 * 2400)
    assert [(word.text, word.start, word.end, word.estimated) for word in words] == [("안녕하세요", 0, 12000, True), ("네", 12000, 14400, True)]


def test_the_spoken_form_counts_when_it_is_known() -> None:
    (first, second) = estimate(["12%", "증가"], 0, 70_000, spoken=["십이 퍼센트", "증가"])
    assert (first.end, second.start, second.end) == (50_000, 50_000, 70_000)


def test_a_sign_meets_the_silence_near_it() -> None:
    """Five syllables, a pause, four syllables: the pause is where the sound has it, not where counting puts it."""
    pause = (26_000, 34_000)
    words = estimate(["안녕하세요,", "반갑", "습니다."], 0, 60_000, [pause])
    assert words[0].end == pause[0]
    assert words[1].start == pause[1]
    assert words[-1].end == 60_000


def test_silence_at_the_ends_belongs_to_no_word() -> None:
    words = estimate(["하나", "둘"], 0, 48_000, [(0, 4_800), (40_000, 48_000)])
    assert (words[0].start, words[-1].end) == (4_800, 40_000)


def test_a_stop_consonants_gap_moves_nothing() -> None:
    with_gap = estimate(["하나", "둘", "셋"], 0, 48_000, [(10_000, 12_400)])
    assert with_gap == estimate(["하나", "둘", "셋"], 0, 48_000)


@given(
    st.lists(st.text(min_size=1, max_size=12), max_size=30),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**5)), max_size=8),
)
def test_words_are_in_order_and_inside(written: list[str], start: int, length: int, gaps: list[tuple[int, int]]) -> None:
    pauses, at = [], 0
    for before, long in sorted(gaps):
        if before >= at:
            pauses.append((before, before + long + 1))
            at = before + long + 1
    words = estimate(written, start, start + length, pauses)
    assert [word.text for word in words] == written
    at = start
    for word in words:
        assert at <= word.start <= word.end <= start + length
        at = word.end


def test_silences_are_found_where_the_sound_stops() -> None:
    rng = np.random.default_rng(0)
    speech = rng.normal(0, 0.1, SPEECH_RATE).astype(np.float32)
    gap = np.zeros(SPEECH_RATE // 4, np.float32)
    blink = np.zeros(SPEECH_RATE // 20, np.float32)  # 50 ms: too short
    pcm = np.concatenate((gap, speech, gap, speech, blink, speech, gap)) + rng.normal(0, 1e-4, 3 * SPEECH_RATE + 3 * 6000 + 1200).astype(np.float32)
    assert silences(pcm) == [(0, 6_000), (30_000, 36_000), (85_200, 91_200)]


def test_all_silence_is_one_stretch_and_no_sound_is_none() -> None:
    assert silences(np.zeros(5_000, np.float32)) == [(0, 5_000)]
    assert silences(np.zeros(100, np.float32)) == []
    assert silences(np.full(SPEECH_RATE, 0.5, np.float32)) == []
