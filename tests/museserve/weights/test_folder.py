"""Finding model files in a folder here or in an object store, and copying those of a store once, whole and checked."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest

from configs.models import AppConfig, WeightsConfig
from museserve.errors import WeightsError
from museserve.weights import catalogue as published
from museserve.weights.folder import FileState, WeightsFolder
from museserve.weights.transfer import PART
from musetalk.weights.report import weights_report
from tests.object_store import ObjectStore, silent_port

CONTENT = bytes(range(256)) * 5_000
NAME = "GFPGANv1.4.pth"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> published.WeightFile:
    """A published file with the size and the sum of CONTENT."""
    file = replace(published.BY_NAME[NAME], bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest(), variants=())
    monkeypatch.setitem(published.BY_NAME, NAME, file)
    return file


class Store:
    """An object store in memory, with a bucket that has one file."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.filesystem, _ = pafs.FileSystem.from_uri("mock:///")
        self.filesystem.create_dir("bucket/models", recursive=True)
        self.put(NAME, content)

    def put(self, name: str, content: bytes) -> None:
        with self.filesystem.open_output_stream(f"bucket/models/{name}") as out:
            out.write(content)

    def folder(self, copies: Path) -> WeightsFolder:
        return WeightsFolder(WeightsConfig(uri="bucket/models", copies=copies), filesystem=self.filesystem)


def left(copies: Path) -> list[str]:
    return sorted(path.name for path in copies.rglob("*") if path.is_file())


def test_a_file_of_a_store_is_copied_once(small: Any, tmp_path: Path) -> None:
    store = Store()
    path = store.folder(tmp_path).path(NAME)
    assert path.read_bytes() == CONTENT and left(tmp_path) == [NAME]
    stamp = path.stat().st_mtime_ns
    store.put(NAME, CONTENT[::-1])
    again = store.folder(tmp_path).path(NAME)
    assert again == path and again.stat().st_mtime_ns == stamp


def test_a_damaged_file_of_a_store_is_not_taken(small: Any, tmp_path: Path) -> None:
    folder = Store(CONTENT[::-1]).folder(tmp_path)
    with pytest.raises(WeightsError, match="bucket/models/GFPGANv1.4.pth is damaged: SHA-256.*put the published file into bucket/models"):
        folder.path(NAME)
    assert left(tmp_path) == [] and folder.verify(small).state is FileState.DAMAGED


def test_a_recorded_sum_counts_where_none_is_published(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(published.BY_NAME, NAME, replace(small, sha256=None))
    store = Store()
    store.put(f"{NAME}.sha256", f"{hashlib.sha256(b'other').hexdigest()}  {NAME}\n".encode())
    with pytest.raises(WeightsError, match="is damaged"):
        store.folder(tmp_path).path(NAME)
    store.put(f"{NAME}.sha256", b"nonsense")
    with pytest.raises(WeightsError, match="holds no SHA-256"):
        store.folder(tmp_path).path(NAME)


def test_a_short_or_missing_file_of_a_store_is_named(small: Any, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="1,000 bytes where 1,280,000 are expected"):
        Store(CONTENT[:1_000]).folder(tmp_path).path(NAME)
    with pytest.raises(WeightsError, match="taesd/.* is not in bucket/models"):
        Store().folder(tmp_path).path("taesd/diffusion_pytorch_model.safetensors")
    assert left(tmp_path) == []


def test_what_an_interrupted_copy_left_is_never_used(small: Any, tmp_path: Path) -> None:
    store = Store()
    target = store.folder(tmp_path).path(NAME)
    target.rename(target.with_name(NAME + PART))
    target.with_name(NAME + PART).write_bytes(b"x" * len(CONTENT) * 2)
    assert store.folder(tmp_path).path(NAME).read_bytes() == CONTENT and left(tmp_path) == [NAME]


def test_replicas_that_start_together_all_get_the_file(small: Any, tmp_path: Path) -> None:
    store, found = Store(), []
    threads = [threading.Thread(target=lambda: found.append(store.folder(tmp_path).path(NAME).read_bytes())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 4 and left(tmp_path) == [NAME]


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="there is no folder here that even root cannot write to")
def test_a_read_only_cache_says_what_to_set(small: Any) -> None:
    with pytest.raises(WeightsError, match="cannot be written.*weights.copies"):
        Store().folder(Path("/sys/kernel/copies")).path(NAME)


def test_a_local_folder_is_read_in_place(small: Any, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    folder = WeightsFolder(f"file://{tmp_path}")
    assert folder.path(NAME) == tmp_path / NAME and folder.verify(small).state is FileState.VERIFIED
    (tmp_path / NAME).write_bytes(CONTENT[:10])
    assert folder.status(small).state is FileState.PARTIAL
    with pytest.raises(WeightsError, match=f"10 bytes where 1,280,000 are expected.*museserve weights download --again {NAME}"):
        folder.path(NAME)
    assert WeightsFolder(WeightsConfig(uri=str(tmp_path), unpublished=True)).path(NAME) == tmp_path / NAME


def test_what_is_missing_is_named_with_the_command(tmp_path: Path) -> None:
    assert "musetalkV15/unet.pth" in [found.file.name for found in WeightsFolder(str(tmp_path)).missing("v15")]
    with pytest.raises(WeightsError, match="unet.pth is not in .*museserve weights download --again musetalkV15/unet.pth"):
        WeightsFolder(str(tmp_path)).path("musetalkV15/unet.pth")
    with pytest.raises(WeightsError, match="'x' is not a published file"):
        WeightsFolder(str(tmp_path)).path("x")


def test_a_file_of_a_bucket_is_copied_once(small: Any, tmp_path: Path, s3: ObjectStore, bucket: str) -> None:
    with s3.filesystem().open_output_stream(f"{bucket}/models/{NAME}") as out:
        out.write(CONTENT)
    for _ in range(2):
        folder = WeightsFolder(WeightsConfig(uri=s3.uri(f"{bucket}/models"), copies=tmp_path))
        assert folder.path(NAME).read_bytes() == CONTENT
    assert sum(request.startswith("GET") for request in s3.requests(f"{bucket}/models/{NAME}")) == 1


def test_a_bucket_that_does_not_answer_is_an_error_within_seconds(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    listener, port = silent_port()
    with listener:
        monkeypatch.setattr(s3, "port", port)
        began = time.monotonic()
        with pytest.raises(WeightsError, match="cannot be read"):
            WeightsFolder(s3.uri("bucket/models")).path(NAME)
        report = weights_report(AppConfig(weights=WeightsConfig(uri=s3.uri("bucket/models"))))
        assert set(report.values()) == {"cannot be read just now; the log says why"}, "the service starts all the same"
        assert time.monotonic() - began < 20
