"""The files of a store of avatars: how they lie on its file system, how a version is written and becomes current, and how files are read and checked.

    <uri>/<id>/current.json                  which version is current, with its metadata; written last
    <uri>/<id>/<version>/meta.json           and the files that it lists
    <uri>/<id>/.tmp-<random>/                a version being written (file systems that can rename)

A version is immutable. It becomes visible in one step, when `current.json` names it, so a half-written avatar is never seen.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
from numpy.typing import NDArray
from pydantic import ValidationError

from configs.models import cache_dir
from museserve.errors import EngineError, StoreError
from museserve.messages import AvatarRef
from museserve.runtime import storage
from musetalk.avatars import arrow_file
from musetalk.avatars.copies import LocalCopies, mapped
from musetalk.avatars.format import FORMAT, VERSION_PATTERN, Avatar, AvatarMeta, PreparedAvatar, StoredFile, check_content

logger = logging.getLogger(__name__)

CURRENT = "current.json"
META = "meta.json"
TEMPORARY = ".tmp-"
STALE_S = 3600.0  # a temporary folder this old was left by a writer that died
KEPT_VERSIONS = 2  # the current one, and the one before it that live utterances may still show
OBJECT_STORES = storage.OBJECT_STORES
BLOCK = 16 * 2**20  # of one request to a remote store
TELL_S = 60.0  # between two log lines about one trouble


class StoredFiles:
    """What `AvatarStore` stands on. Arguments as there. Thread-safe.

    lost: told of an avatar one of whose files was not there.
    """

    def __init__(self, uri: str, filesystem: Any, copies: Path | None, copies_bytes: int, lost: Callable[[str], object]) -> None:
        self._fs, self._root = (
            (filesystem, uri.rstrip("/")) if filesystem is not None else storage.resolve(uri, cache_dir() / "avatars", "avatars.uri")
        )
        self.uri = uri or self._root
        self._local_root = storage.local_path(self._fs, self._root)
        self._renames = storage.base_of(self._fs).type_name not in OBJECT_STORES
        if self._local_root is not None:
            storage.keep_private(self._local_root, own=not uri)
        self._copies: LocalCopies | None = None
        if self._local_root is None and copies is not None:
            self._copies = LocalCopies(copies / hashlib.sha256(self.uri.encode()).hexdigest()[:16], copies_bytes)
        self._lost = lost
        self._lock = threading.Lock()
        self._told: dict[str, float] = {}

    def check(self) -> None:
        """At start. Raises ConfigError: the bucket is not there."""
        storage.check(self._fs, self._root, "avatars.uri")

    def _open_file(self, ref: AvatarRef, name: str, expected: StoredFile) -> Any:
        """A checked file: mapped from the store or from a copy of it."""
        if self._copies is not None:
            try:
                return self._copies.open(ref, name, expected, lambda: self._blocks(ref, name))
            except OSError as error:
                self._tell("copies", "avatars are read into memory, because avatars.copies cannot be used: %s", error)
        return self._stored_file(ref, name, expected)

    def _stored_file(self, ref: AvatarRef, name: str, expected: StoredFile) -> Any:
        with self._reading(ref, name):
            if self._local_root is not None:
                buffer = mapped(self._local_root / ref.id / ref.version / name)
            else:
                with self._fs.open_input_file(self._path(ref.id, ref.version, name)) as file:
                    buffer = file.read_buffer(file.size())
        check_content(ref, name, buffer.size, hashlib.sha256(buffer).hexdigest(), expected)
        return buffer

    def _blocks(self, ref: AvatarRef, name: str) -> Iterator[bytes]:
        with self._reading(ref, name), self._fs.open_input_stream(self._path(ref.id, ref.version, name)) as file:
            while block := file.read(BLOCK):
                yield block

    @contextmanager
    def _reading(self, ref: AvatarRef, name: str) -> Iterator[None]:
        with self._access("read", f"{ref.id}/{name}"):
            try:
                yield
            except FileNotFoundError:
                self._lost(ref.id)  # it may have been deleted, or made again, elsewhere
                raise EngineError(f"avatar {ref.id!r} version {ref.version} has lost its file {name}, or was deleted") from None

    def _write_version(self, prepared: PreparedAvatar) -> AvatarMeta:
        """All files, then `meta.json`; on file systems that rename, in a folder that gets its name at the end."""
        final = self._path(prepared.id, prepared.version)
        target = self._path(prepared.id, TEMPORARY + uuid.uuid4().hex) if self._renames else final
        try:
            if self._renames:
                self._fs.create_dir(target, recursive=True)
            files = {name: self._write(f"{target}/{name}", content) for name, content in _contents(prepared)}
            meta = _meta_of(prepared, files)
            self._write(f"{target}/{META}", meta.model_dump_json().encode())
            if self._renames:
                self._move_folder(target, final, meta)
        except BaseException:
            if self._renames:
                self._discard(target)
            if self._local_root is not None:
                with suppress(OSError):  # there is another version in it
                    (self._local_root / prepared.id).rmdir()
            raise
        return meta

    def _move_folder(self, target: str, final: str, meta: AvatarMeta) -> None:
        try:
            self._fs.move(target, final)
        except OSError:
            # Another process wrote the same version meanwhile, or an older writer left a damaged one.
            stored = self._stored_or_none(meta.ref)
            if stored is None or not self._intact(stored):
                self._fs.delete_dir(final)
                self._fs.move(target, final)
            else:
                self._discard(target)

    def _intact(self, meta: AvatarMeta) -> bool:
        """Whether all files in the store are what was written. Raises StoreError."""
        try:
            Avatar(meta, lambda name, expected: self._stored_file(meta.ref, name, expected)).verify()
        except StoreError:
            raise
        except EngineError:
            return False
        return True

    def _publish(self, meta: AvatarMeta) -> None:
        """Name the version in `current.json`, then remove versions that fell off its list."""
        try:
            current = self._read_current(meta.id) or {"versions": []}
        except EngineError:
            current = {"versions": []}  # a damaged list is replaced
        older = [v for v in current["versions"] if v != meta.version and isinstance(v, str) and VERSION_PATTERN.fullmatch(v)]
        versions = [meta.version, *older]
        content = json.dumps({"versions": versions[:KEPT_VERSIONS], "meta": meta.model_dump(mode="json")}).encode()
        path = self._path(meta.id, CURRENT)
        if self._renames:
            temporary = self._path(meta.id, f"{TEMPORARY}{uuid.uuid4().hex}.json")
            self._write(temporary, content)
            self._fs.move(temporary, path)
        else:
            self._write(path, content)
        for version in versions[KEPT_VERSIONS:]:
            self._discard(self._path(meta.id, version))

    def _remove_stale(self, avatar_id: str) -> None:
        for entry in self._fs.get_file_info(pafs.FileSelector(self._path(avatar_id))):
            if entry.base_name.startswith(TEMPORARY) and entry.mtime_ns and time.time() - entry.mtime_ns / 1e9 > STALE_S:
                self._discard(entry.path)

    def _discard(self, path: str) -> None:
        """Remove a file or folder if it is there."""
        try:
            if self._fs.get_file_info(path).type == pafs.FileType.File:
                self._fs.delete_file(path)
            else:
                self._fs.delete_dir(path)
        except OSError:
            return  # already gone; a leftover is found again by `_remove_stale`

    def _write(self, path: str, content: Any) -> StoredFile:
        with self._fs.open_output_stream(path) as stream:
            stream.write(content)
        return StoredFile(bytes=memoryview(content).nbytes, sha256=hashlib.sha256(content).hexdigest())

    def _copied_meta(self, *names: str) -> AvatarMeta | None:
        with suppress(OSError, ValueError):
            if self._copies is not None and (raw := self._copies.read(*names)) is not None:
                return AvatarMeta.model_validate_json(raw)
        return None

    def _copy_json(self, meta: AvatarMeta, *names: str) -> None:
        if self._copies is None:
            return
        try:
            self._copies.write(meta.model_dump_json().encode(), *names)
        except OSError as error:
            self._tell("copies", "avatars.copies cannot be used: %s", error)

    def _read_current(self, avatar_id: str) -> dict[str, Any] | None:
        raw = self._read_json(avatar_id, CURRENT)
        if raw is not None and not ("meta" in raw and isinstance(raw.get("versions"), list)):
            raise EngineError(f"{avatar_id}/{CURRENT} in the avatar store is damaged: no versions or no metadata in it")
        return raw

    def _stored_meta(self, ref: AvatarRef) -> AvatarMeta | None:
        raw = self._read_json(ref.id, ref.version, META)
        if raw is None:
            return None
        meta = self._parse_meta(raw, f"{ref.id}/{ref.version}/{META}")
        if meta.ref != ref:
            raise EngineError(f"{ref.id}/{ref.version}/{META} in the avatar store is damaged: it describes {meta.id} {meta.version}")
        return meta

    def _stored_or_none(self, ref: AvatarRef) -> AvatarMeta | None:
        with suppress(EngineError):
            return self._stored_meta(ref)
        return None  # damaged: written again

    def _parse_meta(self, raw: Any, name: str) -> AvatarMeta:
        if isinstance(raw, dict) and raw.get("format", FORMAT) != FORMAT:
            raise EngineError(f"{name} in the avatar store has format {raw['format']}, this version reads {FORMAT}: prepare the avatar again")
        try:
            return AvatarMeta.model_validate(raw)
        except ValidationError as error:
            raise EngineError(f"{name} in the avatar store is damaged: {error.error_count()} fields are wrong or missing") from None

    def _read_json(self, *names: str) -> dict[str, Any] | None:
        name = "/".join(names)
        try:
            with self._fs.open_input_stream(self._path(*names)) as stream:
                raw = json.loads(stream.read())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise EngineError(f"{name} in the avatar store is not JSON: {error}") from None
        if not isinstance(raw, dict):
            raise EngineError(f"{name} in the avatar store is damaged: it holds no JSON object")
        return raw

    def _path(self, *names: str) -> str:
        return "/".join((self._root, *names))

    @contextmanager
    def _access(self, how: str, what: str) -> Iterator[None]:
        """Tell of a store that cannot be "read" or "written". Callers get no address of it: the log has that."""
        try:
            yield
        except OSError as error:
            self._tell(how, "the avatar store %s cannot be %s (%s): %s", self.uri, how, what, error)
            why = os.strerror(error.errno) if error.errno else "the log has the details"
            raise StoreError(f"the avatar store cannot be {how} ({what}): {why}") from None

    def _tell(self, trouble: str, message: str, *arguments: object) -> None:
        """A line in the log, at most once a minute for each trouble."""
        now = time.monotonic()
        with self._lock:
            told = self._told.get(trouble)
            if told is not None and now - told < TELL_S:
                return
            self._told[trouble] = now
        logger.warning(message, *arguments)


def _contents(prepared: PreparedAvatar) -> Iterator[tuple[str, Any]]:
    yield "portrait.png", prepared.portrait_png
    yield "landmarks.arrow", arrow_file.to_bytes(_given(landmarks=prepared.landmarks, track=prepared.track))
    yield "background.arrow", arrow_file.to_bytes(_given(background=prepared.frames, order=prepared.order))
    for engine, parts in prepared.engines.items():
        yield f"engine-{engine}.arrow", arrow_file.to_bytes(parts.arrays)
        if parts.mask is not None:
            yield f"mask-{engine}.arrow", arrow_file.to_bytes(_given(mask=parts.mask, faces=parts.faces))
    if prepared.idle is not None:
        yield "idle.init.mp4", prepared.idle["init"]
        yield "idle.segments.mp4", b"".join(prepared.idle["segments"])
        yield "idle.steady.mp4", b"".join(prepared.idle["steady"])
        if prepared.idle["gestures"]:
            yield "idle.gestures.mp4", b"".join(chain(*(one.segments for made in prepared.idle["gestures"].values() for one in made)))
        yield "idle.mp4", prepared.idle["mp4"]


def _given(**arrays: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
    return {name: array for name, array in arrays.items() if array is not None}


def _meta_of(prepared: PreparedAvatar, files: dict[str, StoredFile]) -> AvatarMeta:
    """What both classes have under one name is taken over."""
    gestures = prepared.idle["gestures"] if prepared.idle else {}
    told = {
        "n_frames": len(prepared.frames if prepared.order is None else prepared.order),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "engines": {engine: parts.version for engine, parts in prepared.engines.items()},
        "boxes": {engine: astuple(parts.box) for engine, parts in prepared.engines.items()},
        "idle_segments": tuple(map(len, prepared.idle["segments"])) if prepared.idle else (),
        "idle_steady": tuple(map(len, prepared.idle["steady"])) if prepared.idle else (),
        "idle_gestures": {state: [(one.first, [*map(len, one.segments)]) for one in made] for state, made in gestures.items()},
        "files": files,
    }
    return AvatarMeta.model_validate(vars(prepared) | told)
