"""The avatar store: what is saved comes back, and nothing half-written, damaged or foreign is ever taken for an avatar."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from museserve.errors import ConfigError, ConflictError, EngineError, UnknownAvatarError
from museserve.media.idle_loop import Gesture
from museserve.messages import AvatarRef, Box
from musetalk.avatars import arrow_file
from musetalk.avatars.format import EngineParts, PreparedAvatar, StoredIdle, content_version
from musetalk.avatars.store import AvatarStore

SIZE = 64
FRAMES = 16


GESTURES = {
    "listening": (Gesture(1, (b"nod", b"s")), Gesture(5, (b"tilts",))),
    "thinking": (Gesture(2, (b"away", b"", b"back")),),
}


def make(avatar_id="anna", seed=0, **changes):
    """A small avatar whose arrays are different for every seed."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (FRAMES, SIZE * 3 // 2, SIZE), dtype=np.uint8)
    animator = EngineParts("1", Box(8, 16, 40, 32), {"texture": rng.random((5, 7, 3), dtype=np.float32), "triangles": np.arange(12).reshape(4, 3)})
    masked = EngineParts("1.5", Box(0, 0, 32, 32), {"latents": rng.random((4, 8), dtype=np.float32)}, np.full((32, 32), 200, np.uint8))
    fields = dict(
        id=avatar_id,
        version=content_version("test", seed),
        name="Anna",
        gender="female",
        size=SIZE,
        source_sha256=hashlib.sha256(bytes([seed])).hexdigest(),
        portrait_png=b"\x89PNG" + bytes([seed]),
        landmarks=rng.random((478, 3), dtype=np.float32),
        frames=frames,
        engines={"animator": animator, "musetalk": masked},
        idle=StoredIdle(init=b"init", segments=(b"first", b"second fragment"), steady=(b"goes", b"on"), gestures=GESTURES, mp4=b"whole"),
        report={"warnings": [], "iris_px": 73.5},
    )
    return PreparedAvatar(**{**fields, **changes})


@pytest.fixture(params=["folder", "file uri", "subtree", "in memory", "moto", "moto with copies", pytest.param("seaweed", marks=pytest.mark.slow)])
def store(request, tmp_path):
    if request.param.startswith(("moto", "seaweed")):
        request.getfixturevalue("s3_keys")
        server = request.getfixturevalue(request.param.split()[0])
        copies = None if request.param == "moto" else tmp_path / "copies"
        return AvatarStore(server.uri(f"{server.new_bucket()}/avatars"), ttl_s=60, copies=copies)
    if request.param == "folder":
        return AvatarStore(str(tmp_path / "avatars"))
    if request.param == "file uri":
        return AvatarStore((tmp_path / "avatars").as_uri())
    if request.param == "subtree":
        return AvatarStore("deep/avatars", filesystem=pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()))
    return AvatarStore("bucket/avatars", filesystem=pafs._MockFileSystem())


@pytest.fixture
def local(tmp_path):
    return AvatarStore(str(tmp_path / "avatars"))


def flip_byte(path: Path, at: int = -20) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def test_a_clip_forth_and_back_with_its_faces_comes_back(store):
    """Frames are stored once; masks and face boxes are one a frame."""
    random = np.random.default_rng(3)
    order = np.array([*range(FRAMES), *range(FRAMES - 2, 0, -1)], np.int32)
    masks, faces = random.integers(0, 256, (FRAMES, 20, 30), dtype=np.uint8), random.integers(0, 64, (FRAMES, 4)).astype(np.int32)
    parts = EngineParts("1.5", Box(10, 20, 30, 20), {"latents": random.random((FRAMES, 8, 4, 4)).astype(np.float16)}, masks, faces)
    store.save(make(order=order, engines={"musetalk": parts}))
    avatar = store.load("anna")
    assert avatar.meta.n_frames == 2 * FRAMES - 2
    assert len(avatar.frames) == FRAMES and np.array_equal(avatar.order, order)
    assert np.array_equal(avatar.mask("musetalk"), masks) and np.array_equal(avatar.faces("musetalk"), faces)
    store.save(make(seed=1))
    assert store.load("anna").order is None and store.load("anna").faces("musetalk") is None and store.load("anna").faces("animator") is None


def test_what_is_saved_comes_back(store):
    prepared = make()
    ref = store.save(prepared)
    avatar = store.load("anna")
    assert ref == AvatarRef("anna", prepared.version) == avatar.ref
    assert (avatar.meta.name, avatar.meta.gender, avatar.meta.size, avatar.meta.n_frames, avatar.meta.fps) == ("Anna", "female", SIZE, FRAMES, 25)
    assert avatar.meta.engines == {"animator": "1", "musetalk": "1.5"}
    assert avatar.meta.report == {"warnings": [], "iris_px": 73.5}
    np.testing.assert_array_equal(avatar.frames, prepared.frames)
    np.testing.assert_array_equal(avatar.landmarks, prepared.landmarks)
    for engine, parts in prepared.engines.items():
        assert avatar.box(engine) == parts.box
        assert avatar.arrays(engine).keys() == parts.arrays.keys()
        for name, array in parts.arrays.items():
            np.testing.assert_array_equal(avatar.arrays(engine)[name], array)
            assert avatar.arrays(engine)[name].dtype == array.dtype
    assert avatar.mask("animator") is None
    np.testing.assert_array_equal(avatar.mask("musetalk"), np.full((32, 32), 200, np.uint8))
    assert avatar.portrait_png == prepared.portrait_png
    assert avatar.idle == prepared.idle
    assert store.exists("anna") and store.holds(ref)
    assert json.loads(json.dumps(avatar.meta.to_json()))["version"] == prepared.version


def test_an_avatar_may_have_no_encoded_idle_loop(store):
    store.save(make(idle=None))
    assert store.load("anna").idle is None


def test_arrays_are_read_only(store):
    store.save(make())
    with pytest.raises(ValueError, match="read-only"):
        store.load("anna").frames[0, 0, 0] = 1


def test_list_shows_the_current_versions_built_in_first(store):
    assert store.list() == [] and store.ids() == []
    for number, avatar_id in enumerate(("zoe", "ben")):
        store.save(make(avatar_id, seed=number))
    store.save(make("keeper", seed=9, builtin=True))
    store.save(make("zoe", seed=5, name="Zoe II"))
    assert [(m.id, m.name) for m in store.list()] == [("keeper", "Anna"), ("ben", "Anna"), ("zoe", "Zoe II")]


def test_a_new_version_replaces_the_old_which_stays_readable_once(store):
    first, second, third = (store.save(make(seed=n)) for n in range(3))
    assert store.resolve("anna") == third
    fresh = AvatarStore(store._root, filesystem=store._fs)
    np.testing.assert_array_equal(fresh.load("anna", second.version).frames, make(seed=1).frames)
    with pytest.raises(UnknownAvatarError, match="has no version"):
        fresh.load("anna", first.version)


def test_saving_the_same_version_twice_changes_nothing(store):
    ref = store.save(make())
    created = store.meta("anna")
    assert store.save(make()) == ref
    assert store.meta("anna") == created


def test_delete_removes_every_trace_but_not_what_someone_holds(store):
    store.save(make(seed=0))
    store.save(make(seed=1))
    held = store.load("anna")
    frames = held.frames
    store.delete("anna")
    assert store.ids() == [] and store.list() == [] and not store.exists("anna")
    np.testing.assert_array_equal(frames, make(seed=1).frames)
    for ask in (store.delete, store.load, store.resolve):
        with pytest.raises(UnknownAvatarError, match="no avatar 'anna'"):
            ask("anna")
    with pytest.raises(UnknownAvatarError):
        store.load("anna", held.ref.version)


def test_built_in_avatars_are_not_deleted(store):
    store.save(make(builtin=True))
    with pytest.raises(ConflictError, match="ships with the project"):
        store.delete("anna")
    assert store.exists("anna")


@pytest.mark.parametrize(
    "bad", ["", "..", ".", "../anna", "a/b", "a\\b", "/etc", "Anna", "anna.", "acme.-x", ".anna", "a.b.c", "-x", "é", "a\n", "a" * 65, "a\0", None, 7]
)
def test_only_plain_names_are_ids(local, bad):
    store = local
    store.save(make())
    for ask in (store.load, store.meta, store.delete):
        with pytest.raises(UnknownAvatarError, match="not an avatar id"):
            ask(bad)
    assert not store.exists(bad)
    with pytest.raises(UnknownAvatarError):
        store.save(make(bad))


@pytest.mark.parametrize("bad", ["..", "", "0" * 15, "../0000000000000", "G" * 16])
def test_only_digests_are_versions(local, bad):
    store = local
    store.save(make())
    with pytest.raises(UnknownAvatarError, match="16 hexadecimal digits"):
        store.load("anna", bad)


def test_the_message_for_an_unknown_avatar_lists_the_known(store):
    store.save(make("ben"))
    with pytest.raises(UnknownAvatarError, match="no avatar 'anna'; known: ben"):
        store.load("anna")


def test_a_tenant_hears_of_nothing_but_its_own_and_the_shipped(store):
    for avatar_id in ("ben", "acme.anna", "other.ben", "acme.tmp-1", "interviewer_woman"):
        store.save(make(avatar_id, builtin=avatar_id.startswith("inter")))
    with pytest.raises(UnknownAvatarError, match="no avatar 'ben'; known: anna, interviewer_woman$"):
        store.load("acme.ben")
    with pytest.raises(UnknownAvatarError, match="no avatar 'anna'; known: ben, interviewer_woman$"):
        store.load("anna")
    assert [meta.id for meta in store.list(lambda avatar_id: avatar_id.startswith("acme."))] == ["acme.anna"], "not what is one request's"
    assert store.meta("acme.anna").to_json()["id"] == "anna"
    store.delete("acme.anna")
    assert store.exists("other.ben") and store.exists("ben")


def test_a_tenant_that_has_all_it_may_takes_no_room_from_others(tmp_path):
    store = AvatarStore(str(tmp_path), max_avatars=2)
    for avatar_id in ("acme.one", "acme.two", "other.one", "one", "two"):
        store.save(make(avatar_id))
    for full in ("acme.three", "three"):
        with pytest.raises(ConflictError, match="2 avatars and at most 2"):
            store.save(make(full))
    store.save(make("other.two"))


def test_a_full_store_refuses_new_ids_only(tmp_path):
    store = AvatarStore(str(tmp_path), max_avatars=2)
    store.save(make("one"))
    store.save(make("two"))
    with pytest.raises(ConflictError, match="2 avatars and at most 2"):
        store.save(make("three"))
    store.save(make("two", seed=4))
    store.save(make("shipped", builtin=True))
    store.delete("one")
    store.delete("two")
    store.save(make("three"))
    assert store.ids() == ["shipped", "three"]


def test_an_engine_that_was_not_prepared_is_named(local):
    local.save(make())
    for ask in (local.load("anna").arrays, local.load("anna").box, local.load("anna").mask):
        with pytest.raises(EngineError, match="not prepared for the engine 'wav2lip', only for: animator, musetalk"):
            ask("wav2lip")


def files_of(store, ref):
    return Path(store._local_root) / ref.id / ref.version


OPENERS = {
    "background.arrow": lambda avatar: avatar.frames,
    "portrait.png": lambda avatar: avatar.portrait_png,
    "landmarks.arrow": lambda avatar: avatar.landmarks,
    "engine-animator.arrow": lambda avatar: avatar.arrays("animator"),
    "mask-musetalk.arrow": lambda avatar: avatar.mask("musetalk"),
    "idle.mp4": lambda avatar: avatar.idle,
    "idle.segments.mp4": lambda avatar: avatar.idle,
    "idle.steady.mp4": lambda avatar: avatar.idle,
    "idle.gestures.mp4": lambda avatar: avatar.idle,
}


@pytest.mark.parametrize("name", OPENERS)
@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "missing"])
def test_a_damaged_file_is_named_and_never_used(local, name, damage):
    ref = local.save(make())
    path = files_of(local, ref) / name
    if damage == "flipped":
        flip_byte(path, -1)
    elif damage == "short":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    avatar = local.load("anna")
    with pytest.raises(EngineError, match=rf"{name} is damaged|lost its file {name}"):
        OPENERS[name](avatar)
    assert not local.holds(ref)
    local.save(make())  # writes it again
    assert local.holds(ref)
    OPENERS[name](AvatarStore(local.uri).load("anna"))


@pytest.mark.parametrize("name", ["current.json", "meta.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"versions": [], "meta": {"id": 3}}', b"\xff\xfe"])
def test_damaged_metadata_is_an_error_that_saving_mends(local, name, content):
    ref = local.save(make())
    local.save(make("ben"))
    path = files_of(local, ref) / name if name == "meta.json" else files_of(local, ref).parent / name
    path.write_bytes(content)
    fresh = AvatarStore(local.uri)
    with pytest.raises(EngineError, match=name.replace(".", r"\.")):
        fresh.load("anna", ref.version if name == "meta.json" else None)
    assert "ben" in [meta.id for meta in fresh.list()]
    fresh.save(make())
    assert fresh.holds(ref)


def test_metadata_of_another_avatar_is_refused(local):
    ref, other = local.save(make()), local.save(make("ben", seed=1))
    (files_of(local, ref) / "meta.json").write_bytes((files_of(local, other) / "meta.json").read_bytes())
    with pytest.raises(EngineError, match="describes ben"):
        local.load("anna", ref.version)


def test_another_format_is_said_to_be_one(local):
    ref = local.save(make())
    path = files_of(local, ref) / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(EngineError, match="format 99, this version reads 1"):
        local.load("anna", ref.version)


class FailingFiles(pafs.FileSystemHandler):
    """A local file system whose disk is full once `room` files were written. `moves` counts renames."""

    def __init__(self, room):
        self.inner, self.room, self.written = pafs.LocalFileSystem(), room, 0

    def open_output_stream(self, path, metadata):
        if self.written >= self.room:
            raise OSError(28, "No space left on device")
        self.written += 1
        return self.inner.open_output_stream(path)

    def get_type_name(self):
        return "failing"

    def normalize_path(self, path):
        return path

    def get_file_info(self, paths):
        return self.inner.get_file_info(paths)

    def get_file_info_selector(self, selector):
        return self.inner.get_file_info(selector)

    def create_dir(self, path, recursive):
        self.inner.create_dir(path, recursive=recursive)

    def delete_dir(self, path):
        self.inner.delete_dir(path)

    def delete_dir_contents(self, path, missing_dir_ok):
        self.inner.delete_dir_contents(path, missing_dir_ok=missing_dir_ok)

    def delete_root_dir_contents(self):
        raise NotImplementedError

    def delete_file(self, path):
        self.inner.delete_file(path)

    def move(self, source, destination):
        self.inner.move(source, destination)

    def copy_file(self, source, destination):
        self.inner.copy_file(source, destination)

    def open_input_stream(self, path):
        return self.inner.open_input_stream(path)

    def open_input_file(self, path):
        return self.inner.open_input_file(path)

    def open_append_stream(self, path, metadata):
        return self.inner.open_append_stream(path)


N_FILES = len(OPENERS) + 4  # and idle.init.mp4, engine-musetalk.arrow, meta.json, current.json


@pytest.mark.parametrize("room", range(N_FILES))
def test_a_full_disk_at_any_file_leaves_the_old_version_and_no_rubbish(tmp_path, room):
    root = str(tmp_path / "avatars")
    old = AvatarStore(root).save(make(seed=0))
    failing = AvatarStore(root, filesystem=pafs.PyFileSystem(FailingFiles(room)))
    with pytest.raises(EngineError, match=r"cannot be written \(anna\).*No space left"):
        failing.save(make(seed=1))
    fresh = AvatarStore(root)
    assert fresh.resolve("anna") == old and fresh.holds(old)
    assert not list(tmp_path.rglob(".tmp-*"))
    assert not list(tmp_path.rglob("*.tmp*"))


def test_with_room_for_every_file_it_succeeds(tmp_path):
    store = AvatarStore(str(tmp_path), filesystem=pafs.PyFileSystem(FailingFiles(N_FILES)))
    assert store.holds(store.save(make()))


KILLED = """
import os, sys
import pyarrow.fs as pafs
from tests.musetalk.avatars.test_store import FailingFiles, make
from musetalk.avatars.store import AvatarStore
class Dying(FailingFiles):
    def open_output_stream(self, path, metadata):
        if self.written == self.room:
            os._exit(9)
        return super().open_output_stream(path, metadata)
AvatarStore(sys.argv[1], filesystem=pafs.PyFileSystem(Dying(int(sys.argv[2])))).save(make(seed=1))
"""


@pytest.mark.parametrize("after", [3, N_FILES - 1])
def test_a_writer_killed_in_the_middle_is_not_seen_and_its_rubbish_goes(tmp_path, after):
    root = tmp_path / "avatars"
    old = AvatarStore(str(root)).save(make(seed=0))
    died = subprocess.run([sys.executable, "-c", KILLED, str(root), str(after)], cwd=Path(__file__).parents[3], check=False)
    assert died.returncode == 9
    store = AvatarStore(str(root))
    assert store.resolve("anna") == old and store.holds(old)
    for rubbish in root.glob("anna/.tmp-*"):
        os.utime(rubbish, (1, 1))  # long ago
    new = store.save(make(seed=1))
    assert store.holds(new)
    assert sorted(p.name for p in root.glob("anna/*")) == sorted([old.version, new.version, "current.json"])
    assert not list(root.glob("anna/.tmp-*"))


def test_without_rename_a_version_is_visible_only_at_the_end(tmp_path, monkeypatch):
    """As on S3 and GCS: files are put in place one by one, `current.json` last."""

    class Objects(FailingFiles):
        def get_type_name(self):
            return "objects"

        def move(self, source, target):
            raise AssertionError("object stores have no rename")

        def open_output_stream(self, path, metadata):
            Path(path).parent.mkdir(parents=True, exist_ok=True)  # object stores know no folders
            return super().open_output_stream(path, metadata)

    handler = Objects(N_FILES - 1)
    monkeypatch.setattr("musetalk.avatars.files.OBJECT_STORES", ("py::objects",))
    store = AvatarStore(str(tmp_path), filesystem=pafs.PyFileSystem(handler))
    with pytest.raises(EngineError, match="cannot be written"):
        store.save(make())
    assert not store.exists("anna") and store.list() == []
    handler.room = 100
    ref = store.save(make())
    assert store.holds(ref)
    np.testing.assert_array_equal(store.load("anna").frames, make().frames)
    store.delete("anna")
    assert store.ids() == []


def test_threads_that_ask_at_once_load_once(local, monkeypatch):
    ref = local.save(make())
    store = AvatarStore(local.uri)
    calls = []

    def noted(verb):
        def call(*arguments):
            calls.append(arguments)
            return verb(*arguments)

        return call

    monkeypatch.setattr(store, "_open", noted(store._open))
    monkeypatch.setattr(store, "_open_file", noted(store._open_file))
    gate = threading.Barrier(16)

    def ask(_):
        gate.wait()
        avatar = store.load("anna", ref.version)
        return avatar, avatar.frames

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    assert calls == [(ref,), (ref, "background.arrow", answers[0][0].meta.files["background.arrow"])]
    assert all(avatar is answers[0][0] and frames is answers[0][1] for avatar, frames in answers)


def test_a_failed_load_fails_for_everyone_and_can_be_tried_again(local):
    prepared = make()
    gate = threading.Barrier(8)

    def ask(_):
        gate.wait()
        try:
            return local.load("anna", prepared.version)
        except UnknownAvatarError:
            return None

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [None] * 8
    local.save(prepared)
    assert local.load("anna", prepared.version).ref.id == "anna"


def test_the_cache_is_bounded_by_bytes_and_drops_the_least_recently_used(tmp_path):
    one = make().frames.nbytes
    store = AvatarStore(str(tmp_path), cache_bytes=int(2.5 * one))
    avatars = {}
    for number, name in enumerate(("a", "b", "c")):
        ref = store.save(make(name, seed=number))
        avatars[name] = store.load(name)
        assert avatars[name].frames.nbytes == one
        if name == "b":
            assert store.load("a") is avatars["a"]  # now b is the oldest
        assert store._opened.nbytes <= 2.5 * one
        assert ref.id == name
    assert store.load("a") is avatars["a"] and store.load("c") is avatars["c"]
    assert store.load("b") is not avatars["b"]


def test_an_avatar_larger_than_the_cache_is_kept_while_it_is_the_newest(tmp_path):
    store = AvatarStore(str(tmp_path), cache_bytes=100)
    store.save(make())
    avatar = store.load("anna")
    assert avatar.frames.nbytes > 100
    assert store.load("anna") is avatar
    store.save(make("ben", seed=1))
    assert store.load("ben").frames is not None
    assert store.load("anna") is not avatar


def test_a_cached_version_costs_no_reads(local, monkeypatch):
    ref = local.save(make())
    avatar = local.load("anna")
    _ = avatar.frames
    monkeypatch.setattr(local, "_fs", None)
    assert local.load("anna", ref.version) is avatar
    assert avatar.frames.shape == (FRAMES, SIZE * 3 // 2, SIZE)


def test_local_frames_are_mapped_not_copied(local):
    ref = local.save(make())
    frames = AvatarStore(local.uri).load("anna").frames
    address = frames.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(n, 16) for n in line.split()[0].split("-"))
        if low <= address < high:
            assert line.endswith(str(files_of(local, ref) / "background.arrow"))
            return
    pytest.fail("the frames lie in no mapping")


def test_frames_of_other_file_systems_are_read_to_memory(local):
    ref = local.save(make())
    avatar = AvatarStore(local.uri, filesystem=pafs.PyFileSystem(FailingFiles(0))).load("anna")
    frames = avatar.frames
    (files_of(local, ref) / "background.arrow").write_bytes(b"")  # a mapping would be lost now
    np.testing.assert_array_equal(frames, make().frames)


def test_processes_that_save_the_same_version_at_once_agree(tmp_path):
    code = (
        "import sys\nfrom tests.musetalk.avatars.test_store import make\nfrom musetalk.avatars.store import AvatarStore\n"
        "store = AvatarStore(sys.argv[1])\nsys.stdin.read(1)\nfor n in range(5): assert store.holds(store.save(make(seed=7)))"
    )
    root = str(tmp_path / "avatars")
    writers = [subprocess.Popen([sys.executable, "-c", code, root], stdin=subprocess.PIPE, cwd=Path(__file__).parents[3]) for _ in range(3)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"x")
        writer.stdin.close()
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert AvatarStore(root).holds(AvatarRef("anna", make(seed=7).version))
    assert not list((tmp_path / "avatars").rglob(".tmp-*"))


def test_threads_that_save_load_list_and_delete_never_see_a_half_avatar(tmp_path):
    stores = [AvatarStore(str(tmp_path)) for _ in range(4)]
    stop = threading.Event()
    seen = []

    def read(store):
        while not stop.is_set():
            store.list()
            try:
                meta = store.meta("anna")
            except UnknownAvatarError:
                continue
            seen.append(meta.version)
            assert meta.files and meta.n_frames == FRAMES

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, store) for store in stores[:3]]
        for number in range(20):
            stores[3].save(make(seed=number))
            if number % 4 == 3:
                stores[3].delete("anna")
        stop.set()
        for reader in readers:
            reader.result()
    assert seen


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    store = AvatarStore(str(tmp_path / "file"))
    with pytest.raises(EngineError, match="cannot be read.*Not a directory"):
        store.save(make())


@pytest.mark.parametrize("uri", ["foo://bucket/x", "http://host/x", "s3://"])
def test_a_uri_of_no_file_system_is_a_configuration_error(uri):
    with pytest.raises(ConfigError, match="names no (file system|folder)"):
        AvatarStore(uri)


def test_the_default_place_is_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSESERVE_HOME", str(tmp_path))
    ref = AvatarStore().save(make())
    assert (tmp_path / "avatars" / "anna" / ref.version / "background.arrow").is_file()


def test_versions_depend_on_every_part():
    parts = ("a", 1, "b")
    digests = {content_version(*parts), content_version("a", 1), content_version("a1", "b"), content_version("a", 1, "c")}
    assert len(digests) == 4 and all(len(digest) == 16 for digest in digests)
    assert content_version(*parts) == content_version(*parts)


ARRAYS: dict[str, np.ndarray] = {
    "floats": np.arange(12, dtype=np.float32).reshape(3, 4),
    "empty": np.zeros((0, 3), np.int64),
    "scalar": np.array(3.5),
    "bools": np.array([[True, False]]),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">i4"),
    "half": np.arange(5, dtype=np.float16),
}


def test_arrays_keep_shape_type_and_values():
    back = arrow_file.from_buffer(arrow_file.to_bytes(ARRAYS))
    assert list(back) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].shape == array.shape and back[name].dtype == array.dtype.newbyteorder("<") and back[name].flags.aligned


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([object()]), np.array([1j])])
def test_only_plain_numbers_are_stored(array):
    with pytest.raises(TypeError, match="plain numbers"):
        arrow_file.to_bytes({"x": array})


def test_a_shape_that_does_not_fit_its_bytes_is_refused():
    schema = pa.schema([pa.field("x", pa.large_binary(), metadata={"dtype": "<f4", "shape": "1000,1000"})], metadata={"format": arrow_file.FORMAT})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([pa.array([b"1234"], pa.large_binary())], schema=schema))
    with pytest.raises(ValueError, match="needs 4000000"):
        arrow_file.from_buffer(sink.getvalue())


def test_engines_may_be_added_to_a_saved_avatar(local):
    prepared = make(engines={"animator": make().engines["animator"]})
    local.save(prepared)
    both = replace(prepared, engines=make().engines, version=content_version("both"))
    local.save(both)
    assert set(local.load("anna").meta.engines) == {"animator", "musetalk"}
