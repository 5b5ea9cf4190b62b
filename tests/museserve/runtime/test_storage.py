"""URIs, and stores that do not answer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from museserve.errors import ConfigError
from museserve.runtime import storage


def test_a_google_bucket_that_is_down_is_an_error_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem, path = storage.resolve("gs://anonymous@bucket/x?scheme=http&endpoint_override=127.0.0.1:1", Path(), "avatars.uri")
    began = time.monotonic()
    with pytest.raises(OSError):
        filesystem.get_file_info(path)
    assert time.monotonic() - began < 20


def test_a_google_uri_may_name_its_own_time() -> None:
    filesystem, _ = storage.resolve("gs://anonymous@bucket/x?scheme=http&endpoint_override=127.0.0.1:1&retry_limit_seconds=1", Path(), "x")
    began = time.monotonic()
    with pytest.raises(OSError):
        filesystem.get_file_info("bucket/x")
    assert time.monotonic() - began < 10


def test_a_folder_needs_no_bucket(tmp_path: Path) -> None:
    storage.check(*storage.resolve(str(tmp_path / "new"), Path(), "avatars.uri"), "avatars.uri")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("uri", ["gs://", "s3://?region=x", "nowhere://x"])
def test_what_names_nothing_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="cache.uri"):
        storage.resolve(uri, Path(), "cache.uri")
