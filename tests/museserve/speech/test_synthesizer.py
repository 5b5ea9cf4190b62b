"""One stream of chunks an utterance: contiguous, timed, early, cancellable, and what happens when the provider fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.models import SpeechConfig
from museserve.errors import ConfigError, SpeechEngineError
from museserve.messages import SpeechChunk, SpeechInfo, SpeechRequest
from museserve.pipeline.speech_buffer import SpeechBuffer
from museserve.speech.request import parse_delivery, parse_speech
from museserve.speech.synthesizer import Synthesizer
from museserve.timebase import AAC_FRAME, OUTPUT_RATE, SPEECH_RATE
from tests.museserve.speech.provider import Provider

ENGLISH = "Tell me about yourself, and then describe the project that you are proud of. Why did you choose AWS? It cost 12% more."
KOREAN = "안녕하세요. 먼저 AWS와 REST API 경험을 3분 안에 말씀해 주세요."
FIRST_AAC_FRAME = AAC_FRAME * SPEECH_RATE // OUTPUT_RATE


async def spoken(synthesizer: Synthesizer, text: str, voice: str = "nova", speed: float = 1.1, gender: str = "female") -> list[SpeechChunk]:
    asked = parse_speech(text, parse_delivery(voice, speed, "auto", gender), 20_000)
    return [chunk async for chunk in synthesizer.stream(asked)]


def sound(chunks: list[SpeechChunk]) -> np.ndarray:
    return np.concatenate([chunk.pcm for chunk in chunks])


def check_stream(chunks: list[SpeechChunk]) -> None:
    at = 0
    for chunk in chunks:
        assert chunk.start == at and chunk.pcm.dtype == np.float32
        at += len(chunk.pcm)
    assert [chunk.final for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    pcm = sound(chunks)
    assert not pcm[:FIRST_AAC_FRAME].any()
    assert np.isfinite(pcm).all() and 0.1 < np.abs(pcm).max() < 1
    words = [word for chunk in chunks for word in chunk.words]
    assert all(word.start < word.end for word in words)
    assert all(before.end <= after.start for before, after in zip(words, words[1:], strict=False))
    assert words[-1].end <= at


@pytest.mark.parametrize(("text", "voice", "engine"), [
    (ENGLISH, "nova", "hibari"),
    (ENGLISH, "onyx", "piper"),
    (KOREAN, "nova", "espeak"),
    (KOREAN, "joe", "espeak"),
    ("Bonjour, je m'appelle Claire. Et vous ?", "nova", "espeak"),
])  # fmt: skip
async def test_offline_stream(offline: Synthesizer, text: str, voice: str, engine: str) -> None:
    chunks = await spoken(offline, text, voice)
    check_stream(chunks)
    assert len(chunks) >= 2 and {chunk.engine for chunk in chunks} == {engine}
    phonemes = [phoneme for chunk in chunks for phoneme in chunk.phonemes or ()]
    assert phonemes[0].start == 0 and phonemes[-1].end == len(sound(chunks))
    assert all(before.end == after.start for before, after in zip(phonemes, phonemes[1:], strict=False))
    for chunk in chunks:
        assert all(chunk.start <= phoneme.start < chunk.start + len(chunk.pcm) for phoneme in chunk.phonemes or ())
    assert " ".join(word.text for chunk in chunks for word in chunk.words) == " ".join(text.split())


async def test_words_are_where_they_sound(offline: Synthesizer) -> None:
    chunks = await spoken(offline, ENGLISH)
    words = [word for chunk in chunks for word in chunk.words]
    pcm = sound(chunks)
    assert not any(word.estimated for word in words)
    inside = np.concatenate([pcm[word.start : word.end] for word in words])
    outside = pcm.copy()
    for word in words:
        outside[word.start : word.end] = 0
    assert np.square(inside).sum() > 20 * np.square(outside).sum()


async def test_lips_meet_where_the_text_says_so(offline: Synthesizer) -> None:
    for voice in ("nova", "onyx"):
        chunks = await spoken(offline, "Maybe people prepare a map.", voice)
        lips = [p.symbol for chunk in chunks for p in chunk.phonemes or () if p.symbol in ("p", "b", "m")]
        assert lips == ["m", "b", "p", "p", "p", "p", "m", "p"]


async def test_pauses_are_silent(offline: Synthesizer) -> None:
    chunks = await spoken(offline, "One. Two.")
    pcm = sound(chunks)
    pauses = [p for chunk in chunks for p in chunk.phonemes or () if not p.symbol and p.end - p.start > 0.2 * SPEECH_RATE]
    assert len(pauses) == 1
    middle = pcm[pauses[0].start + 2_000 : pauses[0].end - 2_000]
    assert np.abs(middle).max() < 0.01


async def test_the_graph_takes_the_stream(offline: Synthesizer) -> None:
    buffer = SpeechBuffer(0.2, 0.2)
    for chunk in await spoken(offline, ENGLISH):
        buffer.append(chunk)
    assert buffer.total_frames is not None and buffer.total_frames / 25 > buffer.samples / SPEECH_RATE


@pytest.mark.parametrize(("speed", "voice", "notice"), [
    (0.25, "nova", "hibari speaks at 0.50 to 2.00 times its pace, not 0.25: 0.50 was used"),
    (4.0, "nova", "not 4: 2.00 was used"),
    (1.1, "nova", ""),
    (4.0, "espeak-f", "not 4: 2.57 was used"),
])  # fmt: skip
async def test_speeds_out_of_reach_are_announced_once(offline: Synthesizer, speed: float, voice: str, notice: str) -> None:
    chunks = await spoken(offline, "Hello there. How are you?", voice, speed=speed)
    notices = [chunk.notice for chunk in chunks if chunk.notice]
    assert len(notices) == bool(notice) and all(notice in each for each in notices)


async def test_a_voice_of_another_language_is_announced(offline: Synthesizer) -> None:
    chunks = await spoken(offline, "안녕하세요.", "hibari")
    assert chunks[0].notice == "hibari does not speak ko: espeak-f does"


@pytest.mark.parametrize(("gender", "engine"), [("female", "hibari"), ("male", "piper")])
async def test_auto_follows_the_gender(offline: Synthesizer, gender: str, engine: str) -> None:
    assert (await spoken(offline, "Hello.", "auto", gender=gender))[0].engine == engine


@pytest.mark.parametrize(
    "text", ["Hi 🙂!", "C++, O(n) & 3.5%", "ok", "日本語とEnglishと한국어", "привет мир", "a", "7", "¿Qué?", "e\u0301te\u0301 \u200b?"]
)
async def test_odd_texts_are_spoken(offline: Synthesizer, text: str) -> None:
    check_stream(await spoken(offline, text))


async def test_a_listener_who_leaves_stops_the_rest(offline: Synthesizer) -> None:
    stream = offline.stream(SpeechRequest("This is a sentence. " * 30, "espeak-f"))
    first = await anext(stream)
    await stream.aclose()
    assert not first.final
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_many_at_once_do_not_mix(offline: Synthesizer) -> None:
    texts = [(KOREAN, "nova"), (ENGLISH, "nova"), ("Good morning, everybody.", "nova")] * 2
    together = await asyncio.gather(*(spoken(offline, text, voice) for text, voice in texts))
    for (text, _), chunks in zip(texts, together, strict=True):
        check_stream(chunks)
        assert " ".join(word.text for chunk in chunks for word in chunk.words) == text
    assert np.array_equal(sound(together[1]), sound(together[4]))


def test_openai_without_a_key_is_an_error_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="set OPENAI_API_KEY"):
        Synthesizer(SpeechConfig(engine="openai"))


def test_info_says_what_speaks_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    info = Synthesizer(SpeechConfig()).info
    assert "hibari-tts-" in info.version
    assert info == SpeechInfo("offline", "no OpenAI key is configured", info.version, ("hibari", "piper", "espeak"), natural="not looked for")
    assert Synthesizer(SpeechConfig(engine="offline")).info.reason == "configured"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    info = Synthesizer(SpeechConfig()).info
    assert info.engine == "openai" and info.reason == "a key is configured" and "sk-secret" not in str(info)


def test_version_follows_the_lexicon(tmp_path: Path) -> None:
    lexicon = tmp_path / "words.yaml"
    lexicon.write_text("en:\n  kubectl: cube cuttle\n")
    mine = Synthesizer(SpeechConfig(lexicon=lexicon)).info.version
    assert mine != Synthesizer(SpeechConfig()).info.version
    lexicon.write_text("# how we say it\nen:\n  kubectl: cube cuttle\n")
    assert Synthesizer(SpeechConfig(lexicon=lexicon)).info.version == mine, "a comment is not heard"


def _config(provider: Provider, on_error: str, timeout_s: float = 1.0, **more: Any) -> SpeechConfig:
    openai = {"base_url": provider.base_url, "api_key": "sk-test", "timeout_s": timeout_s, "max_retries": 0}
    return SpeechConfig.model_validate({"openai": openai, "on_openai_error": on_error, **more})


@pytest.fixture
async def strict(provider: Provider) -> AsyncIterator[Synthesizer]:
    synthesizer = Synthesizer(_config(provider, "error"))
    yield synthesizer
    await synthesizer.aclose()


@pytest.fixture
async def falling_back(provider: Provider) -> AsyncIterator[Synthesizer]:
    synthesizer = Synthesizer(_config(provider, "fallback"))
    yield synthesizer
    await synthesizer.aclose()


async def test_openai_stream(strict: Synthesizer, provider: Provider) -> None:
    chunks = await spoken(strict, ENGLISH, "nova", speed=1.1)
    check_stream(chunks)
    assert {chunk.engine for chunk in chunks} == {"openai"} and all(chunk.phonemes is None for chunk in chunks)
    words = [word for chunk in chunks for word in chunk.words]
    assert [word.text for word in words] == ENGLISH.split() and all(word.estimated for word in words)
    assert [(body["input"], body["voice"], body["speed"]) for body in provider.requests] == [(ENGLISH, "nova", 1.1)]


async def test_first_sound_of_openai_is_not_held_back(strict: Synthesizer, provider: Provider) -> None:
    provider.faults = ["slow"]
    stream = strict.stream(SpeechRequest(ENGLISH))
    first = await anext(stream)
    assert 0.1 <= len(first.pcm) / SPEECH_RATE < 0.3
    await stream.aclose()
    assert provider.hung_up.wait(5)


async def test_offline_names_do_not_ask_the_provider(strict: Synthesizer, provider: Provider) -> None:
    chunks = await spoken(strict, "Hello.", "hibari")
    assert chunks[0].engine == "hibari" and provider.requests == []


async def test_auto_becomes_a_name_of_openai(strict: Synthesizer, provider: Provider) -> None:
    await spoken(strict, "Hello.", "auto", gender="male")
    assert provider.requests[0]["voice"] == "onyx"


@pytest.mark.parametrize("fault", ["401", "429", "half", "stall"])
async def test_a_failing_provider_is_an_error(strict: Synthesizer, provider: Provider, fault: str) -> None:
    provider.faults = [fault]
    with pytest.raises(SpeechEngineError):
        await spoken(strict, ENGLISH)


async def test_fallback_before_any_sound(falling_back: Synthesizer, provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    provider.faults = ["401"]
    with caplog.at_level(logging.WARNING, "speech"):
        chunks = await spoken(falling_back, ENGLISH)
    check_stream(chunks)
    assert {chunk.engine for chunk in chunks} == {"hibari"}
    assert "refused the key (401)" in chunks[0].notice and not any(chunk.notice for chunk in chunks[1:])
    assert len(caplog.records) == 1 and "sk-" not in caplog.text
    assert " ".join(word.text for chunk in chunks for word in chunk.words) == ENGLISH


@pytest.mark.parametrize(("cut_s", "past_first_clause"), [(0.5, False), (2.6, True)])
async def test_fallback_in_mid_sentence_loses_no_words(falling_back: Synthesizer, provider: Provider, cut_s: float, past_first_clause: bool) -> None:
    provider.cut_s, provider.faults = cut_s, ["half"]
    chunks = await spoken(falling_back, ENGLISH)
    check_stream(chunks)
    engines = [chunk.engine for chunk in chunks]
    assert engines == sorted(engines, reverse=True) and set(engines) == {"openai", "hibari"}
    announced = [chunk for chunk in chunks if chunk.notice]
    assert len(announced) == 1 and announced[0].engine == "hibari" and "broke off" in announced[0].notice
    assert [word.text for chunk in chunks for word in chunk.words] == ENGLISH.split()
    cloud_s = sum(len(chunk.pcm) for chunk in chunks if chunk.engine == "openai") / SPEECH_RATE
    assert cloud_s == pytest.approx(cut_s + 0.03, abs=0.01)
    told = [word for chunk in chunks if chunk.engine == "openai" for word in chunk.words]
    assert bool(told) == past_first_clause


async def test_a_long_text_goes_in_several_requests(provider: Provider) -> None:
    synthesizer = Synthesizer(_config(provider, "error", timeout_s=20.0, max_text_chars=20_000))
    text = " ".join(f"This is sentence number {number} of a very long text that somebody wrote." for number in range(80))
    chunks = await spoken(synthesizer, text)
    await synthesizer.aclose()
    assert len(provider.requests) == 2 and all(len(body["input"]) <= 4_096 for body in provider.requests)
    assert " ".join(body["input"] for body in provider.requests) == text
    assert [word.text for chunk in chunks for word in chunk.words] == text.split()
    check_stream(chunks)
