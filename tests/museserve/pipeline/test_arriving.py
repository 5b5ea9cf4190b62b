"""Sound that other calls bring to the stream that speaks it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from museserve.errors import RequestError
from museserve.messages import ArrivingSound, FloatArray, SoundPiece
from museserve.pipeline import arriving
from museserve.pipeline.arriving import Arrivals, ArrivingSpeech
from museserve.timebase import SPEECH_RATE


def tone(rate: int, seconds: float) -> FloatArray:
    return np.asarray(0.5 * np.sin(2 * np.pi * 220 * np.arange(round(rate * seconds)) / rate), np.float32)


def pcm(sound: FloatArray) -> bytes:
    return (sound * 32_767).astype("<i2").tobytes()


async def spoken(speech: ArrivingSpeech) -> FloatArray:
    parts, at = [], 0
    async for chunk in speech.chunks():
        assert chunk.start == at
        at += len(chunk.pcm)
        parts.append(chunk.pcm)
    return np.concatenate(parts)


@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
@pytest.mark.parametrize("step", [160, 7_001])
async def test_it_is_the_same_sound_at_every_rate(rate: int, step: int) -> None:
    speech, sound = ArrivingSpeech(rate), tone(rate, 1.3)
    for start in range(0, len(sound), step):
        speech.add(SoundPiece("s", start, pcm(sound[start : start + step]), final=start + step >= len(sound)))
    heard = await spoken(speech)
    assert len(heard) == round(1.3 * SPEECH_RATE)
    assert np.abs(heard - tone(SPEECH_RATE, 1.3))[200:-200].max() < 1e-3


async def test_a_piece_that_comes_twice_counts_once_and_one_that_is_missing_is_told() -> None:
    speech, sound = ArrivingSpeech(SPEECH_RATE), pcm(tone(SPEECH_RATE, 0.1))
    speech.add(SoundPiece("s", 0, sound[:2_000]))
    speech.add(SoundPiece("s", 0, sound[:2_400]))
    with pytest.raises(RequestError, match="goes on at sample 1300, and 1200 came"):
        speech.add(SoundPiece("s", 1_300, sound[2_600:]))
    speech.add(SoundPiece("s", 1_200, sound[2_400:], final=True))
    speech.add(SoundPiece("s", 1_200, sound[2_400:], final=True))
    assert pcm(await spoken(speech)) == pcm(np.multiply(np.frombuffer(sound, "<i2"), 1 / 32_768, dtype=np.float32))


async def test_a_piece_waits_for_its_stream_and_not_for_one_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "STREAM_S", 0.2)
    arrivals = Arrivals()
    early = asyncio.create_task(arrivals.add(SoundPiece("s", 0, b"\0\0", final=True)))
    await asyncio.sleep(0.05)
    with arrivals.of(ArrivingSound("s", SPEECH_RATE)) as chunks:
        await early
        assert chunks is not None and [len(chunk.pcm) async for chunk in chunks] == [1]
    with pytest.raises(RequestError, match="over, or runs elsewhere"):
        await arrivals.add(SoundPiece("s", 0, b""))
    with arrivals.of(None) as none:
        assert none is None
