from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.importorskip("livekit.agents", reason="NO LIVEKIT-AGENTS in this environment: `make test-plugins` makes one that has it")

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from livekit.plugins.museserve import VideoGenerator  # noqa: E402
from museserve_client import Client  # noqa: E402

from tests import client_fixtures  # noqa: E402

api, url, until = client_fixtures.api, client_fixtures.url, client_fixtures.until
PATIENCE_S = 60.0  # on a machine that is busy the pictures come when they come
TEXT = "Tell me about a project that you are proud of."


@pytest.fixture
async def speech(url: str) -> bytes:
    """Two seconds and a half, 16-bit mono at 24 kHz."""
    async with Client(url) as client:
        return b"".join([piece async for piece in client.speak(TEXT, format="pcm")])


@pytest.fixture
async def generator(url: str) -> AsyncIterator[VideoGenerator]:
    made = VideoGenerator(url, patience_s=PATIENCE_S)
    await made.start()
    yield made
    await made.aclose()
