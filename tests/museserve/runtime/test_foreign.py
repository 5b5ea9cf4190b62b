"""Parsers that die, hang, hoard and burn hurt nobody, and what asked them gets an error of ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pytest

from museserve.errors import AudioError
from museserve.media.decode import decode_speech
from museserve.runtime.foreign import READERS, Readers
from tests.museserve.runtime import hostile
from tests.sounds import encoded


@pytest.fixture
def readers() -> Iterator[Readers]:
    made = Readers(answer_s=3.0, memory_bytes=500 * 2**20, cpu_s=1)
    yield made
    made.close()


def test_arrays_come_as_they_were_made(readers: Readers) -> None:
    made = readers.array(AudioError, "it", hostile.doubled, bytes(range(200)))
    assert np.array_equal(made, hostile.doubled(bytes(range(200)))) and made.dtype == np.float32
    items, end = [], None
    source = readers.items(AudioError, "it", hostile.counted, 5)
    while True:
        try:
            items.append(next(source))
        except StopIteration as stop:
            end = stop.value
            break
    assert [item[0, 0] for item in items] == [0, 1, 2, 3, 4] and end == {"n": 5}


def test_our_own_errors_are_raised_as_they_are_and_accidents_are_not_told(readers: Readers) -> None:
    with pytest.raises(AudioError, match="4 bytes are no sound"):
        readers.array(AudioError, "it", hostile.refused, b"abcd")
    with pytest.raises(AudioError, match="^it could not be read$"):
        readers.array(AudioError, "it", hostile.confused, b"abcd")


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (hostile.dies, "broke down"),
        (hostile.hangs, "too long"),
        (hostile.hoards, "memory"),
        (hostile.whole_number, "makes no sense"),
    ],
)
def test_what_breaks_a_parser_is_an_error_and_the_next_is_read(readers: Readers, function: Callable[[bytes], None], says: str) -> None:
    began = time.monotonic()
    with pytest.raises(AudioError, match=f"it could not be read.*{says}"):
        readers.array(AudioError, "it", function, b"x")
    assert time.monotonic() - began < 30
    assert readers.array(AudioError, "it", hostile.doubled, bytes(4)).shape == (2, 2)


def test_processor_time_has_a_limit() -> None:
    readers = Readers(answer_s=120.0, cpu_s=1)
    try:
        with pytest.raises(AudioError, match="it could not be read.*processor"):
            readers.array(AudioError, "it", hostile.burns, b"x")
    finally:
        readers.close()


def test_what_a_parser_prints_is_no_answer_and_it_has_no_keys(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert readers.array(AudioError, "it", hostile.shouts, b"").shape == (3,)
    seen = readers.array(AudioError, "it", hostile.looks_around, b"")
    assert "OPENAI_API_KEY" not in seen["environment"]


def test_one_is_killed_beside_another_that_goes_on_and_none_is_left(readers: Readers) -> None:
    before = set(psutil.Process().children())
    failed: list[Exception] = []

    def ask() -> None:
        try:
            readers.array(AudioError, "it", hostile.hangs, b"")
        except AudioError as error:
            failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(5):
        assert readers.array(AudioError, "it", hostile.doubled, bytes(4)).shape == (2, 2)
    asking.join()
    source = readers.items(AudioError, "it", hostile.counted, 5)
    next(source)
    source.close()  # nobody wants the rest
    assert failed and len(set(psutil.Process().children()) - before) == 1
    readers.close()
    assert not set(psutil.Process().children()) - before


def test_a_recording_is_the_same_as_without() -> None:
    sound = encoded((0.3 * np.sin(np.arange(48_000) * 0.06)).astype(np.float32), "mp3")
    there = READERS.array(AudioError, "the recording", decode_speech, sound, min_s=0.2, max_s=60)
    assert np.array_equal(there, decode_speech(sound, min_s=0.2, max_s=60))
