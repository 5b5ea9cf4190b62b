"""What came of a sound, what is drawn, what went on and what was heard are each counted by themselves."""

from __future__ import annotations

import struct

from museserve_client.sound import SAMPLE_BYTES, Sound

RATE = 16_000


def numbered(first: int, n: int, channels: int = 1) -> bytes:
    """Samples that say where they stand, the same in each channel."""
    return b"".join(struct.pack("<h", sample) * channels for sample in range(first, first + n))


def sound(n: int, channels: int = 1) -> Sound:
    made = Sound(RATE, 5.0, channels)
    made.write(numbered(0, n, channels))
    return made


def test_samples_come_in_pieces_that_are_cut_anywhere() -> None:
    made, pcm = Sound(RATE), numbered(0, 100)
    for at in range(0, len(pcm), 7):
        made.write(pcm[at : at + 7])
        assert made.samples == min(at + 7, len(pcm)) // SAMPLE_BYTES
    assert made.take(1_000) == pcm and made.undrawn(1_000) == pcm
    made.write(b"\1")
    assert made.samples == 100 and made.played_out and made.undrawn(1_000) == b"", "half a sample is none"
    made.write(b"\0")
    assert made.samples == 101 and made.take(1_000) == made.undrawn(1_000) == b"\1\0"


def test_what_is_drawn_and_what_goes_on_do_not_wait_for_one_another() -> None:
    made = sound(50)
    assert made.undrawn(20) == numbered(0, 20) and (made.drawn, made.sent) == (20, 0)
    assert made.take(30) == numbered(0, 30) and (made.drawn, made.sent) == (20, 30)
    assert made.undrawn(20) == numbered(20, 20) and made.undrawn(20) == numbered(40, 10) and made.undrawn(20) == b""
    made.write(numbered(50, 5))
    assert made.undrawn(20) == numbered(50, 5) and not made.played_out
    assert made.take(55) == numbered(30, 25) and made.played_out


def test_nothing_goes_on_twice() -> None:
    made = sound(50)
    assert made.take(30) == numbered(0, 30)
    assert made.take(30) == made.take(10) == b"" and made.sent == 30
    assert made.take(40) == numbered(30, 10)


def test_it_is_drawn_again_from_where_it_is_wanted() -> None:
    made = sound(50)
    made.undrawn(50)
    made.drawn = 20
    assert made.undrawn(50) == numbered(20, 30)


def test_what_was_heard_is_what_the_clock_says_and_never_more_than_went_on() -> None:
    made = sound(2 * RATE)
    assert made.heard(99.0) == 0, "nothing went on"
    made.take(RATE)
    made.hear(10.0, 0)
    assert (made.heard(9.0), made.heard(10.25), made.heard(10.5), made.heard(99.0)) == (0, RATE // 4, RATE // 2, RATE)
    made.hear(12.0, RATE // 2)  # it stood for a while
    assert (made.heard(12.0), made.heard(12.25), made.heard(99.0)) == (RATE // 2, RATE * 3 // 4, RATE)


def test_it_is_over_when_it_has_its_end_and_the_last_sample_was_heard() -> None:
    made = sound(RATE)
    made.take(RATE)
    made.hear(10.0, 0)
    assert not made.over(20.0), "more may come"
    made.ended = True
    assert not made.over(10.9) and made.over(11.0)
    made.write(numbered(0, 1))
    assert not made.over(20.0) and not made.played_out


def test_channels_are_counted_as_one() -> None:
    made = sound(50, channels=2)
    assert made.samples == 50 and made.ms == 50 / RATE * 1_000
    assert made.undrawn(20) == numbered(0, 20, 2) and made.take(50) == numbered(0, 50, 2)
    assert made.since == made.came_at == 5.0
