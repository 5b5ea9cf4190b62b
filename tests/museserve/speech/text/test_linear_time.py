"""Any text takes time that grows with its length, not with its square: one legal text must not hold up everybody else."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest

from museserve.errors import TextError
from museserve.messages import Delivery
from museserve.speech.request import parse_speech
from museserve.speech.text import sentences
from museserve.speech.text.clean import canonical, clean
from museserve.speech.text.deltas import TextDeltas
from museserve.speech.text.language import detect
from museserve.speech.text.lexicon import Lexicon
from museserve.speech.text.normalize import normalize
from museserve.speech.text.normalize_en import english_rules
from museserve.speech.text.normalize_ko import korean_rules
from museserve.speech.words import syllables

LEXICON = Lexicon.load()
N = 1_000
LINEAR = 4.0  # of four times the text
TOO_STEEP = 9.0  # the square would be 16
NOTICEABLE_S = 0.002

SIGNS = " \n\t.,!?\"'()[]`*_~|#-—>/@:^"
LETTERS = "aA1가"
UNITS = [
    *SIGNS,
    *LETTERS,
    *map("".join, itertools.product(" \n.)_-`", "a1가)](.\n")),
    *map("".join, itertools.product("aA1가", ".-_, /:")),
    *("는데 ", "하고 ", "A. ", "(a", "[a](", "http://", "a@", "1,000", "O(", "and ", "버전 1.1 ", "번 1번 ", "e\u0301", "\u0323\u0300"),
]
FEW = [*" \n.`_)>", "가", ". ", "A. ", ".\n", ").", "a.", "는데 "]  # for what is slow at any text
# What stands before and after, without which some patterns never begin, and others never fail.
AROUND = [("", ""), ("Hello world", "x"), ("[", ""), ("http://", "x"), ("경력 1", "!")]


def _split(text: str) -> None:
    sentences.split(text, 48, 240)


def _deltas(text: str) -> None:
    deltas = TextDeltas(10**9)
    for at in range(0, len(text), 20):
        deltas.add(text[at : at + 20])
    deltas.add("", final=True)
    while deltas.take():
        pass


def _taken_at_once(text: str) -> None:
    deltas = TextDeltas(10**9)
    for at in range(0, len(text), 20):
        deltas.add(text[at : at + 20])
        deltas.take()


def _spoken(text: str) -> None:
    for clause in sentences.split(text, 48, 240):
        for language in ("ko", "en"):
            syllables(normalize(clause.text, language, LEXICON).text)


@pytest.mark.parametrize(
    ("work", "units", "around"),
    [
        *((work, UNITS, AROUND) for work in (clean, canonical, detect, _split)),
        *((work, FEW, AROUND[:2]) for work in (_deltas, _taken_at_once, _spoken)),
    ],
)
def test_the_time_of_any_text_grows_with_its_length(work: Callable[[str], object], units: list[str], around: list[tuple[str, str]]) -> None:
    steep = {}
    for unit, (before, after) in itertools.product(units, around):
        if (growth := _growth(lambda n: before + unit * (n // len(unit)) + after, work)) > TOO_STEEP:  # noqa: B023
            steep[before + unit + after] = growth
    assert not steep


def test_no_pattern_of_the_normalisers_takes_the_square_of_a_text() -> None:
    patterns = [rule._pattern for rule in (*english_rules(), *korean_rules(lambda term: None)) if hasattr(rule, "_pattern")]
    assert len(patterns) > 40
    steep = {}
    for pattern in patterns:
        for unit, (before, after) in itertools.product(UNITS, AROUND):
            text = before + unit * (N // len(unit)) + after
            began = time.thread_time()
            sum(1 for _ in pattern.finditer(text * 4))
            if time.thread_time() - began < NOTICEABLE_S:
                continue
            growth = _growth(
                lambda n: before + unit * (n // len(unit)) + after,  # noqa: B023
                lambda text: sum(1 for _ in pattern.finditer(text)),  # noqa: B023
            )
            if growth > TOO_STEEP:
                steep[pattern.pattern, before + unit + after] = growth
    assert not steep


def test_a_text_of_wide_characters_without_a_space_is_cut() -> None:
    deltas = TextDeltas(10_000)
    said = []
    for _ in range(50):
        deltas.add("가" * 10)
        said.append(deltas.take())
    deltas.add("", final=True)
    said.append(deltas.take())
    assert "".join(said) == "가" * 500
    assert 1 < sum(1 for part in said if part) < 10


def test_marks_on_one_letter_are_kept_up_to_thirty() -> None:
    assert canonical("e\u0301 " + "a" + "\u0323\u0300" * 20) == "é " + canonical("a" + "\u0323\u0300" * 15)


def test_a_text_far_too_long_is_refused_before_it_is_looked_at() -> None:
    delivery = Delivery("nova", 1.0, "en", "female")
    with pytest.raises(TextError, match="10,000,000 characters; accepted: 1 to 4,096"):
        parse_speech("\u0323" * 10_000_000, delivery, 4_096)
    assert parse_speech(" " * 100_000 + "ᄒ" + "ᅡ" + "ᆫ" + "\n" * 100_000, delivery, 4).text == "한"


def _growth(text: Callable[[int], str], work: Callable[[str], object]) -> float:
    """How many times as long four times the text takes; a busy machine only makes single times longer."""
    short, long = text(N), text(4 * N)
    once = [_seconds(work, short), _seconds(work, long)]
    for _ in range(6):
        if once[1] < NOTICEABLE_S or once[1] / once[0] < TOO_STEEP:
            break
        once = [min(once[0], _seconds(work, short)), min(once[1], _seconds(work, long))]
    return LINEAR if once[1] < NOTICEABLE_S else once[1] / once[0]


def _seconds(work: Callable[[str], object], text: str) -> float:
    began = time.thread_time()
    work(text)
    return max(time.thread_time() - began, 1e-6)
