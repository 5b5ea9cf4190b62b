"""What is drawn needs a place; what the cache has, and what is refused before, needs none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from configs.models import AppConfig
from museserve.app.inprocess import LocalPipeline
from museserve.errors import BusyError, UnknownAvatarError
from museserve.messages import SpeechRequest, VideoRequest

SPOKEN = SpeechRequest("Yes.", voice="espeak-f")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> LocalPipeline:
    folder: Path = tmp_path_factory.mktemp("place")
    uris = {"avatars": {"uri": str(folder / "avatars")}, "cache": {"uri": str(folder / "cache")}}
    return LocalPipeline(AppConfig.model_validate({"lipsync": {"engine": "animator"}, **uris}), cache=True)


async def test_only_what_is_drawn_takes_one(local: LocalPipeline) -> None:
    held: list[str] = []
    full = False

    @asynccontextmanager
    async def place(request: VideoRequest) -> AsyncIterator[None]:
        if full:
            raise BusyError("no more")
        held.append(f"{request.utterance} takes it")
        try:
            yield
        finally:
            held.append(f"{request.utterance} leaves it")

    local.pipeline._place = place
    await local.fragments(VideoRequest("one", "interviewer_woman", SPOKEN, paced=False, keep=True))
    assert held == ["one takes it", "one leaves it"]
    given_up = local.pipeline.stream(VideoRequest("two", "interviewer_woman", SpeechRequest("No.", voice="espeak-f"), paced=False))
    await anext(given_up)
    assert held[2:] == ["two takes it"]
    await given_up.aclose()
    assert held[3:] == ["two leaves it"]
    with pytest.raises(UnknownAvatarError):
        await local.fragments(VideoRequest("three", "nobody", SPOKEN))
    full = True
    kept = await local.fragments(VideoRequest("four", "interviewer_woman", SPOKEN, paced=False))
    assert kept[0].head is not None and kept[0].head.cached == "segments"
    with pytest.raises(BusyError):
        await local.fragments(VideoRequest("five", "interviewer_woman", SpeechRequest("Never.", voice="espeak-f"), paced=False))
    assert len(held) == 4
