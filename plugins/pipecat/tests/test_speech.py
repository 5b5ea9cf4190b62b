"""Sound of any kind becomes mono for the service and stays as it is for the rest, and frames keep their places in it."""

from __future__ import annotations

import numpy as np
import pytest
from pipecat.frames.frames import LLMFullResponseEndFrame, TTSAudioRawFrame, TTSStoppedFrame, TTSTextFrame
from pipecat_museserve.speech import Speech


def tone(rate: int, channels: int = 1, seconds: float = 1.0) -> list[TTSAudioRawFrame]:
    wave = (8_000 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)).astype("<i2")
    pcm = np.repeat(wave[:, None], channels, axis=1).tobytes()
    step = rate // 50 * 2 * channels
    return [TTSAudioRawFrame(pcm[at : at + step], rate, channels, context_id="a") for at in range(0, len(pcm), step)]


async def written(frames: list[TTSAudioRawFrame], end: bool = True) -> Speech:
    speech = Speech(frames[0], 0.0)
    for frame in frames:
        await speech.push(frame)
    if end:
        await speech.end()
    return speech


@pytest.mark.parametrize(
    ("rate", "channels", "drawn_at"),
    [(8_000, 1, 16_000), (16_000, 1, 16_000), (22_050, 1, 24_000), (24_000, 2, 24_000), (44_100, 1, 48_000), (96_000, 1, 48_000)],
)
async def test_any_rate_and_channels_become_a_rate_of_the_service(rate: int, channels: int, drawn_at: int) -> None:
    speech = await written(tone(rate, channels))
    assert speech.rate == drawn_at and speech.out.samples == rate
    mono = np.frombuffer(speech.undrawn(1_000) + speech.undrawn(999_999), "<i2")
    assert abs(len(mono) - drawn_at) <= 2 and speech.undrawn(999_999) == b""
    spectrum = np.abs(np.fft.rfft(mono[: drawn_at // 1].astype(float)))
    assert abs(int(spectrum.argmax()) - 440) <= 1 and np.abs(mono).max() == pytest.approx(8_000, rel=0.05)
    assert speech.place(drawn_at // 2) == rate // 2 and speech.place(speech.samples) == speech.out.samples


async def test_frames_keep_their_places_and_the_last_waits_until_all_was_heard() -> None:
    frames = tone(24_000)
    speech = await written(frames[:25], end=False)
    middle, stopped, after = LLMFullResponseEndFrame(), TTSStoppedFrame(context_id="a"), LLMFullResponseEndFrame()
    speech.hold(middle)
    for frame in frames[25:]:
        await speech.push(frame)
    speech.hold(stopped)
    speech.hold(after)
    await speech.end()
    for i in range(25):
        speech.step(960 * (i + 1))
        speech.hear(10 + 0.04 * i, 960 * i)
        assert speech.released(10 + 0.04 * i) == ([middle] if i == 12 else [])
    assert speech.played_out and not speech.over(10.99) and not speech.released(10.99)
    assert speech.released(11.0) == [stopped, after] and speech.over(11.0)


async def test_what_was_heard_is_what_the_clock_says_and_never_more_than_went_on() -> None:
    speech = await written(tone(24_000), end=False)
    assert speech.heard(5.0) == 0
    first = speech.step(1_920)
    assert first is not None and first.num_frames == 1_920 and speech.step(1_920) is None
    speech.hear(10.0, 0)
    assert (speech.heard(9.9), speech.heard(10.02), speech.heard(11.0)) == (0, 480, 1_920)


async def test_times_are_moved_by_as_much_as_the_sound_was_late() -> None:
    speech = await written(tone(24_000))
    word = TTSTextFrame("hello", "word", context_id="a")
    word.pts = 5_000_000_000
    speech.hold(word)
    assert speech.released(0.1) == [] and not speech.over(99.0)
    speech.step(960)
    speech.hear(0.3, 0)
    assert speech.released(0.3) == [word] and word.pts == 5_300_000_000


async def test_another_context_or_rate_is_another_speech() -> None:
    speech = await written(tone(24_000), end=False)
    assert speech.fits(tone(24_000)[0]) and not speech.fits(tone(16_000)[0]) and not speech.fits(tone(24_000, 2)[0])
    assert not speech.fits(TTSAudioRawFrame(b"", 24_000, 1, context_id="b"))
    await speech.end()
    assert not speech.fits(tone(24_000)[0])
