"""The OpenAI engine against a real server on this machine, well and ill."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest

from configs.models import OpenAIConfig
from museserve.errors import SpeechEngineError
from museserve.messages import FloatArray
from museserve.speech.engines.openai import OpenAIEngine, has_key
from museserve.timebase import SPEECH_RATE
from tests.museserve.speech.provider import Provider

TEXT = "Please tell me about yourself and about your last project."


def config(provider: Provider, **changes: object) -> OpenAIConfig:
    return OpenAIConfig.model_validate({"base_url": provider.base_url, "api_key": "sk-test", "timeout_s": 1.0, "max_retries": 2, **changes})


@pytest.fixture
async def engine(provider: Provider) -> AsyncIterator[OpenAIEngine]:
    engine = OpenAIEngine(config(provider))
    yield engine
    await engine.aclose()


async def heard(engine: OpenAIEngine) -> list[FloatArray]:
    return [pcm async for pcm in engine.stream(TEXT, "nova", 1.1)]


async def test_sound_arrives_whole_though_samples_are_torn(engine: OpenAIEngine, provider: Provider) -> None:
    pieces = await heard(engine)
    sound = np.concatenate(pieces)
    expected = np.frombuffer(provider.pcm(TEXT), "<i2").astype(np.float32) / 32768
    assert len(pieces) > 3 and sound.dtype == np.float32
    assert abs(len(sound) - len(expected)) < 500  # espeak-ng's flutter moves the end a little
    assert np.square(sound).mean() == pytest.approx(np.square(expected).mean(), rel=0.1)


async def test_the_request_says_what_was_asked_for(provider: Provider) -> None:
    engine = OpenAIEngine(config(provider, model="gpt-x", instructions="Slowly."))
    await heard(engine)
    await engine.aclose()
    assert provider.requests == [
        {"input": TEXT, "model": "gpt-x", "voice": "nova", "response_format": "pcm", "speed": 1.1, "instructions": "Slowly."}
    ]
    assert provider.keys == ["Bearer sk-test"]


async def test_sound_is_passed_on_before_the_end(engine: OpenAIEngine, provider: Provider) -> None:
    provider.faults = ["slow"]
    stream = engine.stream(TEXT, "nova", 1.0)
    first = await anext(stream)
    assert 0 < len(first) < SPEECH_RATE
    assert not provider.hung_up.is_set()
    await stream.aclose()
    assert provider.hung_up.wait(5)


@pytest.mark.parametrize(("status", "tries", "message"), [
    ("401", 1, r"refused the key \(401\): check OPENAI_API_KEY"),
    ("403", 1, r"refused the key \(403\)"),
    ("404", 1, r"no model 'gpt-4o-mini-tts' at this address \(404\)"),
    ("400", 1, r"answered 400 for voice 'nova'"),
    ("429", 3, r"rate limit or quota is used up \(429\)"),
    ("500", 3, r"answered 500"),
    ("503", 3, r"answered 503"),
])  # fmt: skip
async def test_refusals(engine: OpenAIEngine, provider: Provider, status: str, tries: int, message: str) -> None:
    provider.faults = [status] * 5
    with pytest.raises(SpeechEngineError, match=message) as caught:
        await heard(engine)
    assert len(provider.requests) == tries
    if status in ("401", "403"):
        assert "sk-" not in str(caught.value)


@pytest.mark.parametrize("fault", ["429", "500", "empty"])
async def test_a_passing_fault_is_tried_again(engine: OpenAIEngine, provider: Provider, fault: str) -> None:
    provider.faults = [fault]
    assert sum(map(len, await heard(engine))) > SPEECH_RATE
    assert len(provider.requests) == 2


@pytest.mark.parametrize(("fault", "message"), [
    ("half", r"broke off after 1\.0 s of sound: the connection was lost"),
    ("stall", r"broke off after 1\.0 s of sound: no more sound within 1 s"),
    ("odd", r"broke off after 1\.0 s of sound: it ends in the middle of a sample"),
])  # fmt: skip
async def test_half_a_stream(engine: OpenAIEngine, provider: Provider, fault: str, message: str) -> None:
    provider.faults = [fault] * 3
    pieces: list[FloatArray] = []
    with pytest.raises(SpeechEngineError, match=message):
        async for pcm in engine.stream(TEXT, "nova", 1.0):
            pieces.append(pcm)
    assert sum(map(len, pieces)) == SPEECH_RATE
    assert len(provider.requests) == 1  # what was heard is not asked for again


async def test_no_sound_at_all(engine: OpenAIEngine, provider: Provider) -> None:
    provider.faults = ["empty"] * 5
    with pytest.raises(SpeechEngineError, match="broke off before any sound: it is empty"):
        await heard(engine)
    assert len(provider.requests) == 3


async def test_no_answer_in_time(provider: Provider) -> None:
    provider.cut_s = 0.0
    provider.faults = ["stall"] * 3
    engine = OpenAIEngine(config(provider, timeout_s=0.3, max_retries=1))
    with pytest.raises(SpeechEngineError, match=r"no more sound within 0\.3 s"):
        await heard(engine)
    await engine.aclose()
    assert len(provider.requests) == 2


async def test_a_web_page_is_no_sound(engine: OpenAIEngine, provider: Provider) -> None:
    provider.faults = ["html"]
    with pytest.raises(SpeechEngineError, match="answered text/html where raw PCM was asked for"):
        await heard(engine)


async def test_nobody_there() -> None:
    engine = OpenAIEngine(OpenAIConfig.model_validate({"base_url": "http://127.0.0.1:9/v1", "api_key": "sk-test", "max_retries": 0}))
    with pytest.raises(SpeechEngineError, match=r"cannot be reached at http://127\.0\.0\.1:9/v1"):
        await heard(engine)
    await engine.aclose()


def test_where_a_key_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert not has_key(OpenAIConfig())
    assert has_key(OpenAIConfig.model_validate({"api_key": "sk-test"}))
    assert has_key(OpenAIConfig(base_url="http://127.0.0.1:9/v1"))  # a server of one's own may want none
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    assert has_key(OpenAIConfig())
