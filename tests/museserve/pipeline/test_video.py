from __future__ import annotations

import asyncio
import io
import math
import os
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path

import c2pa
import numpy as np
import pytest

from configs.models import AppConfig
from museserve.errors import ConfigError, RequestError
from museserve.media.background import Background
from museserve.messages import AvatarRef, EngineInfo, Fragment, SpeechChunk, SpeechInfo, SpeechRequest, VideoRequest
from museserve.pipeline.cache import UtteranceCache
from museserve.pipeline.engines import LipSync
from museserve.pipeline.video import VideoPipeline
from museserve.runtime.deadline_executor import DeadlineExecutor
from museserve.timebase import KEY_FRAMES
from tests import decoded
from tests.certificates import make_chain
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


async def test_kept_fragments_go_on_from_key_frames_and_a_part_is_not_kept(tmp_path: Path) -> None:
    engines = Engines(seconds=4.0)
    made = pipeline(engines, tmp_path)
    part = await film(made, replace(REQUEST, first_frame=KEY_FRAMES, keep=True))
    whole = await film(made, replace(REQUEST, keep=True))
    assert whole[0].head is not None and whole[0].head.cached == "speech", "of the part only the speech was kept"
    asked = len(engines.lips.asked)
    kept = await film(made, replace(REQUEST, first_frame=KEY_FRAMES))
    assert kept[0].head is not None and kept[0].head.cached == "segments" and len(engines.lips.asked) == asked
    again, drawn = (decoded.pictures(b"".join(f.data for f in fragments)).astype(int) for fragments in (kept, part))
    assert np.abs(again - drawn).max() <= 8
    assert [w for f in kept for w in f.words] == [w for f in whole for w in f.words]
    predicted = await film(made, replace(REQUEST, first_frame=16))
    assert predicted[0].head is not None and predicted[0].head.cached == "speech" and predicted[0].key, "those kept need what was before"
    (only,) = await film(made, replace(REQUEST, first_frame=800))
    assert only.final and only.n_frames == 0


@pytest.mark.parametrize("first_frame", [-8, 3, 12])
async def test_a_stream_begins_with_a_whole_segment(tmp_path: Path, first_frame: int) -> None:
    with pytest.raises(RequestError, match=f"multiple of 8.*got {first_frame}"):
        await film(pipeline(Engines(), tmp_path), replace(REQUEST, first_frame=first_frame))


async def finished(engines: Engines, folder: Path, **config: object) -> tuple[bytes, VideoPipeline]:
    settings = AppConfig.model_validate({"cache": {"uri": str(folder)}, **config})
    made = VideoPipeline(settings, engines, lambda name: Grey(), DeadlineExecutor([math.inf] * 2), UtteranceCache.of(settings))
    parts = [part async for part in made.film(REQUEST)]
    return b"".join(part for part in parts if isinstance(part, bytes)), made


async def test_a_finished_film_is_labelled_where_that_is_asked_for_and_a_stream_never_is(tmp_path: Path) -> None:
    engines = Engines()
    bare, _ = await finished(engines, tmp_path)
    labelled, made = await finished(engines, tmp_path, label={"burn_in": "always", "position": "top-right"})
    changed = np.abs(decoded.pictures(labelled)[:, :64].astype(int) - decoded.pictures(bare)[:, :64]) > 20
    assert changed[:, :24, 16:].reshape(len(changed), -1).any(axis=1).all(), "upon every picture, also where nobody speaks"
    assert not changed[:, 40:].any()
    stream = decoded.pictures(b"".join(f.data for f in await film(made, REQUEST)))
    assert np.abs(stream[:, :64].astype(int) - decoded.pictures(bare)[:, :64]).max() < 20
    again, _ = await finished(engines, tmp_path, label={"burn_in": "always", "position": "top-right"})
    assert np.array_equal(decoded.pictures(again), decoded.pictures(labelled)), "kept apart from the bare one"
    assert (background().frames == 128).all()


async def test_a_finished_film_is_signed(tmp_path: Path) -> None:
    signed, _ = await finished(Engines(), tmp_path / "cache", provenance=make_chain(tmp_path))
    reader = c2pa.Reader("video/mp4", io.BytesIO(signed))
    assert reader.get_validation_state() == "Valid" and b"trainedAlgorithmicMedia" in signed
    with pytest.raises(ConfigError, match="provenance.certificate"):
        await finished(Engines(), tmp_path, provenance={"certificate": str(tmp_path / "none.pem"), "key": str(tmp_path / "key.pem")})


def marked(folder: Path) -> int:
    return len(list(folder.rglob("*.long")))


def age(folder: Path, seconds: float) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - seconds,) * 2)


async def test_what_is_prerendered_is_kept_longer(tmp_path: Path) -> None:
    engines = Engines()
    made = pipeline(engines, tmp_path)
    await film(made, REQUEST)
    assert marked(tmp_path) == 0
    await film(made, replace(REQUEST, keep=True))
    assert marked(tmp_path) == 1
    age(tmp_path, 30 * 3_600)
    await film(made, replace(REQUEST, keep=True))  # there already, and now kept longer from now on
    made._cache._store.trim()  # type: ignore[union-attr]
    assert (await film(pipeline(Engines(), tmp_path), REQUEST))[0].head.cached == "segments"  # type: ignore[union-attr]
