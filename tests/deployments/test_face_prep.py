"""Face preparation without a cluster: what it tells as it goes, what it refuses, and that nothing stays of what nobody waited for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from benchmarks.generated_models import write_models
from configs.models import AppConfig, parse_config
from deployments.face_prep import FacePrep
from museserve.errors import ClipError, ConflictError, EngineUnavailableError, ImageError
from museserve.messages import PreparationProgress
from musetalk.avatars.builtin import shipped_portrait
from musetalk.avatars.format import AvatarMeta
from tests.museserve.media.films import film
from tests.musetalk.people import person


def config(folder: Path, engine: str) -> AppConfig:
    return parse_config(
        {
            "weights": {"uri": str(folder / "models"), "unpublished": True},
            "lipsync": {"engine": engine, "musetalk": {"device": "cpu", "threads": 1}},
            "avatars": {"uri": str(folder / "avatars"), "clip": {"min_s": 0.4}},
            "limits": {"max_body_bytes": 2**20, "max_clip_bytes": 4 * 2**20},
        }
    )


@pytest.fixture(scope="module")
def prep(tmp_path_factory: pytest.TempPathFactory) -> FacePrep:
    folder: Path = tmp_path_factory.mktemp("prep")
    write_models(folder / "models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("musetalk.animator.render.IDLE_FRAMES", 8)
        return FacePrep(config(folder, "musetalk"))


@pytest.fixture(scope="module")
def clip() -> bytes:
    return film(person(13))


async def told(prep: FacePrep, *asked: Any) -> list[Any]:
    return [item async for item in prep.prepare(*asked)]


async def test_a_clip_is_prepared_with_its_progress(prep: FacePrep, clip: bytes) -> None:
    *steps, last = await told(prep, clip, "mina", "Mina", "female", True)
    assert last.id == "mina" and last.source == "clip" and last.engines.keys() == {"musetalk"}
    assert "settings" not in last.to_json() and last.report["frames"] == 13
    done = [step.done for step in steps]
    assert done == sorted(done) and done[0] == 0 and done[-1] < 1 and len(done) > 10
    prep._store.delete("mina")


async def test_a_portrait_is_prepared_for_both_engines(prep: FacePrep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musetalk.animator.render.IDLE_FRAMES", 8)
    last = (await told(prep, shipped_portrait("interviewer_man").portrait_png, "max", "Max", "male"))[-1]
    assert last.engines.keys() == {"animator", "musetalk"} and last.report["musetalk"]["notes"]
    prep._store.delete("max")


async def left_behind(prep: FacePrep) -> list[str]:
    for _ in range(200):
        if not prep._making:
            break
        await asyncio.sleep(0.05)
    assert not prep._making
    return [name for name in prep._store.ids() if not name.startswith("interviewer")]


@pytest.mark.parametrize("at", ["read and follow the face", "encode the face", "save"])
async def test_who_hangs_up_leaves_nothing(prep: FacePrep, clip: bytes, at: str) -> None:
    telling = prep.prepare(clip, "gone", "", "female", True)
    async for item in telling:
        if isinstance(item, PreparationProgress) and item.step == at:
            break
    await telling.aclose()
    assert await left_behind(prep) == []


async def test_who_has_the_avatar_may_hang_up(prep: FacePrep, clip: bytes) -> None:
    telling = prep.prepare(clip, "kept", "", "female", True)
    async for item in telling:
        if isinstance(item, AvatarMeta):
            break
    await telling.aclose()
    assert await left_behind(prep) == ["kept"]
    prep._store.delete("kept")


async def test_a_cancelled_call_leaves_nothing(prep: FacePrep, clip: bytes) -> None:
    task = asyncio.create_task(told(prep, clip, "gone", "", "female", True))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await left_behind(prep) == []


async def test_what_is_refused_leaves_nothing(prep: FacePrep) -> None:
    with pytest.raises(ClipError, match="0 bytes"):
        await told(prep, b"", "no", "", "female", True)
    with pytest.raises(ClipError, match="no face"):
        await told(prep, film(person(12, hidden=lambda i: True)), "no", "", "female", True)
    with pytest.raises(ImageError, match="MP4"):
        await told(prep, film(person(12)), "no", "", "female")
    with pytest.raises(ConflictError, match="ships with"):
        await told(prep, b"", "interviewer_man", "", "female", True)
    assert await left_behind(prep) == []


async def test_one_id_is_prepared_once_at_a_time(prep: FacePrep, clip: bytes) -> None:
    first = prep.prepare(clip, "twin", "", "female", True)
    await anext(first)
    with pytest.raises(ConflictError, match="just now"):
        await told(prep, clip, "twin", "", "female", True)
    await first.aclose()
    assert await left_behind(prep) == []


async def test_a_clip_without_musetalk_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musetalk.animator.render.IDLE_FRAMES", 8)
    prep = FacePrep(config(tmp_path, "auto"))
    with pytest.raises(EngineUnavailableError, match="needs MuseTalk, which does not run here .auto: model files are missing"):
        await told(prep, b"", "no", "", "female", True)
