"""Every sound that the voices make has a mouth."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import hibari
import pytest

from musetalk.speech_cues import visemes
from musetalk.speech_cues.visemes import PAUSE, TABLE, Kind, visemes_of


@pytest.mark.parametrize("symbol", ["p", "b", "m", "pʰ", "p͈", "p̚", "mː", "b̥"])
def test_lips_meet(symbol: str) -> None:
    (viseme,) = visemes_of(symbol)
    assert viseme.kind is Kind.CLOSURE
    assert viseme.jaw == viseme.lower_drop == viseme.upper_raise == 0.0


@pytest.mark.parametrize("symbol", ["f", "v", "ɱ"])
def test_lip_meets_teeth(symbol: str) -> None:
    assert visemes_of(symbol)[0].kind is Kind.TUCK


def test_pauses() -> None:
    assert visemes_of("") == visemes_of(" ") == (PAUSE,)


@pytest.mark.parametrize(
    ("diphthong", "first", "second"), [("aɪ", "a", "ɪ"), ("oʊ", "o", "ʊ"), ("eɪ", "e", "ɪ"), ("I", "a", "ɪ"), ("əl", "ə", "l"), ("ʊɹ", "ʊ", "ɹ")]
)
def test_two_mouths_in_one_sign(diphthong: str, first: str, second: str) -> None:
    assert visemes_of(diphthong) == (TABLE[first], TABLE[second])


@pytest.mark.parametrize(
    ("marked", "plain"), [("tɕʰ", "tɕ"), ("t͡ʃ", "tʃ"), ("aː", "a"), ("ɑ̃", "ɑ"), ("n̩", "n"), ("s͈", "s"), ("t-", "t"), ("k͈", "k"), ("ç", "ç")]
)
def test_marks_change_nothing(marked: str, plain: str) -> None:
    assert visemes_of(marked) == (TABLE[plain],)


def test_korean_vowels_differ() -> None:
    spread, rounded, opened = (visemes_of(s)[0] for s in ("ɯ", "u", "ʌ"))
    assert spread.wide > 0.2 and spread.round == 0.0
    assert rounded.round > 0.8 and rounded.wide == 0.0
    assert opened.jaw > 1.5 * spread.jaw


def test_the_whole_alphabet_of_the_neural_voice_is_known() -> None:
    vocabulary = json.loads((Path(hibari.__file__).parent / "assets" / "vocab.json").read_text(encoding="utf-8"))
    letters = [sign for sign in vocabulary if sign.isalpha() and sign not in "ˈˌːʰʲᵝ"]
    assert len(letters) > 30
    unknown = [sign for sign in letters if not visemes._SOUND.findall(visemes._bare(sign)) and sign not in visemes._LETTERS]
    assert not [sign for sign in unknown if not sign.isascii()], unknown


def test_unknown_sounds_fall_back_and_say_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger=visemes.__name__):
        assert visemes_of("щ")[0].kind is Kind.CONSONANT
        visemes_of("щ")
    assert len([r for r in caplog.records if "щ" in r.getMessage()]) == 1


def test_targets_are_amounts() -> None:
    for viseme in TABLE.values():
        for name in ("jaw", "lower_drop", "upper_raise", "wide", "round", "tongue"):
            assert 0.0 <= getattr(viseme, name) <= 1.0
