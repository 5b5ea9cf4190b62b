from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.importorskip("aiortc", reason="NO AIORTC in this environment: `make test-plugins` makes one that has it")

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

import aiohttp  # noqa: E402
from aiohttp.test_utils import TestServer  # noqa: E402
from museserve_client import Client  # noqa: E402
from museserve_whep import Gateway  # noqa: E402

from tests import client_fixtures  # noqa: E402

api, url = client_fixtures.api, client_fixtures.url
TEXT = "Tell me about a project that you are proud of."
PAGE = "http://page.example"


@pytest.fixture
async def gateway(url: str) -> AsyncIterator[str]:
    """Address of one that has room for two. On a machine that is busy the pictures come when they come."""
    async with TestServer(Gateway(url, origins=[PAGE], viewers=2, patience_s=60.0).app) as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def pcm(url: str) -> bytes:
    """Two seconds and a half, 16-bit mono at 24 kHz."""
    async with Client(url) as client:
        return b"".join([piece async for piece in client.speak(TEXT, format="pcm", speed=1.1)])
