"""Avatars that are held for a while: those of one request, those that are being made, and those that somebody has deleted."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.models import AnimatorConfig
from museserve.errors import ConflictError, EngineError, UnknownAvatarError
from museserve.messages import AvatarRef, RenderRequest
from musetalk.animator.engine import Animator
from musetalk.animator.rig import Rig
from musetalk.avatars import leases
from musetalk.avatars import store as stores
from musetalk.avatars.files import CURRENT
from musetalk.avatars.format import ONE_OFF
from musetalk.avatars.from_portrait import prepare_builtin
from musetalk.avatars.store import AvatarStore
from musetalk.speech_cues.controls import N_CONTROLS
from tests.musetalk.avatars.test_store import flip_byte, local, make, store  # noqa: F401  # fixtures

ROOT = Path(__file__).parents[3]
ONE = f"{ONE_OFF}0123"

DIES = """
import os, sys
from musetalk.avatars.store import AvatarStore
from tests.musetalk.avatars.test_store import make
store = AvatarStore(sys.argv[1])
with store.one_off(sys.argv[2]):
    store.save(make(sys.argv[2]))
    assert store.exists(sys.argv[2])
    os._exit(9)
"""


def test_an_avatar_of_one_request_is_there_for_it_and_then_gone(store):  # noqa: F811
    with store.one_off(ONE):
        ref = store.save(make(ONE))
        assert store.load(ONE).ref == ref and store.sweep() == []
        assert store.ids() == [] and store.list() == []
        with pytest.raises(UnknownAvatarError, match="known: none"):
            store.load("anna")
    with pytest.raises(UnknownAvatarError):
        store.load(ONE)
    assert store.sweep() == []


def test_a_request_that_fails_before_there_is_an_avatar_leaves_nothing(store):  # noqa: F811
    with pytest.raises(ZeroDivisionError), store.one_off(ONE):
        raise ZeroDivisionError
    assert store.sweep() == []


def test_what_a_dead_process_held_is_not_served_after_its_lease_and_is_removed(tmp_path, monkeypatch):
    root = tmp_path / "avatars"
    died = subprocess.run([sys.executable, "-c", DIES, str(root), ONE], cwd=ROOT, check=False)
    assert died.returncode == 9
    store = AvatarStore(str(root))  # noqa: F811
    assert store.exists(ONE) and store.sweep() == []  # it may only be late
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + leases.LEASE_S + 1)
    with pytest.raises(UnknownAvatarError):
        store.load(ONE)
    assert store.sweep() == [ONE]
    assert not (root / ONE).exists() and not list((root / leases.FOLDER).iterdir())


def test_one_without_a_lease_was_left_by_an_older_version(local):  # noqa: F811
    local.save(make(ONE))
    with pytest.raises(UnknownAvatarError):
        local.load(ONE)
    assert local.sweep() == [ONE] and not (local._local_root / ONE).exists()


def test_a_lease_is_renewed_for_as_long_as_it_is_needed(local, monkeypatch):  # noqa: F811
    monkeypatch.setattr(leases, "LEASE_S", 0.8)
    with local.one_off(ONE):
        first = local._leases.until(ONE)
        time.sleep(1.6)
        assert local._leases.until(ONE) > first and local._leases.holds(ONE)


def test_a_full_store_has_room_for_one_request(tmp_path):
    store = AvatarStore(str(tmp_path), max_avatars=1)  # noqa: F811
    store.save(make("one"))
    with store.one_off(ONE):
        store.save(make(ONE))


def test_one_at_a_time_makes_an_avatar(store, monkeypatch):  # noqa: F811
    monkeypatch.setattr(leases, "SETTLE_S", 0.05)
    other = AvatarStore(store._root, filesystem=store._fs)
    order = []

    def second() -> None:
        with other.making("anna"):
            order.append("second")

    with store.making("anna"):
        with pytest.raises(ConflictError, match="being prepared just now"), other.making("anna", wait=False):
            pass
        with other.making("ben", wait=False):
            pass
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]
    with store.making("anna", wait=False):
        pass


def test_who_dies_while_it_makes_one_holds_nobody(tmp_path):
    code = "import os,sys;from musetalk.avatars.store import AvatarStore;AvatarStore(sys.argv[1]).making('anna').__enter__();os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False).returncode == 9
    with AvatarStore(str(tmp_path)).making("anna", wait=False):
        pass


def _maps(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_another_process_deletes_is_let_go(local):  # noqa: F811
    for name in ("anna", "ben"):
        local.save(make(name))
        local.load(name).open()
    gone = local.load("anna").ref
    told: list[AvatarRef] = []
    local.when_gone(told.append)
    folder = local._local_root
    assert _maps(folder / "anna")
    AvatarStore(local.uri).delete("anna")
    assert _maps(folder / "anna")  # pages of files without a name: the disk does not get them back
    assert local.let_go() == [gone] == told
    assert not _maps(folder / "anna") and _maps(folder / "ben")
    assert local.let_go() == []


def test_a_watched_store_lets_go_by_itself(local, monkeypatch):  # noqa: F811
    monkeypatch.setattr(stores, "WATCH_S", 0.05)
    local.save(make(ONE))
    local.save(make())
    local.load("anna").open()
    told = threading.Event()
    local.when_gone(lambda ref: told.set())
    local.watch(sweep=True)
    AvatarStore(local.uri).delete("anna")
    assert told.wait(20)
    assert not (local._local_root / ONE).exists()


def test_an_animator_forgets_a_rig(local):  # noqa: F811
    ref = prepare_builtin("interviewer_man", local)
    rig = Rig.from_arrays(local.load(ref.id).arrays("animator"))
    loaded = [rig]
    engine = Animator(AnimatorConfig(), lambda ref: loaded.pop())
    engine.render([RenderRequest(ref, (0,), np.zeros((1, N_CONTROLS), np.float32))])
    kept = weakref.ref(rig)
    del rig
    assert kept() is not None
    engine.forget(ref)
    engine.forget(ref)
    assert kept() is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"versions": [], "meta": {}}'])
def test_a_damaged_avatar_can_be_deleted_and_made_again(local, content):  # noqa: F811
    local.save(make())
    (local._local_root / "anna" / CURRENT).write_bytes(content)
    with pytest.raises(EngineError):
        local.load("anna")
    local.delete("anna")
    assert not local.exists("anna") and not (local._local_root / "anna").exists()
    assert local.load(local.save(make()).id).meta.name == "Anna"


def test_one_whose_pictures_are_damaged_can_be_deleted(local):  # noqa: F811
    ref = local.save(make())
    flip_byte(local._local_root / "anna" / ref.version / "background.arrow")
    local.delete("anna")
    assert not local.exists("anna")


def test_a_damaged_shipped_avatar_stays(local):  # noqa: F811
    local.save(make("interviewer_man", builtin=True))
    (local._local_root / "interviewer_man" / CURRENT).write_bytes(b"{}")
    with pytest.raises(ConflictError, match="ships with the project"):
        local.delete("interviewer_man")


def test_a_failed_save_leaves_no_folder(local):  # noqa: F811
    unstorable = make()
    parts = {"animator": replace(unstorable.engines["animator"], arrays={"names": np.array(["text"])})}
    with pytest.raises(TypeError):
        local.save(replace(unstorable, engines=parts))
    assert not (local._local_root / "anna").exists()
    ref = local.save(make())
    with pytest.raises(TypeError):
        local.save(replace(make(seed=1), engines=parts))
    assert local.holds(ref) and not list((local._local_root / "anna").glob(".tmp-*"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_store_is_private_and_its_locks_are(tmp_path):
    store = AvatarStore(str(tmp_path / "avatars"))  # noqa: F811
    assert mode(tmp_path / "avatars") == 0o700
    with store.making("anna"):
        (lock,) = (tmp_path / "avatars" / leases.FOLDER).iterdir()
        assert mode(lock) == 0o600 and mode(lock.parent) == 0o700


def test_the_projects_own_folder_is_closed_and_a_users_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSESERVE_HOME", str(tmp_path / "home"))
    for folder in (tmp_path / "home" / "avatars", tmp_path / "shared"):
        folder.mkdir(parents=True)
        os.chmod(folder, 0o755)
    AvatarStore()
    AvatarStore(str(tmp_path / "shared"))
    assert mode(tmp_path / "home" / "avatars") == 0o700 and mode(tmp_path / "shared") == 0o755
