"""Korean as the standard says it: its own examples, and what interviewers say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from museserve.speech.text.pronounce_ko import pronounce

FOLDER = Path(__file__).with_name("korean")


def listed(name: str, between: str) -> Iterator[tuple[str, str, list[str]]]:
    """(article or kind, written, what is said: any of these)."""
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            kind, rest = line.split(" ", 1)
            written, said = rest.rsplit(between, 1)
            yield kind, written, said.split("|")


WORDS, PHRASES = list(listed("words.txt", " ")), list(listed("phrases.txt", " > "))


@pytest.mark.parametrize(("article", "written", "said"), WORDS)
def test_word(article: str, written: str, said: list[str]) -> None:
    assert pronounce(written).replace(" ", "") in said


@pytest.mark.parametrize(("article", "written", "said"), PHRASES)
def test_phrase(article: str, written: str, said: list[str]) -> None:
    assert pronounce(written).replace(" ", "") in said


def test_the_lists_are_long_enough() -> None:
    assert len(WORDS) >= 700 and len(PHRASES) >= 160


def test_a_word_takes_its_particles_and_endings() -> None:
    for written, said in (("꽃잎이", "꼰니피"), ("값도", "갑또"), ("값이", "갑씨"), ("부엌에", "부어케"), ("성과를", "성꽈를"), ("능력과", "능녁꽈")):
        assert pronounce(written) == said


def test_a_stop_or_another_script_ends_a_phrase() -> None:
    assert pronounce("옷, 안") == "옫, 안"
    assert pronounce("값. 있는") == "갑. 인는"
    assert pronounce("옷 A 안") == "옫 A 안"


def test_what_is_a_particle_is_not_an_ending() -> None:
    assert pronounce("사람을 존중하고") == "사라믈 존중하고"
    assert pronounce("닭과 삶과 여덟과") == "닥꽈 삼과 여덜과"


@given(st.text(alphabet=st.sampled_from("가값닭많없읽밟넓훑앉젊놓꽃밭굳의쳐일육여성법할 것 수 .,A1\n"), max_size=30) | st.text(max_size=20))
def test_any_text_keeps_its_length_and_all_but_hangul(text: str) -> None:
    said = pronounce(text)
    assert len(said) == len(text)
    assert [char for char in said if not "가" <= char <= "힣"] == [char for char in text if not "가" <= char <= "힣"]


@given(st.text(alphabet=[chr(code) for code in range(0xAC00, 0xD7A4)], min_size=2, max_size=6))
def test_no_coda_is_left_before_a_vowel_but_ng(text: str) -> None:
    said = pronounce(text)
    for left, right in zip(said, said[1:], strict=False):
        assert (ord(left) - 0xAC00) % 28 in (0, 21) or (ord(right) - 0xAC00) // 588 != 11
