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
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from configs.models import WeightsConfig, cache_dir
from museserve.errors import WeightsError
from museserve.runtime import storage
from museserve.runtime.storage import locked
from museserve.weights.catalogue import BY_NAME, Variant, WeightFile, files_for, published_name
from museserve.weights.transfer import PART, Progress, disk_error

BLOCK = 4 * 2**20
RECORDED = ".sha256"  # ends the name of the sum that was taken when a file came, for files without a published one


class FileState(Enum):
    MISSING = "missing"
    PARTIAL = "wrong size"  # another size than the published one
    DAMAGED = "damaged"  # the right size, another SHA-256
    PRESENT = "present"  # the right size, or none is known
    VERIFIED = "verified"  # the published SHA-256
    UNCHANGED = "as downloaded"  # none is published, and it is the one that was recorded when the file came
    OWN = "your own"  # another one, where files of the user's own are configured


@dataclass(frozen=True)
class FileStatus:
    """A published file and what lies in the folder for it. variant: which accepted one; bytes: its size there."""

    file: WeightFile
    state: FileState
    variant: Variant
    bytes: int = 0

    @property
    def name(self) -> str:
        """Path below the folder."""
        return self.variant.name


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
        digest = hashlib.sha256(self.uri.encode()).hexdigest()[:16]
        self._copies = (self.config.copies or cache_dir() / "weights-copies") / digest

    def path(self, name: str) -> Path:
        """Where this published file lies on this machine, under its own or another accepted name; a remote one is copied first.

        Raises:
            WeightsError: it is missing or has not the published size; a copy has another SHA-256; the disk is full or read-only.
        """
        status = self.status(_published(name))
        if status.state is FileState.MISSING:
            raise WeightsError(f"{name} is not in {self.uri}. {_description(status.file)}. {self.repair_hint(name)}")
        if status.state is FileState.PARTIAL:
            sizes = f"has {status.bytes:,} bytes where {status.variant.bytes:,} are expected"
            why = f"a download was broken off, or it is another file. {self.repair_hint(name)}"
            raise WeightsError(f"{self._location(status.name)} {sizes}: {why}")
        return self.local / status.name if self.local is not None else self._copied(status)

    def status(self, file: WeightFile) -> FileStatus:
        """Whether the file is there, by its size alone: a whole one rather than a partial one, by its own name first."""
        best = FileStatus(file, FileState.MISSING, file.accepted[0])
        for variant in file.accepted:
            size = self._size(variant.name)
            if size is None:
                continue
            if variant.bytes in (None, size) or self.config.unpublished:
                return FileStatus(file, FileState.PRESENT, variant, size)
            if best.state is FileState.MISSING:
                best = FileStatus(file, FileState.PARTIAL, variant, size)
        return best

    def holds(self, name: str) -> bool:
        """Whether something lies there for a published file; of one that is cut short `path` tells."""
        return self.status(_published(name)).state is not FileState.MISSING

    def missing(self, purpose: str = "v15") -> list[FileStatus]:
        """What `purpose` (of `PURPOSES`, or "all") needs and is not there in full size; optional files are never missed."""
        statuses = (self.status(file) for file in files_for(purpose) if not file.optional)
        return [status for status in statuses if status.state is not FileState.PRESENT]

    def verify(self, file: WeightFile, on_progress: Progress = lambda received, total: None) -> FileStatus:
        """The file's state by its size and, where one is known, its SHA-256.

        What is neither published nor recorded is damaged, unless files of the user's own are configured: then it is one of these.
        """
        status = self.status(file)
        if status.state is not FileState.PRESENT:
            return status
        published = status.variant.sha256
        expected = published or self._recorded_sum(status.name)
        if expected is None:
            return status
        if status.variant.bytes not in (None, status.bytes):
            return replace(status, state=FileState.OWN)  # accepted by its configuration alone, and never of the published sum
        if self._sha256(status, on_progress) == expected:
            return replace(status, state=FileState.VERIFIED if published else FileState.UNCHANGED)
        return replace(status, state=FileState.OWN if self.config.unpublished else FileState.DAMAGED)

    def _copied(self, status: FileStatus) -> Path:
        """The local copy of a remote file, made now unless a whole one is there; others who want it meanwhile wait."""
        target = self._copies / status.name

        def is_there() -> bool:
            return target.is_file() and target.stat().st_size == status.bytes

        if is_there():
            return target
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with locked(target):
                if not is_there():
                    self._copy(status, target)
        except OSError as error:
            trouble = disk_error(target, error)
            raise WeightsError(f"{self._location(status.name)}: {trouble}, or set weights.copies") from None
        return target

    def _copy(self, status: FileStatus, target: Path) -> None:
        """Raises OSError, WeightsError; what has come is then deleted, since it is read again from the start anyway."""
        expected = None if self.config.unpublished else status.variant.sha256 or self._recorded_sum(status.name)
        free = shutil.disk_usage(target.parent).free
        if free < status.bytes:
            room = f"{target.parent} has {free:,} free: make room, or set weights.copies"
            raise WeightsError(f"{status.name} takes {status.bytes:,} bytes and {room}")
        part = target.with_name(target.name + PART)
        location, hint = self._location(status.name), self.repair_hint(status.file.name)
        digest, size = hashlib.sha256(), 0
        try:
            with part.open("wb") as file:
                for block in self._blocks(status.name):
                    digest.update(block)
                    file.write(block)
                    size += len(block)
            if size != status.bytes:
                raise WeightsError(f"{location}: {size:,} bytes came of {status.bytes:,}. Try again. {hint}")
            if expected not in (None, digest.hexdigest()):
                wanted = f"where {expected} is expected"
                raise WeightsError(f"{location} is damaged: SHA-256 {digest.hexdigest()} {wanted}. {hint}")
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)

    def _size(self, name: str) -> int | None:
        """Bytes of a file in the folder, None when it is not there. Raises WeightsError when the folder cannot be read."""
        try:
            info = self._fs.get_file_info(f"{self._root}/{name}")
        except OSError as error:
            raise WeightsError(f"{self.uri} cannot be read: {error}") from None
        return int(info.size) if info.type == pafs.FileType.File else None

    def _recorded_sum(self, name: str) -> str | None:
        """What `museserve weights download` wrote beside the file. Raises WeightsError when that is no such record."""
        if self._size(name + RECORDED) is None:
            return None
        with self._fs.open_input_stream(f"{self._root}/{name}{RECORDED}") as source:
            found = re.match(rb"[0-9a-f]{64}\b", source.read(64))
        if found is None:
            record = self._location(name + RECORDED)
            raise WeightsError(f"{record} holds no SHA-256: delete it. {self.repair_hint(name)}")
        return found[0].decode()

    def _sha256(self, status: FileStatus, on_progress: Progress) -> str:
        digest, size = hashlib.sha256(), 0
        for block in self._blocks(status.name):
            digest.update(block)
            size += len(block)
            on_progress(size, status.bytes)
        return digest.hexdigest()

    def _blocks(self, name: str) -> Iterator[bytes]:
        try:
            with self._fs.open_input_stream(f"{self._root}/{name}") as source:
                while block := source.read(BLOCK):
                    yield block
        except OSError as error:
            raise WeightsError(f"{self._location(name)} cannot be read: {error}") from None

    def _location(self, name: str) -> str:
        return f"{self.uri.rstrip('/')}/{name}"

    def repair_hint(self, name: str) -> str:
        """What mends a published file. One that may be the user's own is never to be overwritten."""
        if self.config.unpublished and self.holds(name):
            return f"To mend it: put a whole file of the same network into {self.uri}"
        return repair_hint(name) if self.local is not None else f"To mend it: put the published file into {self.uri}"


def repair_hint(name: str | Path) -> str:
    """The command that downloads a file anew, by its published name or by its path."""
    published = published_name(name) if isinstance(name, Path) else name
    command = f"museserve weights download --again {published}"
    return f"To mend it: {command if published else f'put a whole {name} in its place'}"


def _published(name: str) -> WeightFile:
    try:
        return BY_NAME[name]
    except KeyError:
        raise WeightsError(f"{name!r} is not a published file; known: {', '.join(BY_NAME)}") from None


def _description(file: WeightFile) -> str:
    size = f"{file.bytes:,} bytes, " if file.bytes else ""
    others = f"; {', '.join(variant.name for variant in file.variants)} would do as well" if file.variants else ""
    return f"It is the {file.description} ({size}from {file.url}{others})"
