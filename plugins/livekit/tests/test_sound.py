"""Sound of any kind becomes mono at one rate, and what was heard of it is known."""

from __future__ import annotations

import numpy as np
import pytest
from agent import frames_of
from livekit import rtc
from livekit.plugins.museserve.sound import Segment, ToMono


def tone(rate: int, seconds: float = 1.0) -> np.ndarray:
    return (8_000 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)).astype("<i2")


@pytest.mark.parametrize(("rate", "channels"), [(24_000, 1), (48_000, 2), (44_100, 1), (16_000, 1)])
def test_any_rate_and_channels_become_24_khz_mono(rate: int, channels: int) -> None:
    mono = ToMono(24_000)
    interleaved = np.repeat(tone(rate)[:, None], channels, axis=1).tobytes()
    out = np.frombuffer(b"".join([*map(mono.push, frames_of(interleaved, rate, channels)), mono.finish()]), "<i2")
    assert abs(len(out) - 24_000) <= 24
    spectrum = np.abs(np.fft.rfft(out[:24_000].astype(float)))
    assert abs(int(spectrum.argmax()) - 440) <= 1 and np.abs(out).max() == pytest.approx(8_000, rel=0.05)


def test_a_segment_of_two_kinds_is_refused() -> None:
    mono = ToMono(24_000)
    mono.push(rtc.AudioFrame(bytes(480), 24_000, 1, 240))
    with pytest.raises(ValueError, match="began at 24000 Hz with 1 channels and goes on at 48000"):
        mono.push(rtc.AudioFrame(bytes(960), 48_000, 1, 480))


def test_what_was_heard_is_what_the_clock_says_and_never_more_than_was_sent() -> None:
    segment = Segment(24_000, now=0.0)
    for frame in frames_of(tone(24_000).tobytes()):
        segment.push(frame)
    assert segment.heard(5.0) == 0 and not segment.over(5.0)
    assert len(segment.take(1_920)) == 3_840 and segment.take(1_920) == b""
    segment.hear(10.0, 0)
    assert (segment.heard(9.9), segment.heard(10.02), segment.heard(11.0)) == (0, 480, 1_920)
    segment.take(99_999)
    segment.hear(10.04, 960)
    assert not segment.over(20.0), "the agent has not ended it"
    segment.end()
    assert segment.played_out and not segment.over(10.99) and segment.over(11.01)
