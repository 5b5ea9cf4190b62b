"""What goes in as sound comes out as the same sound beside its pictures: against a museserve, without a room."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
import pytest
from agent import RATE, Pulled, frames_of, push
from conftest import PATIENCE_S, until
from livekit import rtc
from livekit.agents.voice import avatar
from livekit.plugins.museserve import VideoGenerator
from museserve_client import Client, UnreachableError

from tests.api_process import Line


def luma(frame: rtc.VideoFrame) -> np.ndarray:
    return np.frombuffer(frame.data, np.uint8)[: frame.width * frame.height].reshape(frame.height, frame.width).astype(np.int16)


def mouth_motion(frames: list[rtc.VideoFrame]) -> float:
    """Mean change of the lower middle of the picture from one frame to the next."""
    mouths = [luma(frame)[256:400, 176:336] for frame in frames]
    return float(np.mean([np.abs(a - b).mean() for a, b in zip(mouths, mouths[1:], strict=False)]))


async def test_idle_before_speech_and_the_very_samples_beside_their_pictures(generator: VideoGenerator, speech: bytes) -> None:
    finished: list[tuple[float, bool]] = []
    generator.on_finished = lambda position, interrupted: finished.append((position, interrupted))
    async with Pulled(generator) as pulled:
        await until(lambda: len(pulled.pictures) >= 20)
        assert pulled.frames == pulled.pictures, "no sound while nothing is said"
        before = pulled.pictures[:]
        await push(generator, speech)
        await until(lambda: pulled.ends)
        assert pulled.sound == speech and pulled.ends == 1
        assert finished == [(len(speech) / 2 / RATE, False)]
        at = pulled.frames.index(next(frame for frame in pulled.frames if isinstance(frame, rtc.AudioFrame)))
        spoken = [frame for frame in pulled.frames[at - 1 :] if isinstance(frame, rtc.VideoFrame)]
        assert mouth_motion(spoken) > 3 * mouth_motion(before)
        assert len(spoken) * RATE // 25 >= len(speech) // 2 - RATE // 10, "no sound was ahead of its pictures by more than the lead"
        assert (generator.stats.segments, generator.stats.without_lips, len(generator.stats.first_picture_s)) == (1, 0, 1)


async def test_nothing_of_a_cleared_segment_comes_after_the_clear(generator: VideoGenerator, speech: bytes) -> None:
    finished: list[tuple[float, bool]] = []
    generator.on_finished = lambda position, interrupted: finished.append((position, interrupted))
    async with Pulled(generator) as pulled:
        await push(generator, speech, end=False)
        await until(lambda: len(pulled.sound) > 12_000)
        await generator.clear_buffer()
        given, sound = len(pulled.frames), len(pulled.sound)
        await until(lambda: len(pulled.frames) >= given + 25)
        assert len(pulled.sound) == sound and pulled.ends == 0
        assert len(finished) == 1 and finished[0][1] and 0 < finished[0][0] <= sound / 2 / RATE
        await push(generator, speech)
        await until(lambda: pulled.ends)
        assert pulled.sound[sound:] == speech and len(finished) == 2 and not finished[1][1]


async def test_a_clear_before_anything_was_heard(generator: VideoGenerator, speech: bytes) -> None:
    finished: list[tuple[float, bool]] = []
    generator.on_finished = lambda position, interrupted: finished.append((position, interrupted))
    async with Pulled(generator) as pulled:
        await push(generator, speech)
        await push(generator, speech)
        await generator.clear_buffer()
        await generator.clear_buffer()
        assert finished == [(0.0, True)] * 2
        await push(generator, speech)
        await until(lambda: pulled.ends)
        assert pulled.sound == speech


async def test_segments_that_are_pushed_at_once_are_heard_one_after_the_other(generator: VideoGenerator, speech: bytes) -> None:
    async with Pulled(generator) as pulled:
        await push(generator, speech)
        await push(generator, speech[:48_000])
        await generator.push_audio(avatar.AudioSegmentEnd())  # of nothing
        await until(lambda: pulled.ends == 2)
        assert pulled.sound == speech + speech[:48_000] and generator.stats.without_lips == 0


async def test_a_turn_that_is_longer_than_an_utterance_may_be(generator: VideoGenerator, speech: bytes) -> None:
    generator.longest_s = 1.0
    async with Pulled(generator) as pulled:
        await push(generator, speech * 2)
        await until(lambda: pulled.ends)
        assert pulled.sound == speech * 2 and pulled.ends == 1
        assert (generator.stats.segments, generator.stats.without_lips) == (1, 0)


async def test_a_speaker_that_pauses_in_the_middle(generator: VideoGenerator, speech: bytes) -> None:
    async with Pulled(generator) as pulled:
        await push(generator, speech, end=False)
        await until(lambda: pulled.sound == speech)
        await asyncio.sleep(1.5)
        given = len(pulled.pictures)
        await push(generator, speech)
        await until(lambda: pulled.ends)
        assert pulled.sound == speech * 2 and pulled.ends == 1 and generator.stats.without_lips == 0
        assert mouth_motion(pulled.pictures[given:]) > 3 * mouth_motion(pulled.pictures[:10])


async def test_other_rates_are_resampled(generator: VideoGenerator, speech: bytes) -> None:
    stereo = np.repeat(np.frombuffer(speech, "<i2")[:, None], 4, axis=1).reshape(-1, 2)  # 48 kHz, two channels
    async with Pulled(generator) as pulled:
        for frame in frames_of(stereo.tobytes(), 48_000, 2):
            await generator.push_audio(frame)
        await generator.push_audio(avatar.AudioSegmentEnd())
        await until(lambda: pulled.ends)
        assert abs(len(pulled.sound) - len(speech)) < 200


async def test_a_line_that_breaks_loses_no_sound(url: str, speech: bytes) -> None:
    async with Line(url) as line:
        generator = VideoGenerator(line.url, patience_s=PATIENCE_S)
        await generator.start()
        async with Pulled(generator) as pulled:
            await push(generator, speech, end=False)
            await until(lambda: len(pulled.sound) > 24_000)
            line.cut()
            await push(generator, speech)
            await until(lambda: pulled.ends)
            assert pulled.sound == speech * 2 and generator.stats.reconnects == 1
        await generator.aclose()


async def test_sound_goes_on_without_lips_while_the_service_is_away(url: str, speech: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with Line(url) as line:
        generator = VideoGenerator(line.url, patience_s=PATIENCE_S)
        await generator.start()
        async with Pulled(generator) as pulled:
            line.down = True
            line.cut()
            with caplog.at_level(logging.WARNING, "livekit.plugins.museserve"):
                await push(generator, speech)
                await until(lambda: pulled.ends)
            assert pulled.sound == speech and generator.stats.without_lips == 1
            assert "sound goes on without lips" in caplog.text
            line.down = False
            await until(lambda: generator.stats.reconnects == 1)
            await push(generator, speech)
            await until(lambda: pulled.ends == 2)
            assert pulled.sound == speech * 2 and generator.stats.without_lips == 1
        await generator.aclose()


async def test_a_start_without_a_service_or_a_face_fails_and_says_why(url: str) -> None:
    with pytest.raises(UnreachableError):
        await VideoGenerator("http://127.0.0.1:9").start()
    with pytest.raises(Exception, match="nobody"):
        await VideoGenerator(url, avatar="nobody").start()
    with pytest.raises(ValueError, match="16000, 24000, 48000"):
        VideoGenerator(url, audio_sample_rate=44_100)
    async with Client(url) as client:
        shared = VideoGenerator(client=client)
        await shared.start()
        assert shared.video_resolution == (512, 512) and shared.options.video_fps == 25
        await shared.aclose()
        assert await client.avatars(), "a client that was given stays open"
