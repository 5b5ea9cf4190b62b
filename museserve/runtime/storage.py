"""Folders that may lie on this machine or in an object store, by `pyarrow.fs` URI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from museserve.errors import ConfigError


def resolve(uri: str, default: Path, key: str) -> tuple[Any, str]:
    """The file system and the path in it that `uri` names; an empty one is the local folder `default`.

    Raises:
        ConfigError: it names none; the message calls it by its configuration `key`.
    """
    if "://" not in uri:
        return pafs.LocalFileSystem(), str((Path(uri).expanduser() if uri else default).resolve())
    try:
        filesystem, path = pafs.FileSystem.from_uri(uri)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise ConfigError(f"{key} {uri!r} names no file system: {error}. Accepted: a folder, file://, s3:// or gs://") from None
    if not path.strip("/"):
        raise ConfigError(f"{key} {uri!r} names no folder or bucket")
    return filesystem, path.rstrip("/")


def local_path(filesystem: Any, path: str) -> Path | None:
    """Where the files lie on this machine, or None when they do not."""
    while isinstance(filesystem, pafs.SubTreeFileSystem):
        filesystem, path = filesystem.base_fs, filesystem.base_path.rstrip("/") + "/" + path
    return Path(path) if isinstance(filesystem, pafs.LocalFileSystem) else None
