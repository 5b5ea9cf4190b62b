from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from museserve.speech.text.clean import clean
from museserve.speech.text.sentences import MIN_CLAUSE_CHARS, PAUSE_CLAUSE_S, PAUSE_PARAGRAPH_S, PAUSE_QUESTION_S, PAUSE_SENTENCE_S, split


def texts(text: str, **options: Any) -> list[str]:
    return [clause.text for clause in split(text, **options)]


@pytest.mark.parametrize(
    "sentences",
    [
        ["Hello, thanks for coming.", "Shall we start?"],
        ["안녕하세요.", "오늘 면접을 맡은 김민수입니다.", "준비되셨나요?"],
        ["Dr. Smith works at U.S. Steel.", "He likes it."],
        ["J. K. Rowling wrote it.", "Did you read it?"],
        ["Use caches, e.g. Redis, i.e. memory.", "Why?"],
        ["It costs 3.14 dollars.", "Version v2.0 is out.", "Open main.py first."],
        ["See https://example.com/a.b?c=d.", "Then answer."],
        ["Well... it depends.", "Go on."],
        ['He said "Stop!" and left.', "Why?"],
        ['"정말요?" 라고 물었습니다.', "그래서 어떻게 하셨나요?"],
        ["REST API를 v2.0으로 올리셨죠?", "그때 main.py는 3.5배 빨라졌나요?"],
        ["これはペンです。", "元気ですか？"],
        ["1. First point.", "2. Second point."],
        ["Q1. 자기소개를 해 주세요.", "Q2. 지원 동기는 무엇인가요?"],
        ["Really?!", "Yes!"],
        ["Did you leave Acme Inc. – after one year?", "Why?"],
        ["We met Mr. Kim on Jan. 5th.", "He is Prof. Lee's friend."],
    ],
)
def test_sentences(sentences: list[str]) -> None:
    text = " ".join(sentences)
    assert texts(text, first_clause_chars=500) == sentences


def test_korean_sentences_without_spaces() -> None:
    assert texts("했습니다.그리고 갔어요?네.") == ["했습니다.", "그리고 갔어요?", "네."]


def test_an_english_question_starts_with_a_short_clause() -> None:
    text = "When you joined that team, how did you decide which of the many problems deserved your attention in the first weeks?"
    first, second = split(text)
    assert first.text == "When you joined that team,"
    assert (first.pause_s, second.pause_s) == (PAUSE_CLAUSE_S, PAUSE_QUESTION_S)
    assert text[second.start : second.end] == second.text


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (
            "최근에 진행하신 프로젝트를 먼저 소개해 주시고, 그 안에서 맡으신 역할을 설명해 주시겠어요?",
            "최근에 진행하신 프로젝트를 먼저 소개해 주시고,",
        ),
        ("서비스 트래픽이 갑자기 늘어났다고 들었는데 그때 어떤 방법으로 문제를 해결하셨나요?", "서비스 트래픽이 갑자기 늘어났다고 들었는데"),
        ("동료와 의견이 서로 크게 부딪혔지만 결국 합의에 이르렀던 경험이 있으신가요?", "동료와 의견이 서로 크게 부딪혔지만"),
        ("만약 데이터베이스가 갑자기 멈춘다면 가장 먼저 무엇을 확인하시겠습니까?", "만약 데이터베이스가 갑자기 멈춘다면"),
        (
            "Please describe the architecture you built, and tell me what you would change about it today.",
            "Please describe the architecture you built,",
        ),
        (
            "Imagine the service is slow for everyone and you have only ten minutes before the customer calls.",
            "Imagine the service is slow for everyone",
        ),
    ],
)
def test_the_first_clause_ends_where_a_speaker_would_breathe(text: str, first: str) -> None:
    assert texts(text)[0] == first


@pytest.mark.parametrize(
    "text",
    [
        "Tell me about yourself.",
        "Docker and Kubernetes and Terraform and Ansible and Jenkins",
        "네, 좋습니다.",
        "So, tell me more about the distributed deployment pipelines",
        "지금 준비하고 있는 프로젝트의 진행 상황을 알려 주세요.",
        "가장 최고의 결과물을 만들었던 프로젝트의 이름은 무엇입니까?",
    ],
)
def test_no_cut_that_sounds_wrong(text: str) -> None:
    assert texts(text) == [text]


def test_both_pieces_of_a_cut_sentence_are_long_enough() -> None:
    text = "Yes, because the whole deployment pipeline had been written by a single contractor who left the company, so."
    for piece in texts(text):
        assert len(piece) >= MIN_CLAUSE_CHARS


def test_pauses() -> None:
    clauses = split("First.\n\nSecond? Third!\nFourth")
    assert [clause.pause_s for clause in clauses] == [PAUSE_PARAGRAPH_S, PAUSE_QUESTION_S, PAUSE_SENTENCE_S, PAUSE_SENTENCE_S]


def test_lines_wrapped_by_an_editor_stay_one_sentence() -> None:
    text = "Could you describe the largest system that\nyou have ever designed?"
    assert texts(text, first_clause_chars=500) == [text.replace("\n", " ")]


def test_markdown_emoji_and_invisible_characters_are_not_spoken() -> None:
    text = "# 제목\n\n- **첫째** 항목 😀\n- 둘째 `code` 항\u200b목\n\n[문서](https://a.b/c)를 보세요. 👍🏽\x07"
    assert texts(text) == ["제목", "첫째 항목", "둘째 code 항목", "문서를 보세요."]


@pytest.mark.parametrize("text", ["C# and F#", "a * b", "3*4", "user_id", "2^10", "x <= y", "C++", "10+ years", "-5"])
def test_signs_that_mean_something_stay(text: str) -> None:
    assert clean(text).text == text


def test_a_text_without_any_space_is_cut() -> None:
    clauses = split("가" * 4000, max_chars=300)
    assert max(len(clause.text) for clause in clauses) <= 300
    assert "".join(clause.text for clause in clauses) == "가" * 4000
    assert {clause.pause_s for clause in clauses[:-1]} == {0.0}


def test_long_sentences_are_cut_at_commas() -> None:
    text = ", ".join(f"the part number {i} of the system" for i in range(40)) + "."
    pieces = texts(text)
    assert max(map(len, pieces)) <= 300
    assert all(piece.endswith((",", ".")) for piece in pieces[1:])


def test_languages_by_sentence() -> None:
    clauses = split("안녕하세요. Tell me about your team. 좋습니다. OK?")
    assert [clause.language for clause in clauses] == ["ko", "en", "ko", "ko"]


ANY_TEXT = st.one_of(st.text(), st.text(alphabet="가다고요 .,?!\nabAB12#*_`[]()…\"'-~/:%$@^+", max_size=400))


@settings(max_examples=300)
@given(ANY_TEXT, st.integers(8, 80), st.integers(20, 400))
@example("[a](b) c", 48, 300)
@example("a" * 50 + "́" * 50, 48, 20)
def test_pieces_cover_every_letter_in_order(text: str, first_clause_chars: int, max_chars: int) -> None:
    clauses = split(text, first_clause_chars, max_chars)
    at = 0
    for clause in clauses:
        assert at <= clause.start < clause.end <= len(text)
        assert not re.search(r"\w", "".join(char for char in text[at : clause.start] if char.isalnum()))
        assert len(clause.text) <= max_chars
        assert clause.text == clause.text.strip() != ""
        assert 0 <= clause.pause_s <= PAUSE_PARAGRAPH_S
        at = clause.end
    assert not any(char.isalnum() for char in text[at:])


@pytest.mark.parametrize("token", ["a/" * 120, "https://example.com/" + "abcdef/" * 40, "a_b_c_" * 40 + "d"])
def test_a_long_token_begins_with_a_short_clause(token: str) -> None:
    """Else whoever sends an address of a thousand letters hears nothing for seconds."""
    first, *rest = split(token, 48, 240)
    assert 12 <= len(first.text) <= 60 and "".join(clause.text for clause in (first, *rest)) == token
