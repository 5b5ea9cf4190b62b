"""Stores that another version wrote, or that are damaged in part: made new at start with a line each; nobody is held up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from configs.models import AppConfig, parse_config
from deployments.face_prep import FacePrep
from museserve.errors import EngineError
from musetalk.avatars.builtin import BUILTIN
from musetalk.avatars.format import FORMAT
from musetalk.avatars.from_portrait import animator_version, prepare_builtin, prepare_portrait
from musetalk.avatars.store import AvatarStore
from musetalk.avatars.stores import shipped_store
from tests.musetalk.pictures import encoded, woman

ADDED = ("anna", "ben")
DAMAGED = {"empty": b"", "cut short": b'{"versions": ["', "not text": b"\xff\xfe", "a list": b"[]", "no metadata": b"{}"}


@pytest.fixture(autouse=True)
def short_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musetalk.animator.render.IDLE_FRAMES", 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped avatars and two that were added, all current."""
    path: Path = tmp_path_factory.mktemp("current")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("musetalk.animator.render.IDLE_FRAMES", 8)
        store = shipped_store(config_for(path), 2**20)
        for name in ADDED:
            prepare_portrait(encoded(woman()), id=name, store=store)
    return path


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> AppConfig:
    shutil.copytree(folder, tmp_path / "avatars")
    return config_for(tmp_path / "avatars")


@pytest.fixture
def store(config: AppConfig) -> AvatarStore:
    return AvatarStore(config.avatars.uri)


def config_for(folder: Path) -> AppConfig:
    return parse_config({"lipsync": {"engine": "animator"}, "avatars": {"uri": str(folder), "size": 512}})


def rewrite(store: AvatarStore, avatar_id: str, **changes: Any) -> None:
    """Change what is told of an avatar, in both places."""
    current = Path(store.uri) / avatar_id / "current.json"
    meta = json.loads(current.read_text())["meta"]
    folder = current.parent / meta["version"]
    meta |= changes
    folder = folder.rename(current.parent / meta["version"])
    (folder / "meta.json").write_text(json.dumps(meta))
    current.write_text(json.dumps({"versions": [meta["version"]], "meta": meta}))


def age(store: AvatarStore, avatar_id: str) -> None:
    """As the version before left it: the animator told apart by a hash of its code."""
    old = "0123456789abcdef"
    rewrite(store, avatar_id, engines={"animator": "00112233445566ff"}, settings=old, version=old)


def told(caplog: pytest.LogCaptureFixture, avatar_id: str) -> list[str]:
    """What is said of an avatar even where nothing set logging up."""
    said = [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    return [line for line in said if avatar_id in line]


def serves(store: AvatarStore, avatar_id: str) -> bool:
    meta = store.meta(avatar_id)
    return meta.engines == {"animator": animator_version()} and store.holds(meta.ref)


def test_the_version_before_is_made_new_at_start(
    config: AppConfig,
    store: AvatarStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in (*BUILTIN, *ADDED):
        age(store, name)
    FacePrep(config)
    for name in (*BUILTIN, *ADDED):
        (line,) = told(caplog, name)
        assert "prepared again" in line and "of another version" in line and serves(store, name)
    caplog.clear()
    FacePrep(config)
    assert not any(told(caplog, name) for name in (*BUILTIN, *ADDED))


def test_whoever_needs_a_shipped_avatar_makes_it_new(store: AvatarStore, caplog: pytest.LogCaptureFixture) -> None:
    age(store, BUILTIN[0])
    ref = prepare_builtin(BUILTIN[0], store)
    (line,) = told(caplog, BUILTIN[0])
    assert "prepared again" in line and serves(store, BUILTIN[0])
    assert prepare_builtin(BUILTIN[0], store) == ref and told(caplog, BUILTIN[0]) == [line]


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *((BUILTIN[0], how) for how in ("another format", "cut short")),
        *(("anna", how) for how in ("another format", "a field missing", *DAMAGED)),
    ],
)
def test_one_that_cannot_be_read_does_not_keep_the_others_from_serving(
    config: AppConfig, store: AvatarStore, caplog: pytest.LogCaptureFixture, how: str, name: str
) -> None:
    current = Path(store.uri) / name / "current.json"
    if how == "another format":
        rewrite(store, name, format=FORMAT + 1)
    elif how == "a field missing":
        current.write_text(json.dumps({"versions": [], "meta": {"id": name}}))
    else:
        current.write_bytes(DAMAGED[how])
    FacePrep(config)
    (line,) = told(caplog, name)
    others = {*BUILTIN, *ADDED} - {name}
    assert all(serves(store, other) and not told(caplog, other) for other in others)
    if name in BUILTIN:
        assert "prepared again" in line and serves(store, name)
    else:
        assert "cannot be used" in line and {meta.id for meta in store.list()} == others
        with pytest.raises(EngineError):
            store.load(name)
