from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from museserve.errors import ConfigError
from museserve.runtime.blob_store import BlobStore, blob_key


def store(folder: Path, max_bytes: int = 10_000, memory_bytes: int = 0) -> BlobStore:
    return BlobStore(str(folder), max_bytes, memory_bytes)


def age(folder: Path, key: str, seconds: float) -> None:
    for path in (folder / key[:2]).glob(f"{key}*"):
        os.utime(path, (time.time() - seconds,) * 2)


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
    path = tmp_path / key[:2] / key
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert store(tmp_path).get(key) is None and not path.exists()


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
