from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from museserve.errors import ConfigError
from museserve.runtime import blob_store, storage
from museserve.runtime.blob_store import BlobStore, blob_key
from tests.object_store import ObjectStore, silent_port


def store(folder: Path, max_bytes: int = 10_000, memory_bytes: int = 0) -> BlobStore:
    return BlobStore(str(folder), max_bytes, memory_bytes)


def age(folder: Path, key: str, seconds: float) -> None:
    for path in place(folder, key).parent.glob(f"{place(folder, key).name}*"):
        os.utime(path, (time.time() - seconds,) * 2)


def place(folder: Path, key: str) -> Path:
    return Path(BlobStore(str(folder), 1)._path(key))


def test_what_one_process_keeps_another_finds(tmp_path: Path) -> None:
    key = blob_key("a", 1)
    assert store(tmp_path).get(key) is None
    assert store(tmp_path).put(key, b"film")
    assert store(tmp_path).get(key) == b"film"
    assert BlobStore(f"file://{tmp_path}", 10_000).get(key) == b"film"


def test_what_was_read_longest_ago_goes_first(tmp_path: Path) -> None:
    keys = [blob_key(i) for i in range(5)]
    for i, key in enumerate(keys):
        store(tmp_path, 20_000).put(key, bytes(2_000))
        age(tmp_path, key, 50_000 - i)
    assert store(tmp_path).get(keys[0]) is not None  # read now, so it stays although it is the oldest
    assert store(tmp_path).trim() <= 9_000  # 10,160 bytes were there
    left = [key for key in keys if store(tmp_path).get(key)]
    assert keys[0] in left and keys[1] not in left and len(left) == 4


def test_a_writer_keeps_the_bound(tmp_path: Path) -> None:
    kept = store(tmp_path)
    for i in range(70):
        kept.put(blob_key(i), bytes(500))
    kept.trim()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 10_000
    assert not kept.put(blob_key("big"), bytes(10_001))


def test_a_damaged_blob_is_none_and_is_removed(tmp_path: Path) -> None:
    key = blob_key("x")
    store(tmp_path).put(key, b"film")
    path = place(tmp_path, key)
    for damaged in (path.read_bytes()[:-1] + b"?", b"", b"short", bytes(40)):
        store(tmp_path).put(key, b"film")
        path.write_bytes(damaged)
        assert store(tmp_path).get(key) is None and not path.exists()


def test_nothing_of_a_blob_or_its_key_can_be_read_in_the_store(tmp_path: Path) -> None:
    key, said = blob_key("a text"), b"what somebody said " * 20
    store(tmp_path).put(key, said)
    (file,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert b"somebody" not in file.read_bytes() and key not in str(file)
    other = blob_key("another text")
    place(tmp_path, other).parent.mkdir(exist_ok=True)
    file.rename(place(tmp_path, other))
    assert store(tmp_path).get(other) is None  # by its own key alone


def test_what_is_past_its_end_goes(tmp_path: Path) -> None:
    kept = BlobStore(str(tmp_path), 10_000, 10_000, kept_s=100, long_s=1_000)
    spoken, prepared, again, renewed = keys = [blob_key(i) for i in range(4)]
    for key in keys:
        kept.put(key, b"film", long=key != spoken)
    for key, seconds in zip(keys, (99, 999, 1_001, 1_001), strict=True):
        age(tmp_path, key, seconds)
    kept.lengthen(renewed)
    kept.trim()
    assert [kept.get(key) is not None for key in keys] == [True, True, False, True]
    age(tmp_path, spoken, 101)
    kept.trim()
    assert kept.get(spoken) is None and kept.get(prepared) == b"film"
    assert not list(tmp_path.rglob(f"{place(tmp_path, again).name}*"))


def test_a_watched_store_is_trimmed_although_nobody_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_store, "TRIM_S", 0.05)
    kept = BlobStore(str(tmp_path), 10_000, kept_s=100)
    kept.put(blob_key(1), b"film")
    kept.watch()
    age(tmp_path, blob_key(1), 101)
    until = time.monotonic() + 20
    while kept.get(blob_key(1)) is not None and time.monotonic() < until:
        time.sleep(0.02)
        age(tmp_path, blob_key(1), 101)
    assert kept.get(blob_key(1)) is None


def test_clearing_leaves_nothing_of_ours(tmp_path: Path) -> None:
    (tmp_path / "theirs.txt").write_text("")
    kept, other = store(tmp_path, memory_bytes=10_000), store(tmp_path)
    for n in range(5):
        kept.put(blob_key(n), b"film", long=n == 1)
    assert other.get(blob_key(0)) == b"film"
    kept.clear()
    assert [path.name for path in tmp_path.rglob("*")] == ["theirs.txt"]
    assert kept.get(blob_key(0)) is None and other.get(blob_key(0)) is None
    assert kept.put(blob_key(0), b"film") and other.get(blob_key(0)) == b"film"


def test_a_group_is_cleared_apart(tmp_path: Path) -> None:
    kept, key = store(tmp_path, memory_bytes=10_000), blob_key("x")
    groups = ("", "acme", "beta")
    for group in groups:
        assert kept.get(key, group=group) is None
        kept.put(key, f"of {group}".encode(), group=group)
    kept.clear("acme")
    assert [kept.get(key, group=group) for group in groups] == [b"of ", None, b"of beta"]
    assert [store(tmp_path).get(key, group=group) for group in groups] == [b"of ", None, b"of beta"]
    kept.clear("")
    assert [kept.get(key, group=group) for group in groups] == [None, None, b"of beta"]
    assert not any("beta" in str(path) for path in tmp_path.rglob("*"))
    kept.clear()
    assert kept.get(key, group="beta") is None and not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_new_store_is_private_and_a_users_folder_left_as_it_is(tmp_path: Path) -> None:
    store(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    (tmp_path / "there").mkdir(mode=0o755)
    store(tmp_path / "there")
    assert (tmp_path / "there").stat().st_mode & 0o777 == 0o755
    BlobStore(str(tmp_path / "there"), 1, own=True)
    assert (tmp_path / "there").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_written_is_an_empty_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    broken = store(tmp_path / "file")
    assert not broken.put(blob_key(1), b"film") and broken.get(blob_key(1)) is None


def test_an_uri_of_no_file_system_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="names no file system"):
        BlobStore("nowhere://x", 10_000)


def test_memory_is_bounded_and_serves_what_is_gone_from_the_disk(tmp_path: Path) -> None:
    kept = store(tmp_path, memory_bytes=1_000)
    first, second = blob_key(1), blob_key(2)
    kept.put(first, bytes(600))
    kept.put(second, bytes(600))
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.unlink()
    assert kept.get(first) is None and kept.get(second) == bytes(600)
    kept.trim()  # what is gone from the disk is then gone from memory
    assert kept.get(second) is None


def files(s3: ObjectStore, bucket: str) -> list[str]:
    return sorted(entry.base_name for entry in s3.filesystem().get_file_info(pafs.FileSelector(f"{bucket}/cache", recursive=True)) if entry.is_file)


def test_on_s3_the_same(s3: ObjectStore, bucket: str) -> None:
    """What one process keeps another finds; damage is removed; the bound is kept; several write at once."""

    def opened(memory_bytes: int = 0) -> BlobStore:
        return BlobStore(s3.uri(f"{bucket}/cache"), 10_000, memory_bytes)

    key = blob_key("x")
    assert opened().get(key) is None and opened().put(key, b"film") and opened().get(key) == b"film"
    assert opened(1_000).get(key) == b"film"
    path = opened()._path(key)
    with s3.filesystem().open_output_stream(path) as stream:
        stream.write(bytes(40))
    assert opened().get(key) is None and path.rpartition("/")[2] not in files(s3, bucket)
    with ThreadPoolExecutor(4) as pool:
        stores = [opened() for _ in range(4)]
        assert all(pool.map(lambda n: stores[n % 4].put(blob_key(n % 20), bytes(500)), range(80)))
    assert opened().trim() <= 10_000
    kept = [name for name in files(s3, bucket) if not name.endswith(".used")]
    assert 10 <= len(kept) <= 18 and sum(opened().get(blob_key(n)) == bytes(500) for n in range(20)) == len(kept)
    opened().clear()
    assert files(s3, bucket) == [] and opened().get(blob_key(1)) is None and opened().put(key, b"film")


def test_a_read_on_s3_is_marked(s3: ObjectStore, bucket: str) -> None:
    store, key = BlobStore(s3.uri(f"{bucket}/cache"), 10_000, 0), blob_key("x")
    store.put(key, b"film")
    assert store.get(key) == b"film"
    assert store._readers is not None
    store._readers.shutdown()  # the mark is made beside the answer
    name = store._path(key).rpartition("/")[2]
    assert files(s3, bucket) == [name, f"{name}.used"]


def test_a_missing_bucket_is_told_at_start(s3: ObjectStore) -> None:
    with pytest.raises(ConfigError, match="cache.uri: bucket 'nowhere' is not there"):
        BlobStore(s3.uri("nowhere/cache"), 10_000)


def test_a_store_that_hangs_is_left_alone(s3: ObjectStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first waits a second, the next ones not at all, until it is tried again; one line in the log."""
    listener, s3_port = silent_port()
    with listener:
        monkeypatch.setattr(s3, "port", s3_port)
        monkeypatch.setattr(storage, "check", lambda *_: None)  # it takes its own five seconds
        store = BlobStore(s3.uri("bucket/cache"), 10_000, 0)
        began = time.monotonic()
        assert [store.get(blob_key(n)) for n in range(20)] == [None] * 20
        assert not store.put(blob_key(1), b"film")
        assert time.monotonic() - began < blob_store.PATIENCE_S + 3
    assert [r.message for r in caplog.records] == ["the cache cannot be read: no answer in 1 s"]


def test_a_store_that_is_down_is_tried_again(s3: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_store, "AWAY_S", 0.5)
    store = BlobStore(s3.uri(f"{bucket}/cache"), 10_000, 0)
    assert store.put(blob_key(1), b"film")
    good = store._fs
    monkeypatch.setattr(s3, "port", 1)
    store._fs, _ = storage.resolve(s3.uri("any"), Path(), "cache.uri")
    began = time.monotonic()
    assert not store.put(blob_key(2), b"film") and store.get(blob_key(1)) is None
    assert time.monotonic() - began < 15
    store._fs = good
    time.sleep(0.6)
    assert store.get(blob_key(1)) == b"film"
