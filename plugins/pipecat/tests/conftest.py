from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("pipecat", reason="NO PIPECAT in this environment: `make test-plugins` makes one that has it")

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from museserve_client import Client  # noqa: E402

from tests import client_fixtures  # noqa: E402

api, url = client_fixtures.api, client_fixtures.url
TEXT = "Tell me about a project that you are proud of."


@pytest.fixture
async def pcm(url: str) -> bytes:
    """Two seconds and a half, 16-bit mono at 24 kHz."""
    async with Client(url) as client:
        return b"".join([piece async for piece in client.speak(TEXT, format="pcm")])
