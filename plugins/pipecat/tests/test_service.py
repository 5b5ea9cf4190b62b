"""What goes in as sound comes out as the same sound beside its pictures: against a museserve."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from bot import PATIENCE_S, RATE, array, mouth_motion, pictures_of, said, sound_of, talking
from museserve_client import Client
from pipecat.frames.frames import (
    FunctionCallResultFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    MetricsFrame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.metrics.metrics import TTFBMetricsData
from pipecat.pipeline.worker import PipelineParams
from pipecat.tests.utils import SleepFrame, run_test
from pipecat_museserve import MuseserveVideoService

from tests.api_process import Line


@pytest.fixture
def service(url: str) -> MuseserveVideoService:
    return MuseserveVideoService(url=url, patience_s=PATIENCE_S)


async def test_the_very_samples_come_out_each_behind_its_picture(service: MuseserveVideoService, pcm: bytes) -> None:
    text = TTSTextFrame("hello", "sentence", context_id="a")
    frames = [SleepFrame(2.0), *said(pcm, "a", end=False), text, TTSStoppedFrame(context_id="a"), LLMFullResponseEndFrame()]
    down, up = await run_test(service, frames_to_send=frames, start_timeout=60)
    assert not up and sound_of(down) == pcm
    assert all(picture.sync_with_audio and picture.format == "RGB" and picture.size == (512, 512) for picture in pictures_of(down))
    kinds = [type(frame) for frame in down]
    first = kinds.index(TTSAudioRawFrame)
    spoken = kinds[first - 1 : kinds.index(TTSTextFrame)]
    assert all(before is OutputImageRawFrame for before, kind in zip(spoken, spoken[1:], strict=False) if kind is TTSAudioRawFrame)
    if not service.stats.stalls:
        assert spoken == [OutputImageRawFrame, TTSAudioRawFrame] * (len(spoken) // 2), "a picture before each 40 ms of sound"
    sound = [frame for frame in down if isinstance(frame, TTSAudioRawFrame)]
    assert all(frame.num_frames == RATE // 25 and frame.context_id == "a" for frame in sound[:-1])
    others = [kind for kind in kinds if kind not in (OutputImageRawFrame, TTSAudioRawFrame)]
    assert others == [TTSStartedFrame, TTSTextFrame, TTSStoppedFrame, LLMFullResponseEndFrame], "all others keep their places"
    idle, speech = pictures_of(down[: first - 1]), pictures_of(down[first - 1 : kinds.index(TTSTextFrame)])
    assert mouth_motion(speech) > 3 * mouth_motion(idle[-20:])
    assert service.stats.without_lips == 0 and len(service.stats.first_picture_s) == 1


async def test_pictures_from_the_first_second_on_and_the_colours_of_the_portrait(service: MuseserveVideoService, url: str) -> None:
    async with talking(service) as bot:
        await bot.until(lambda: len(bot.pictures) >= 30)
        times = bot.came(OutputImageRawFrame)
        assert (len(times) - 1) / (times[-1] - times[0]) == pytest.approx(25, rel=0.3)
        assert not bot.sound()
        async with Client(url) as client:
            portrait = await client.bytes("/v1/avatars/interviewer_woman/portrait")
        import io

        from PIL import Image

        wanted = np.asarray(Image.open(io.BytesIO(portrait)).convert("RGB").resize((512, 512)), np.int16)
        assert np.abs(array(bot.pictures[0]) - wanted).mean(axis=(0, 1)).max() < 6, "of 255 levels, in each of red, green and blue"


async def test_stopped_is_told_when_the_speech_was_heard(service: MuseserveVideoService, pcm: bytes) -> None:
    async with talking(service) as bot:
        await bot.until(lambda: bot.pictures)
        await bot.say(pcm, "a")
        await bot.until(lambda: bot.stopped("a"))
        took = bot.came(TTSStoppedFrame)[0] - bot.came(TTSAudioRawFrame)[0]
        assert took >= len(pcm) / 2 / RATE - 0.01


async def test_nothing_of_what_was_interrupted_comes_after_the_interruption(service: MuseserveVideoService, pcm: bytes) -> None:
    async with talking(service) as bot:
        await bot.say(pcm * 2, "a", end=False)
        await bot.say(pcm, "b")
        await bot.until(lambda: len(bot.sound()) > RATE)
        await bot.send(InterruptionFrame())
        await bot.until(lambda: bot.came(InterruptionFrame))
        at = [type(frame) for frame in bot.frames].index(InterruptionFrame)
        await bot.say(pcm, "a", begin=False)  # still on its way
        await bot.until(lambda: len(bot.frames) > at + 25)
        assert {type(frame) for frame in bot.frames[at + 1 :]} == {OutputImageRawFrame}
        steps = [np.abs(array(a) - array(b)).mean() for a, b in zip(bot.pictures[-26:], bot.pictures[-25:], strict=False)]
        assert max(steps) < 3, "of 255 levels, from one picture to the next"
        await bot.say(pcm, "c")
        await bot.until(lambda: bot.stopped("c"))
        assert sound_of(bot.frames[at:]) == pcm and not bot.stopped("a") and not bot.stopped("b")
        await bot.say(pcm, "a")  # anew, by the same name
        await bot.until(lambda: bot.stopped("a"))
        assert sound_of(bot.frames[at:]) == pcm * 2
    assert service.stats.interrupted == 2 and service.stats.without_lips == 0


async def test_an_interruption_at_any_moment(service: MuseserveVideoService, pcm: bytes) -> None:
    dice = np.random.default_rng(1)
    async with talking(service) as bot:
        await bot.until(lambda: bot.pictures)
        for i in range(8):
            await bot.say(pcm, f"{i}")
            await bot.until(lambda i=i: bot.sound(f"{i}"))  # type: ignore[misc]
            await asyncio.sleep(dice.uniform(0, 0.6))
            told = len(bot.came(InterruptionFrame))
            await bot.send(InterruptionFrame())
            await bot.until(lambda told=told: len(bot.came(InterruptionFrame)) > told)  # type: ignore[misc]
            await asyncio.sleep(0.2)
        cut = -1
        for frame in bot.frames:
            cut += isinstance(frame, InterruptionFrame)
            assert not isinstance(frame, TTSAudioRawFrame) or frame.context_id == str(cut + 1)


async def test_what_must_not_be_interrupted_goes_on(service: MuseserveVideoService, pcm: bytes) -> None:
    result = FunctionCallResultFrame("weather", "1", {}, "sunny")
    keep = said(pcm, "b")
    for frame in keep:
        frame.interruptible = False
    async with talking(service) as bot:
        await bot.say(pcm, "a", end=False)
        await bot.send(result, *keep)
        await bot.until(lambda: len(bot.sound()) > RATE)
        assert result not in bot.frames, "it stands behind what is said"
        await bot.send(InterruptionFrame())
        await bot.until(lambda: bot.stopped("b"))
        assert result in bot.frames and bot.sound("b") == pcm and len(bot.sound("a")) < len(pcm)


async def test_contexts_in_a_row(service: MuseserveVideoService, pcm: bytes) -> None:
    short = pcm[: RATE * 2]
    async with talking(service) as bot:
        await bot.say(pcm, "a")
        await bot.send(TTSStartedFrame(context_id="nothing"), TTSStoppedFrame(context_id="nothing"))
        await bot.say(short, "b", end=False)  # the next one ends it
        await bot.say(short, "c")
        await bot.until(lambda: bot.stopped("c"))
        told = [(type(frame), frame.context_id) for frame in bot.frames if isinstance(frame, (TTSStartedFrame, TTSStoppedFrame))]
        start, stop = TTSStartedFrame, TTSStoppedFrame
        assert told == [(start, "a"), (stop, "a"), (start, "nothing"), (stop, "nothing"), (start, "b"), (start, "c"), (stop, "c")]
        assert [bot.sound(one) for one in "abc"] == [pcm, short, short] and bot.sound() == pcm + short * 2
    assert service.stats.without_lips == 0


async def test_a_context_that_is_made_word_by_word(service: MuseserveVideoService, pcm: bytes) -> None:
    words = [pcm[at : at + RATE] for at in range(0, len(pcm), RATE)]  # half a second each
    async with talking(service) as bot:
        for i, word in enumerate(words):
            await bot.say(word, "a", begin=not i, end=False)
            await asyncio.sleep(1.2 if i == 2 else 0.3)
        await bot.until(lambda: bot.sound() == pcm)
        await bot.send(TTSStoppedFrame(context_id="a"))
        await bot.until(lambda: bot.stopped("a"))
    assert service.stats.contexts == 1 and service.stats.without_lips == 0


async def test_speech_that_is_longer_than_an_utterance_may_be(service: MuseserveVideoService, pcm: bytes) -> None:
    service._face.longest_s = 1.0
    async with talking(service) as bot:
        await bot.until(lambda: bot.pictures)
        await bot.say(pcm, "a")
        await bot.until(lambda: bot.stopped("a"))
        assert bot.sound() == pcm
        sound = [frame for frame in bot.frames if isinstance(frame, TTSAudioRawFrame)]
        assert {frame.num_frames for frame in sound[:-1]} == {RATE // 25}, "without a gap"
    assert service.stats.contexts == 1 and service.stats.without_lips == 0


@pytest.mark.parametrize(("rate", "channels"), [(48_000, 2), (44_100, 1), (16_000, 1), (8_000, 1)])
async def test_sound_of_any_rate_stays_as_it_is(service: MuseserveVideoService, pcm: bytes, rate: int, channels: int) -> None:
    mono = np.frombuffer(pcm, "<i2").astype(float)
    places = np.arange(0, len(mono) - 1, RATE / rate)
    other = np.repeat(np.interp(places, np.arange(len(mono)), mono).round().astype("<i2")[:, None], channels, axis=1).tobytes()
    async with talking(service) as bot:
        await bot.until(lambda: len(bot.pictures) > 20)
        idle = bot.pictures[:20]
        await bot.say(other, "a", rate=rate, channels=channels)
        await bot.until(lambda: bot.stopped("a"))
        assert bot.sound() == other
        pairs = zip(bot.frames, bot.frames[1:], strict=False)
        spoken = [frame for frame, behind in pairs if isinstance(frame, OutputImageRawFrame) and isinstance(behind, TTSAudioRawFrame)]
        assert mouth_motion(spoken) > 2 * mouth_motion(idle)
    assert service.stats.without_lips == 0


async def test_words_with_their_times_come_later_by_as_much_as_their_sound_does(service: MuseserveVideoService, pcm: bytes) -> None:
    async with talking(service) as bot:
        await bot.until(lambda: bot.pictures)
        clock = service.get_clock()
        words = [TTSTextFrame(word, "word", context_id="a") for word in ("Tell", "me")]
        now = clock.get_time()
        for i, word in enumerate(words):
            word.pts = now + i * 200_000_000
        await bot.send(*said(pcm, "a", end=False)[:3], *words, *said(pcm, "a", begin=False)[2:])
        await bot.until(lambda: bot.stopped("a"))
        told = [frame for frame in bot.frames if isinstance(frame, TTSTextFrame)]
        assert [frame.text for frame in told] == ["Tell", "me"] and told[1].pts - told[0].pts == 200_000_000
        assert (told[0].pts - now) / 1e9 == pytest.approx(service.stats.first_picture_s[0], abs=0.3)


async def test_a_line_that_breaks_loses_no_sound(url: str, pcm: bytes) -> None:
    async with Line(url) as line:
        service = MuseserveVideoService(url=line.url, patience_s=PATIENCE_S)
        async with talking(service) as bot:
            await bot.until(lambda: bot.pictures)
            await bot.say(pcm, "a", end=False)
            await bot.until(lambda: len(bot.sound()) > RATE)
            line.cut()
            await bot.say(pcm, "a", begin=False)
            await bot.until(lambda: bot.stopped("a"))
            assert bot.sound() == pcm * 2 and service.stats.reconnects == 1


async def test_sound_goes_on_without_lips_while_the_service_is_away_and_that_is_told_once(url: str, pcm: bytes) -> None:
    async with Line(url) as line:
        service = MuseserveVideoService(url=line.url, patience_s=PATIENCE_S)
        async with talking(service) as bot:
            await bot.until(lambda: len(bot.pictures) > 10)
            line.down = True
            line.cut()
            await bot.say(pcm, "a")
            await bot.say(pcm, "b")
            await bot.until(lambda: bot.stopped("b"))
            assert bot.sound() == pcm * 2 and service.stats.without_lips == 2
            assert len(bot.errors) == 1 and not bot.errors[0].fatal and "sound goes on without lips" in bot.errors[0].error
            line.down = False
            await bot.until(lambda: service.stats.reconnects == 1)
            await bot.say(pcm, "c")
            await bot.until(lambda: bot.stopped("c"))
            assert bot.sound("c") == pcm and service.stats.without_lips == 2 and len(bot.errors) == 1


async def test_a_service_that_is_not_there_yet_and_comes(url: str, pcm: bytes) -> None:
    async with Line(url) as line:
        line.down = True
        service = MuseserveVideoService(url=line.url)
        async with talking(service) as bot:
            await bot.until(lambda: bot.errors)
            await bot.say(pcm, "a")
            await bot.until(lambda: bot.stopped("a"))
            assert bot.sound() == pcm and not bot.pictures and len(bot.errors) == 1
            line.down = False
            await bot.until(lambda: len(bot.pictures) > 10)
    assert service.is_usable


async def test_a_face_that_is_not_there_is_told(url: str) -> None:
    async with talking(MuseserveVideoService(url=url, avatar="nobody")) as bot:
        await bot.until(lambda: bot.errors)
        assert "nobody" in bot.errors[0].error


async def test_how_long_the_first_picture_took_is_told(service: MuseserveVideoService, pcm: bytes) -> None:
    async with talking(service, params=PipelineParams(enable_metrics=True)) as bot:
        await bot.say(pcm[:RATE], "a")
        await bot.until(lambda: bot.stopped("a"))
        told = [data for frame in bot.frames if isinstance(frame, MetricsFrame) for data in frame.data if isinstance(data, TTFBMetricsData)]
        values = [data.value for data in told if data.processor == service.name and data.value]
        assert values == [pytest.approx(service.stats.first_picture_s[0], abs=0.3)]
