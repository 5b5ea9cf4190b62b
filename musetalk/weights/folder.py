"""The folder of published model files: what is there, what is missing or damaged, and a local path for whoever loads one.

    WeightsFolder(config.weights).path("musetalkV15/unet.pth") -> Path

A remote folder (s3://, gs://) is read once: each file is copied into the cache folder when it is first asked for, and appears there whole or not
at all.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from configs.models import WeightsConfig, cache_dir
from museserve.errors import WeightsError
from museserve.runtime import storage
from musetalk.weights.catalogue import BY_NAME, Copy, WeightFile, files_for, name_of
from musetalk.weights.transfer import PART, Progress, disk_error, locked

BLOCK = 4 * 2**20
RECORDED = ".sha256"  # ends the name of the sum that was taken when a file came, for files without a published one


class FileState(Enum):
    MISSING = "missing"
    PARTIAL = "wrong size"  # another size than the published one
    DAMAGED = "damaged"  # the right size, another SHA-256
    PRESENT = "present"  # the right size, or none is known
    VERIFIED = "verified"  # the published SHA-256
    UNCHANGED = "as downloaded"  # none is published, and it is the one that was recorded when the file came


@dataclass(frozen=True)
class Found:
    """A published file and what lies in the folder for it. name: the local name it was found under; bytes: its size there."""

    file: WeightFile
    state: FileState
    name: str
    bytes: int = 0
    expected_bytes: int | None = None


class WeightsFolder:
    """Thread-safe; several processes may use one folder at once.

    Args:
        config: `uri` is a local folder or a `pyarrow.fs` URI; a plain string is taken as the `uri`.
        filesystem: a `pyarrow.fs.FileSystem` to use instead of the one `uri` names; `uri` is then a path in it.
    Raises:
        ConfigError: the URI names no file system.
    """

    def __init__(self, config: WeightsConfig | str = "", *, filesystem: Any = None) -> None:
        self.config = WeightsConfig(uri=config) if isinstance(config, str) else config
        uri = self.config.uri
        home = cache_dir() / "models"
        self._fs, self._root = (filesystem, uri.rstrip("/")) if filesystem is not None else storage.resolve(uri, home, "weights.uri")
        self.local = storage.local_path(self._fs, self._root)
        self.uri = uri or self._root
        mark = hashlib.sha256(self.uri.encode()).hexdigest()[:16]
        self._copies = (self.config.copies or cache_dir() / "weights-copies") / mark

    def path(self, name: str) -> Path:
        """Where this published file lies on this machine, under its own or another accepted name; a remote one is copied first.

        Raises:
            WeightsError: it is missing or has not the published size; a copy has another SHA-256; the disk is full or read-only.
        """
        found = self.look(_known(name))
        if found.state is FileState.MISSING:
            raise WeightsError(f"{name} is not in {self.uri}. {_wanted(found.file)}. {self._mend(name)}")
        if found.state is FileState.PARTIAL:
            raise WeightsError(
                f"{self._place(found.name)} has {found.bytes:,} bytes where {found.expected_bytes:,} are expected: "
                f"a download was broken off, or it is another file. {self._mend(name)}"
            )
        return self.local / found.name if self.local is not None else self._copied(found)

    def look(self, file: WeightFile) -> Found:
        """Whether the file is there, by its size alone. Its own name comes before the other accepted ones; a whole file before a partial one."""
        best = Found(file, FileState.MISSING, file.name, 0, file.bytes)
        for accepted in _names(file):
            info = self._info(accepted.name)
            if info is None:
                continue
            if accepted.bytes is None or info == accepted.bytes or self.config.unpublished:
                return Found(file, FileState.PRESENT, accepted.name, info, accepted.bytes)
            if best.state is FileState.MISSING:
                best = Found(file, FileState.PARTIAL, accepted.name, info, accepted.bytes)
        return best

    def missing(self, purpose: str = "v15") -> list[Found]:
        """What `purpose` ("v15", "v1", "restore", "taesd", "all") needs and is not there in its full size. Files marked optional are never missed."""
        return [found for file in files_for(purpose) if not file.optional and (found := self.look(file)).state is not FileState.PRESENT]

    def verify(self, file: WeightFile, on_progress: Progress = lambda received, total: None) -> Found:
        """The file's state by its size and, where one is known, its SHA-256."""
        found = self.look(file)
        if found.state is not FileState.PRESENT:
            return found
        published, recorded = _published_sum(found), self._recorded_sum(found.name)
        expected = published or recorded
        if expected is None:
            return found
        same = self._sha256(found, on_progress) == expected
        state = FileState.DAMAGED if not same else FileState.VERIFIED if published else FileState.UNCHANGED
        return Found(file, state, found.name, found.bytes, found.expected_bytes)

    def _copied(self, found: Found) -> Path:
        """The local copy of a remote file; made now unless a whole one is there. Whoever else wants the same one meanwhile waits for it."""
        target = self._copies / found.name

        def is_there() -> bool:
            return target.is_file() and target.stat().st_size == found.bytes

        if is_there():
            return target
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with locked(target):
                if not is_there():
                    self._copy(found, target)
        except OSError as error:
            raise WeightsError(f"{self._place(found.name)}: {disk_error(target, error)}, or set weights.copies") from None
        return target

    def _copy(self, found: Found, target: Path) -> None:
        """Raises OSError, WeightsError; what has come is then deleted, since it is read again from the start anyway."""
        expected = None if self.config.unpublished else _published_sum(found) or self._recorded_sum(found.name)
        free = shutil.disk_usage(target.parent).free
        if free < found.bytes:
            room = f"{target.parent} has {free:,} free: make room, or set weights.copies"
            raise WeightsError(f"{found.name} takes {found.bytes:,} bytes and {room}")
        part = target.with_name(target.name + PART)
        digest, size = hashlib.sha256(), 0
        try:
            with part.open("wb") as file:
                for block in self._blocks(found.name):
                    digest.update(block)
                    file.write(block)
                    size += len(block)
            if size != found.bytes:
                raise WeightsError(f"{self._place(found.name)}: {size:,} bytes came of {found.bytes:,}. Try again, or {self._mend(found.file.name)}")
            if expected is not None and digest.hexdigest() != expected:
                raise WeightsError(
                    f"{self._place(found.name)} is damaged: SHA-256 {digest.hexdigest()} where {expected} is expected. {self._mend(found.file.name)}"
                )
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)

    def _info(self, name: str) -> int | None:
        """Bytes of a file in the folder, None when it is not there. Raises WeightsError when the folder cannot be read."""
        try:
            info = self._fs.get_file_info(f"{self._root}/{name}")
        except OSError as error:
            raise WeightsError(f"{self.uri} cannot be read: {error}") from None
        return int(info.size) if info.type == pafs.FileType.File else None

    def _recorded_sum(self, name: str) -> str | None:
        """What `museserve weights download` wrote beside the file. Raises WeightsError when that is no such record."""
        if self._info(name + RECORDED) is None:
            return None
        with self._fs.open_input_stream(f"{self._root}/{name}{RECORDED}") as source:
            found = re.match(rb"[0-9a-f]{64}\b", source.read(64))
        if found is None:
            raise WeightsError(f"{self._place(name + RECORDED)} holds no SHA-256: delete it, or {self._mend(name)}")
        return found[0].decode()

    def _sha256(self, found: Found, on_progress: Progress) -> str:
        digest, size = hashlib.sha256(), 0
        for block in self._blocks(found.name):
            digest.update(block)
            size += len(block)
            on_progress(size, found.bytes)
        return digest.hexdigest()

    def _blocks(self, name: str) -> Iterator[bytes]:
        try:
            with self._fs.open_input_stream(f"{self._root}/{name}") as source:
                while block := source.read(BLOCK):
                    yield block
        except OSError as error:
            raise WeightsError(f"{self._place(name)} cannot be read: {error}") from None

    def _place(self, name: str) -> str:
        return f"{self.uri.rstrip('/')}/{name}"

    def _mend(self, name: str) -> str:
        return f"To mend it: {mending(name)}" if self.local is not None else f"To mend it: put the published file into {self.uri}"


def mending(name: str | Path) -> str:
    """The command that brings a file anew, by its published name or by where it lies."""
    published = name_of(name) if isinstance(name, Path) else name
    return f"museserve weights download --again {published}" if published else f"put a whole {name} in its place"


def _known(name: str) -> WeightFile:
    try:
        return BY_NAME[name]
    except KeyError:
        raise WeightsError(f"{name!r} is not a published file; known: {', '.join(BY_NAME)}") from None


def _published_sum(found: Found) -> str | None:
    return next((copy.sha256 for copy in _names(found.file) if copy.name == found.name), None)


def _names(file: WeightFile) -> tuple[Copy, ...]:
    return (Copy(file.name, file.bytes, file.sha256), *file.also)


def _wanted(file: WeightFile) -> str:
    size = f"{file.bytes:,} bytes, " if file.bytes else ""
    others = f"; {', '.join(copy.name for copy in file.also)} would do as well" if file.also else ""
    return f"It is the {file.about} ({size}from {file.place}{others})"
