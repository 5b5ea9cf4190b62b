"""Voices are slow to load and hold no state of an utterance: one of each for the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from configs.models import SpeechConfig
from museserve.speech.engines.espeak import EspeakEngine
from museserve.speech.engines.hibari import HibariEngine
from museserve.speech.engines.piper import PiperEngine
from museserve.speech.synthesizer import Synthesizer
from tests.museserve.speech.provider import Provider


@pytest.fixture(scope="session")
def hibari() -> HibariEngine:
    return HibariEngine()


@pytest.fixture(scope="session")
def piper() -> PiperEngine:
    return PiperEngine()


@pytest.fixture(scope="session")
def espeak() -> EspeakEngine:
    return EspeakEngine()


@pytest.fixture(scope="session")
def offline() -> Synthesizer:
    return Synthesizer(SpeechConfig(engine="offline"))


@pytest.fixture(scope="session")
def shared_provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.close()


@pytest.fixture
def provider(shared_provider: Provider) -> Provider:
    shared_provider.faults, shared_provider.requests, shared_provider.keys, shared_provider.cut_s = [], [], [], 1.0
    shared_provider.hung_up.clear()
    return shared_provider
