from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from museserve.errors import TextError
from museserve.speech.text.deltas import TextDeltas


def spoken(deltas: list[str], final: bool = True) -> list[str]:
    text, out = TextDeltas(4_096), []
    for delta in deltas:
        text.add(delta)
        out.append(text.take())
    if final:
        text.add("", final=True)
        out.append(text.take())
        assert text.done
    return [piece for piece in out if piece]


def test_a_sentence_is_spoken_when_something_follows_it() -> None:
    assert spoken(["Hel", "lo there", ".", " ", "This is 3", ".14 of it", ". And"]) == ["Hello there.", " This is 3.14 of it.", " And"]


def test_an_abbreviation_ends_no_sentence() -> None:
    assert spoken(["Ask Dr.", " Kim about e.g.", " queues. Then", " stop"]) == ["Ask Dr. Kim about e.g. queues.", " Then stop"]


def test_syllables_that_come_in_jamo_are_whole_when_they_are_spoken() -> None:
    written = "안녕하세요. 자기소개를 해 주세요. 네"
    assert spoken(list(unicodedata.normalize("NFD", written))) == ["안녕하세요.", " 자기소개를 해 주세요.", " 네"]


def test_halves_of_surrogate_pairs_meet() -> None:
    assert spoken(["Hi \ud83d", "\ude00 there", " \ud83d", " you"]) == ["Hi \U0001f600 there  you"]


def test_flush_speaks_what_is_there() -> None:
    text = TextDeltas(100)
    text.add("Well, let me", flush=True)
    assert text.take() == "Well, let me" and not text.done
    text.add(" think")
    assert text.take() == "" and text.pending_chars == 6
    text.add("", final=True)
    assert text.take() == " think" and text.done


def test_a_long_sentence_is_begun_at_a_clause_border() -> None:
    words = "and then we looked at the second service of the chain, which was slow, because its index was missing " * 3
    pieces = spoken(list(words))
    assert "".join(pieces) == words and len(pieces) > 1 and all(len(piece) < 200 for piece in pieces)


def test_signs_alone_are_nothing_to_speak() -> None:
    text = TextDeltas(100)
    text.add("... --- ...", final=True)
    assert text.take() == "" and text.done


def test_a_text_that_grows_too_long_or_is_final_is_refused() -> None:
    text = TextDeltas(10)
    text.add("12345")
    with pytest.raises(TextError, match="grows to 11"):
        text.add("678901")
    text.add("6", final=True)
    assert text.take() == "123456"
    with pytest.raises(TextError, match="final"):
        text.add("7")


@settings(max_examples=60)
@given(st.text(st.sampled_from("ab. ,?!\n가나é\U0001f600\"'1"), max_size=120), st.lists(st.integers(1, 7), min_size=1, max_size=20))
def test_however_it_is_cut_every_letter_is_spoken_once_and_in_order(written: str, sizes: list[int]) -> None:
    deltas, at = [], 0
    for i in range(len(written)):
        deltas.append(written[at : at + sizes[i % len(sizes)]])
        at += sizes[i % len(sizes)]
    said = "".join(spoken(deltas))
    assert [c for c in said if c.isalnum()] == [c for c in unicodedata.normalize("NFC", written) if c.isalnum()]


SAID = [
    "Well. ",
    "I see",
    ". ",
    "And ",
    "then? ",
    "... ",
    "Yes",
    "\ud83d",
    "\ude00",
    "안녕",
    "하세요. ",
    "so we looked at the second service of the chain, ",
]


@given(st.lists(st.tuples(st.sampled_from(SAID), st.booleans()), min_size=1), st.integers(1, 40), st.data())
def test_a_text_begins_again_at_any_of_its_pieces(deltas: list[tuple[str, bool]], step: int, data: st.DataObject) -> None:
    first = TextDeltas(4_096)
    pieces = []
    for delta, flush in [*deltas, ("The end.", True)]:
        first.add(delta, flush=flush)
        while piece := first.take():
            pieces.append((piece, first.taken))
    piece, begin = data.draw(st.sampled_from(pieces))
    written = "".join(delta for delta, _ in deltas) + "The end."
    again, rest = TextDeltas(4_096, begin=begin), []
    for at in range(0, len(written), step):
        again.add(written[at : at + step])
        while more := again.take():
            rest.append((more, again.taken))
    again.add("", final=True)
    while more := again.take():
        rest.append((more, again.taken))
    assert rest[0] == (piece, begin) and again.done
    assert all(one[1][1] <= two[1][0] for one, two in zip(rest, rest[1:], strict=False))
    assert "".join(more for more, _ in rest)[-8:] == "The end."


def test_a_text_that_is_shorter_than_what_was_heard_of_it_is_refused_once() -> None:
    text = TextDeltas(100, begin=(0, 30))
    text.add("Well.")
    assert text.take() == "" and text.pending_chars == 5
    with pytest.raises(TextError, match="ends after 5 characters"):
        text.add("", final=True)
    text.add(" That is what I had thought, too.", final=True)
    assert text.take() == "Well. That is what I had thoug" and text.take() == "ht, too." and text.done
