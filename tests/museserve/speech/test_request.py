"""A text and how it is to be spoken become types, or are refused with what is accepted."""

from __future__ import annotations

import math
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from museserve.errors import RequestError, TextError, UnknownLanguageError, UnknownVoiceError
from museserve.messages import Delivery, SpeechRequest
from museserve.speech.request import parse_delivery, parse_speech, speech_of
from museserve.speech.text.deltas import TextDeltas
from museserve.speech.text.sentences import split

NOVA = Delivery("nova", 1.1, "auto", "female")


def test_a_delivery_has_one_spelling() -> None:
    assert parse_delivery(" Nova ", 1, "en-US", "male") == Delivery("nova", 1.0, "en", "male")
    assert parse_delivery("AUTO", 1.1, "no") == Delivery("auto", 1.1, "nb", "female")


@pytest.mark.parametrize(("voice", "speed", "language", "error"), [
    ("nobody", 1.0, "auto", UnknownVoiceError),
    ("nova", 1.0, "xx", UnknownLanguageError),
    ("nova", 0.2, "auto", RequestError),
    ("nova", 4.1, "auto", RequestError),
    ("nova", math.nan, "auto", RequestError),
])  # fmt: skip
def test_what_no_voice_can_do_is_refused(voice: str, speed: float, language: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="accepted: "):
        parse_delivery(voice, speed, language)


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "😀😀", "...", "?!", "***", "\u200b\u200b", "\ud800"])
def test_nothing_to_speak_is_refused(text: str) -> None:
    with pytest.raises(TextError, match="accepted: 1 to 4,096 characters"):
        parse_speech(text, NOVA, 4096)
    assert split(text) == []


def test_too_long_a_text_is_refused_with_both_counts() -> None:
    with pytest.raises(TextError, match=r"10,000 characters; accepted: 1 to 4,096"):
        parse_speech("a" * 10_000, NOVA, 4096)
    assert parse_speech("a" * 4096, NOVA, 4096).text == "a" * 4096


def test_a_text_is_trimmed_and_composed() -> None:
    assert parse_speech("  \u1112\u1161\u11ab \n", NOVA, 10) == SpeechRequest("한", "nova", 1.1, "auto", "female")


@settings(max_examples=200)
@given(st.lists(st.text(st.sampled_from("a. \n\xa0`#[](_\u0301\u0323é가\u1161\ufb2c\ud83d\ude00"), max_size=12), max_size=12))
def test_what_was_written_bit_by_bit_needs_no_second_look(deltas: list[str]) -> None:
    text = TextDeltas(4_096)
    for number, delta in enumerate(deltas):
        text.add(delta, final=number == len(deltas) - 1)
        if piece := text.take():
            assert unicodedata.is_normalized("NFC", piece)
            assert speech_of(piece, NOVA) == parse_speech(piece, NOVA, 4_096)
