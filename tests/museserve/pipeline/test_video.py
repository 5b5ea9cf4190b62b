from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from configs.models import AppConfig
from museserve.errors import RequestError
from museserve.media.background import Background
from museserve.messages import AvatarRef, EngineInfo, Fragment, SpeechChunk, SpeechInfo, SpeechRequest, VideoRequest
from museserve.pipeline.cache import UtteranceCache
from museserve.pipeline.engines import LipSync
from museserve.pipeline.video import VideoPipeline
from museserve.runtime.deadline_executor import DeadlineExecutor
from tests import decoded
from tests.fakes import INFO, FakeLips, FakeSpeech, background

REQUEST = VideoRequest("u", "grey", SpeechRequest("Say something."), paced=False)


@dataclass
class Grey:
    """The avatar of `fakes.background`."""

    ref: AvatarRef = AvatarRef("grey", "1")
    uploaded: bool = False

    def require(self, engine: EngineInfo) -> None: ...

    def background(self, engine: str) -> Background:
        return background()


class Engines:
    """spoken: how often the voice was asked."""

    def __init__(self, seconds: float = 2.0) -> None:
        self.lips, self.spoken, self.seconds = FakeLips(background().box), 0, seconds

    async def lipsync(self) -> LipSync:
        return LipSync(INFO, self.lips.listen, self.lips.render)

    async def speech(self) -> SpeechInfo:
        return SpeechInfo("offline", "asked for by a test", "1")

    def synthesize(self, request: SpeechRequest) -> AsyncGenerator[SpeechChunk, None]:
        self.spoken += 1
        return FakeSpeech(self.seconds).stream()  # type: ignore[return-value]


def pipeline(engines: Engines, folder: Path) -> VideoPipeline:
    config = AppConfig.model_validate({"cache": {"uri": str(folder)}})
    return VideoPipeline(config, engines, lambda name: Grey(), DeadlineExecutor([math.inf] * 2), UtteranceCache.of(config))


async def film(made: VideoPipeline, request: VideoRequest) -> list[Fragment]:
    return [fragment async for fragment in made.stream(request)]


async def test_who_goes_on_finds_the_speech_of_a_film_that_was_broken_off(tmp_path: Path) -> None:
    engines = Engines(seconds=8.0)
    broken = pipeline(engines, tmp_path).stream(replace(REQUEST, paced=True))
    async for fragment in broken:
        if fragment.first_frame >= 8 and fragment.words_final:
            break
    await broken.aclose()
    await asyncio.sleep(0.1)
    rest = await film(pipeline(engines, tmp_path), replace(REQUEST, first_frame=48))
    assert rest[0].head is not None and rest[0].head.cached == "speech" and rest[0].first_frame == 48
    assert engines.spoken == 1


async def test_kept_fragments_go_on_from_any_segment_and_a_part_is_not_kept(tmp_path: Path) -> None:
    engines = Engines()
    made = pipeline(engines, tmp_path)
    part = await film(made, replace(REQUEST, first_frame=16, keep=True))
    whole = await film(made, replace(REQUEST, keep=True))
    assert whole[0].head is not None and whole[0].head.cached == "speech", "of the part only the speech was kept"
    asked = len(engines.lips.asked)
    kept = await film(made, replace(REQUEST, first_frame=16))
    assert kept[0].head is not None and kept[0].head.cached == "segments" and len(engines.lips.asked) == asked
    again, drawn = (decoded.pictures(b"".join(f.data for f in fragments)) for fragments in (kept, part))
    assert np.array_equal(again, drawn)
    assert [w for f in kept for w in f.words] == [w for f in whole for w in f.words]
    (only,) = await film(made, replace(REQUEST, first_frame=800))
    assert only.final and only.n_frames == 0


@pytest.mark.parametrize("first_frame", [-8, 3, 12])
async def test_a_stream_begins_with_a_whole_segment(tmp_path: Path, first_frame: int) -> None:
    with pytest.raises(RequestError, match=f"multiple of 8.*got {first_frame}"):
        await film(pipeline(Engines(), tmp_path), replace(REQUEST, first_frame=first_frame))
