"""The OpenAI engine against a real server of that contract: this service."""

from __future__ import annotations

from contextlib import aclosing

import numpy as np
import pytest

from configs.models import OpenAIConfig, SpeechConfig
from museserve.errors import SpeechEngineError
from museserve.messages import SpeechChunk, SpeechRequest
from museserve.speech.synthesizer import Synthesizer
from tests.conftest import Service

pytestmark = pytest.mark.serve


async def speak(base_url: str, text: str, **options: str) -> list[SpeechChunk]:
    config = SpeechConfig(engine="openai", openai=OpenAIConfig(base_url=base_url, api_key="none", max_retries=0, timeout_s=10), **options)
    async with aclosing(Synthesizer(config)) as voice:
        return [chunk async for chunk in voice.stream(SpeechRequest(text, "nova", 1.1))]


async def test_it_streams_the_services_own_speech(service: Service) -> None:
    chunks = await speak(f"{service.url}/v1", "Hello there. How are you today?")
    pcm = np.concatenate([c.pcm for c in chunks])
    assert len(chunks) > 2 and chunks[-1].final and chunks[0].engine == "openai"
    assert 1.0 < len(pcm) / 24_000 < 5.0 and np.abs(pcm).max() > 0.05
    assert [w.text for c in chunks for w in c.words][:2] == ["Hello", "there."] and all(w.estimated for c in chunks for w in c.words)
    assert all(a.start + len(a.pcm) == b.start for a, b in zip(chunks, chunks[1:], strict=False))


async def test_a_wrong_address_is_a_clear_error_or_an_announced_fallback(service: Service) -> None:
    wrong = f"{service.url}/nowhere"
    with pytest.raises(SpeechEngineError, match="404"):
        await speak(wrong, "Hello there.")
    chunks = await speak(wrong, "Hello there.", on_openai_error="fallback")
    assert chunks[-1].final and "404" in " ".join(c.notice for c in chunks)
    assert {c.engine for c in chunks} == {"hibari"}
