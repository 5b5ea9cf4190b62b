"""Files of a remote avatar store on this machine's disk: fetched once, checked, memory mapped, and shared by its processes.

    <folder>/<id>/current.json          as it was last seen in the store
    <folder>/<id>/<version>/            the files of a version that were asked for; its time is the last time one was

A file appears under its name only when it is whole and has its digest. Above the bound, versions that were used longest ago go;
whoever has one mapped keeps it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import FileLock, Timeout

from museserve.messages import AvatarRef
from museserve.runtime.storage import keep_private, locked
from musetalk.avatars.format import StoredFile, check_content, content_fault

logger = logging.getLogger(__name__)

TEMPORARY = ".tmp-"


class LocalCopies:
    """Thread-safe; processes share one folder. What the disk refuses is an OSError.

    Args:
        max_bytes: of all files together. The version that is being fetched may pass it alone.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        keep_private(folder.parent, own=False)

    def open(self, ref: AvatarRef, name: str, expected: StoredFile, blocks: Callable[[], Iterable[bytes]]) -> Any:
        """A file as a mapped, checked `pyarrow.Buffer`. blocks: what the store has of it, for when there is no whole copy.

        Processes that want the same version at once wait for the first.

        Raises:
            EngineError: the store's file is damaged, or as `blocks` raises.
        """
        path = self._folder / ref.id / ref.version / name
        buffer = _whole(path, expected)
        if buffer is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with locked(path.parent):
                buffer = _whole(path, expected)
                if buffer is None:
                    self._fetch(ref, path, expected, blocks())
                    buffer = mapped(path)
        self.touch(ref)
        return buffer

    def touch(self, ref: AvatarRef) -> None:
        """This version is in use."""
        with suppress(OSError):  # not there, or not ours to change
            os.utime(self._folder / ref.id / ref.version)

    def read(self, *names: str) -> bytes | None:
        """A small file, such as (id, "current.json"); None when there is none."""
        with suppress(FileNotFoundError, NotADirectoryError):
            return self._folder.joinpath(*names).read_bytes()
        return None

    def write(self, content: bytes, *names: str) -> None:
        path = self._folder.joinpath(*names)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def drop(self, avatar_id: str) -> None:
        """Forget an avatar with all its versions."""
        _remove(self._folder / avatar_id)

    def keep_only(self, ids: Collection[str]) -> None:
        """Forget what is no longer in the store."""
        with suppress(OSError):
            for folder in _folders(self._folder):
                if folder.name not in ids:
                    _remove(folder)

    def _fetch(self, ref: AvatarRef, path: Path, expected: StoredFile, blocks: Iterable[bytes]) -> None:
        self._make_room(path.parent, expected.bytes)
        for left in path.parent.glob(f"{TEMPORARY}*"):
            left.unlink(missing_ok=True)  # by a process that died: this one holds the lock
        temporary, digest, size = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}"), hashlib.sha256(), 0
        try:
            with temporary.open("wb") as file:
                for block in blocks:
                    digest.update(block)
                    file.write(block)
                    size += len(block)
            check_content(ref, path.name, size, digest.hexdigest(), expected)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _make_room(self, wanted: Path, size: int) -> None:
        for left in (*self._folder.glob(f"{TEMPORARY}*"), *self._folder.glob(f"*/{TEMPORARY}*/")):
            shutil.rmtree(left, ignore_errors=True)  # by a process that died, or another removes it just now
        versions = []
        for folder in (version for avatar in _folders(self._folder) for version in _folders(avatar)):
            with suppress(FileNotFoundError):
                versions.append((folder.stat().st_mtime, sum(file.stat().st_size for file in folder.iterdir()), folder))
        total = size + sum(held for _, held, _ in versions)
        for _, held, folder in sorted(versions):
            if total <= self._max_bytes:
                return
            if folder != wanted and self._evict(folder):
                total -= held

    def _evict(self, version: Path) -> bool:
        """False when another process is just fetching it."""
        lock = FileLock(version.with_name(f"{version.name}.lock"))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        try:
            _remove(version)
            if not any(_folders(version.parent)):
                (version.parent / "current.json").unlink(missing_ok=True)
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()
        with suppress(OSError):
            version.parent.rmdir()  # unless something else is in it
        return True


def mapped(path: Path) -> Any:
    """A local file as a `pyarrow.Buffer`. Raises OSError."""
    if path.stat().st_size == 0:
        return pa.py_buffer(b"")  # an empty file cannot be mapped
    with pa.memory_map(str(path)) as file:
        return file.read_buffer()


def _whole(path: Path, expected: StoredFile) -> Any:
    """The mapped copy, None when there is none or it is damaged."""
    try:
        buffer = mapped(path)
    except FileNotFoundError:
        return None
    if fault := content_fault(buffer.size, hashlib.sha256(buffer).hexdigest(), expected):
        logger.warning("a local copy is damaged and fetched anew: %s: %s", path, fault)
        return None
    return buffer


def _folders(path: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        yield from (entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(TEMPORARY))


def _remove(folder: Path) -> None:
    """At once for everybody, whoever reads in it."""
    gone = folder.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    with suppress(OSError):  # not there, or not ours to change: it is a copy
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
