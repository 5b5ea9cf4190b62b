from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from museserve.media.captions import COLUMNS, LINES, cues, webvtt
from museserve.messages import Word

QUESTION = "Tell me about a time when you disagreed with a colleague, and how the two of you resolved it. What did you learn?"
KOREAN = (
    "안녕하세요, 오늘 면접을 진행할 면접관입니다. 먼저 간단하게 자기소개를 부탁드리겠습니다, 그리고 최근에 진행하신 프로젝트에 대해 말씀해 주세요."
)
CLOCK = r"(\d\d):(\d\d):(\d\d)\.(\d\d\d)"


def spoken(text: str, each_s: float = 0.35, start_s: float = 0.0, estimated: bool = False) -> list[Word]:
    each = round(each_s * 24_000)
    begin = round(start_s * 24_000)
    return [Word(word, begin + i * each, begin + (i + 1) * each - 960, estimated) for i, word in enumerate(text.split())]


def width(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


def read(vtt: str) -> list[tuple[int, int, str]]:
    """A strict little reader of the files written here."""
    head, *blocks = vtt.removesuffix("\n").split("\n\n")
    assert head == "WEBVTT"
    found = []
    for block in blocks:
        if block.startswith("NOTE "):
            continue
        timing, *lines = block.split("\n")
        match = re.fullmatch(f"{CLOCK} --> {CLOCK}", timing)
        assert match and lines and all(lines)
        h, m, s, ms, *end = map(int, match.groups())
        found.append((((h * 60 + m) * 60 + s) * 1_000 + ms, ((end[0] * 60 + end[1]) * 60 + end[2]) * 1_000 + end[3], "\n".join(lines)))
    return found


@pytest.mark.parametrize("text", [QUESTION, KOREAN])
def test_lines_fit_the_screen_and_no_word_is_lost(text: str) -> None:
    captions = cues(spoken(text))
    assert len(captions) >= 3
    for cue in captions:
        assert len(cue.lines) <= LINES and all(width(line) <= COLUMNS for line in cue.lines)
    assert " ".join(line for cue in captions for line in cue.lines) == text


def test_cues_end_with_the_sentence_and_prefer_a_comma() -> None:
    texts = [" ".join(cue.lines) for cue in cues(spoken(QUESTION))]
    assert texts == [
        "Tell me about a time when you disagreed with a colleague,",
        "and how the two of you resolved it.",
        "What did you learn?",
    ]


def test_a_pause_ends_a_cue() -> None:
    captions = cues([*spoken("so then"), *spoken("we shipped it", start_s=2.0)])
    assert [" ".join(cue.lines) for cue in captions] == ["so then", "we shipped it"]
    assert [(cue.start_ms, cue.end_ms) for cue in captions] == [(0, 1_000), (2_000, 3_010)]


def test_a_short_cue_stays_a_second_where_there_is_room() -> None:
    (only,) = cues(spoken("Yes.", each_s=0.2))
    assert (only.start_ms, only.end_ms) == (0, 1_000)
    first, second = cues(spoken("Yes. No.", each_s=0.5))
    assert first.end_ms == second.start_ms == 500


def test_no_long_unbroken_sentence_stands_for_more_than_six_seconds() -> None:
    captions = cues(spoken("word " * 60, each_s=0.6))
    assert len(captions) > 5 and max(cue.end_ms - cue.start_ms for cue in captions) <= 6_250
    assert min(len(cue.words) for cue in captions) >= 4, "nothing is left over alone"


def test_markup_characters_are_escaped_and_line_breaks_do_not_get_in() -> None:
    words = [Word("a<b", 0, 9_600), Word("&amp;", 9_600, 19_200), Word("x-->\n\ny", 19_200, 28_800)]
    assert read(webvtt(cues(words))) == [(0, 1_200, "a&lt;b &amp;amp; x--&gt; y")]


def test_a_note_says_when_times_are_estimated() -> None:
    assert "NOTE" in webvtt(cues(spoken("Hello there.", estimated=True)))
    assert "NOTE" not in webvtt(cues(spoken("Hello there.")))


def test_word_times_stand_before_each_word_and_rise() -> None:
    vtt = webvtt(cues(spoken("How <are> you today?", each_s=0.5)), word_times=True)
    assert read(vtt)[0][2] == "How <00:00:00.500>&lt;are&gt; <00:00:01.000>you <00:00:01.500>today?"


def test_nothing_said_is_an_empty_file() -> None:
    assert webvtt(cues([])) == "WEBVTT\n"
    assert cues([Word("  ", 0, 100)]) == []


def test_an_hour_is_written_with_hours() -> None:
    assert "01:00:00.000 --> 01:00:01.000" in webvtt(cues([Word("Late.", 3_600 * 24_000, 3_600 * 24_000 + 100)]))


def test_scripts_without_spaces_get_none() -> None:
    assert cues([Word("你好", 0, 9_600), Word("世界", 9_600, 19_200)])[0].lines == ("你好世界",)
    assert cues([Word("한국", 0, 9_600), Word("사람", 9_600, 19_200)])[0].lines == ("한국 사람",)


@given(st.lists(st.tuples(st.text(max_size=60), st.integers(0, 500_000), st.integers(0, 500_000)), max_size=30), st.booleans())
def test_whatever_the_words_the_file_is_valid(raw: list[tuple[str, int, int]], word_times: bool) -> None:
    captions = cues([Word(text, start, end) for text, start, end in raw])
    shown = read(webvtt(captions, word_times=word_times))
    assert len(shown) == len(captions)
    for start, end, text in shown:
        assert start < end and "-->" not in text
    assert all(a[1] <= b[0] for a, b in zip(shown, shown[1:], strict=False))
