"""Where prepared avatars lie: a local folder, S3 or GCS behind one class, and a bounded cache of the open ones.

    <uri>/<id>/current.json                  which version is current, with its metadata; written last
    <uri>/<id>/<version>/meta.json           and the files that it lists
    <uri>/<id>/.tmp-<random>/                a version being written (file systems that can rename)

A version is immutable. It becomes visible in one step, when `current.json` names it, so a half-written avatar is never seen.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import astuple
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
from numpy.typing import NDArray
from pydantic import ValidationError

from configs.models import cache_dir
from museserve.errors import ConflictError, EngineError, UnknownAvatarError
from museserve.messages import AvatarRef
from museserve.runtime import storage
from musetalk.avatars import arrow_file
from musetalk.avatars.format import FORMAT, ID_PATTERN, VERSION_PATTERN, Avatar, AvatarMeta, PreparedAvatar, StoredFile, check_id

CURRENT = "current.json"
META = "meta.json"
TEMPORARY = ".tmp-"
STALE_S = 3600.0  # a temporary folder this old was left by a writer that died
KEPT_VERSIONS = 2  # the current one, and the one before it that live utterances may still show
OBJECT_STORES = ("s3", "gcs", "abfs")  # no folders, no rename; a put is atomic


class AvatarStore:
    """Thread-safe. Several processes may use one store at the same time.

    Args:
        uri: folder, or a `pyarrow.fs` URI (file://, s3://, gs://); "" = the user's cache folder.
        cache_bytes: open avatars are dropped, least recently used first, above this many bytes of opened files. Mapped files count
            in full, although processes share their pages. The avatar in use is always kept.
        max_avatars: `save` of a further id is refused.
        filesystem: a `pyarrow.fs.FileSystem` to use instead of the one `uri` names; `uri` is then a path in it.
    Raises:
        ConfigError: the URI names no file system.
    """

    def __init__(self, uri: str = "", cache_bytes: int = 512 * 2**20, *, max_avatars: int = 200, filesystem: Any = None) -> None:
        self._fs, self._root = (
            (filesystem, uri.rstrip("/")) if filesystem is not None else storage.resolve(uri, cache_dir() / "avatars", "avatars.uri")
        )
        self.uri = uri or self._root
        self._cache_bytes = cache_bytes
        self._max_avatars = max_avatars
        self._local_root = storage.local_path(self._fs, self._root)
        self._renames = _base(self._fs).type_name not in OBJECT_STORES
        self._lock = threading.Lock()
        self._cache: OrderedDict[AvatarRef, Avatar] = OrderedDict()
        self._loading: dict[AvatarRef, Future[Avatar]] = {}

    def load(self, avatar_id: str, version: str | None = None) -> Avatar:
        """An avatar from the cache or the store; without `version` the current one, which is looked up each time.

        With a version a cached avatar costs no I/O. Threads that ask for the same avatar at once load it once.

        Raises:
            UnknownAvatarError: no such avatar, or no such version of it.
            EngineError: its files are damaged or of another format, or the store cannot be read.
        """
        ref = self.resolve(avatar_id) if version is None else AvatarRef(check_id(avatar_id), _check_version(avatar_id, version))
        with self._lock:
            avatar = self._cache.get(ref)
            if avatar is not None:
                self._cache.move_to_end(ref)
                return avatar
            future = self._loading.get(ref)
            mine = future is None
            if future is None:
                future = self._loading[ref] = Future()
        if not mine:
            return future.result()
        try:
            avatar = self._open(ref)
        except BaseException as error:
            with self._lock:
                del self._loading[ref]
            future.set_exception(error)
            raise
        with self._lock:
            self._cache[ref] = avatar
            del self._loading[ref]
        future.set_result(avatar)
        return avatar

    def resolve(self, avatar_id: str) -> AvatarRef:
        """The current version of an avatar. Raises as `load`."""
        return self.meta(avatar_id).ref

    def meta(self, avatar_id: str) -> AvatarMeta:
        """What is known of the current version; one small read. Raises as `load`."""
        check_id(avatar_id)
        with self._access("read", avatar_id):
            current = self._current(avatar_id)
        if current is None:
            raise UnknownAvatarError(f"there is no avatar {avatar_id!r}; known: {', '.join(self.ids()[:20]) or 'none'}")
        return self._parse_meta(current["meta"], f"{avatar_id}/{CURRENT}")

    def exists(self, avatar_id: str) -> bool:
        with suppress(UnknownAvatarError):
            self.meta(avatar_id)
            return True
        return False

    def ids(self) -> list[str]:
        """Sorted names of the avatars' folders; cheap, and may hold one that is just being written or deleted."""
        with self._access("read", "list"):
            entries = self._fs.get_file_info(pafs.FileSelector(self._root, allow_not_found=True))
        names = (entry.base_name for entry in entries if entry.type == pafs.FileType.Directory)
        return sorted(name for name in names if ID_PATTERN.fullmatch(name))

    def list(self) -> list[AvatarMeta]:
        """Every avatar's current version, built-in ones first, then by id. One that cannot be read is left out."""
        names = self.ids()
        if not names:
            return []
        with ThreadPoolExecutor(min(16, len(names))) as pool:
            metas = [meta for meta in pool.map(self._meta_or_none, names) if meta is not None]
        return sorted(metas, key=lambda meta: (not meta.builtin, meta.id))

    def check_room(self, avatar_id: str) -> None:
        """Raises ConflictError when one more avatar does not fit. An id that exists always fits."""
        names = self.ids()
        if avatar_id not in names and len(names) >= self._max_avatars:
            raise ConflictError(f"the store holds {len(names)} avatars and at most {self._max_avatars} are kept: delete one first")

    def save(self, prepared: PreparedAvatar) -> AvatarRef:
        """Write a version and make it current. Writing what is already there changes nothing.

        Raises:
            ConflictError: the store is full.
            EngineError: the store cannot be written; nothing of the version is visible then.
        """
        ref = AvatarRef(check_id(prepared.id), _check_version(prepared.id, prepared.version))
        if not prepared.builtin:
            self.check_room(ref.id)
        with self._access("written", ref.id):
            meta = self._stored_or_none(ref)
            if meta is None or not self._intact(meta):
                meta = self._write_version(prepared)
            self._publish(meta)
            self._remove_stale(ref.id)
        return ref

    def delete(self, avatar_id: str) -> None:
        """Remove an avatar with all its versions. Whoever has it open keeps it.

        Raises:
            UnknownAvatarError: no such avatar.
            ConflictError: it ships with the project.
        """
        if self.meta(avatar_id).builtin:
            raise ConflictError(f"{avatar_id!r} ships with the project and is not deleted")
        with self._access("written", avatar_id):
            self._fs.delete_file(self._path(avatar_id, CURRENT))  # first: from here on nobody finds it
            self._fs.delete_dir(self._path(avatar_id))
        with self._lock:
            for ref in [ref for ref in self._cache if ref.id == avatar_id]:
                del self._cache[ref]

    def holds(self, ref: AvatarRef) -> bool:
        """Whether this version is the current one and all its files hold what was written. Reads them all."""
        meta = self._meta_or_none(ref.id)
        return meta is not None and meta.version == ref.version and self._intact(meta)

    def _open(self, ref: AvatarRef) -> Avatar:
        with self._access("read", ref.id):
            meta = self._stored_meta(ref)
        if meta is None:
            raise UnknownAvatarError(f"avatar {ref.id!r} has no version {ref.version!r}; it was deleted or made again")
        return Avatar(meta, lambda name: self._open_file(ref, name), self._trim)

    def _open_file(self, ref: AvatarRef, name: str) -> Any:
        with self._access("read", f"{ref.id}/{name}"):
            try:
                if self._local_root is not None:
                    path = self._local_root / ref.id / ref.version / name
                    if path.stat().st_size == 0:
                        return pa.py_buffer(b"")  # an empty file cannot be mapped
                    with pa.memory_map(str(path)) as mapped:
                        return mapped.read_buffer()
                with self._fs.open_input_file(self._path(ref.id, ref.version, name)) as file:
                    return file.read_buffer(file.size())
            except FileNotFoundError:
                raise EngineError(f"avatar {ref.id!r} version {ref.version} has lost its file {name}, or was deleted") from None

    def _trim(self, new_bytes: int) -> None:
        if not new_bytes:
            return
        with self._lock:
            sizes = {ref: avatar.nbytes for ref, avatar in self._cache.items()}
            total = sum(sizes.values())
            for ref in list(self._cache)[:-1]:
                if total <= self._cache_bytes:
                    break
                total -= sizes[ref]
                del self._cache[ref]

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
        with suppress(EngineError):
            Avatar(meta, lambda name: self._open_file(meta.ref, name)).verify()
            return True
        return False

    def _publish(self, meta: AvatarMeta) -> None:
        """Name the version in `current.json`, then remove versions that fell off its list."""
        try:
            current = self._current(meta.id) or {"versions": []}
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

    def _current(self, avatar_id: str) -> dict[str, Any] | None:
        raw = self._read_json(self._path(avatar_id, CURRENT))
        if raw is not None and not ("meta" in raw and isinstance(raw.get("versions"), list)):
            raise EngineError(f"{avatar_id}/{CURRENT} in the avatar store is damaged: no versions or no metadata in it")
        return raw

    def _stored_meta(self, ref: AvatarRef) -> AvatarMeta | None:
        raw = self._read_json(self._path(ref.id, ref.version, META))
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

    def _meta_or_none(self, avatar_id: str) -> AvatarMeta | None:
        with suppress(UnknownAvatarError, EngineError):
            return self.meta(avatar_id)
        return None

    def _parse_meta(self, raw: Any, name: str) -> AvatarMeta:
        if isinstance(raw, dict) and raw.get("format", FORMAT) != FORMAT:
            raise EngineError(f"{name} in the avatar store has format {raw['format']}, this version reads {FORMAT}: prepare the avatar again")
        try:
            return AvatarMeta.model_validate(raw)
        except ValidationError as error:
            raise EngineError(f"{name} in the avatar store is damaged: {error.error_count()} fields are wrong or missing") from None

    def _read_json(self, path: str) -> dict[str, Any] | None:
        try:
            with self._fs.open_input_stream(path) as stream:
                raw = json.loads(stream.read())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise EngineError(f"{path} in the avatar store is not JSON: {error}") from None
        if not isinstance(raw, dict):
            raise EngineError(f"{path} in the avatar store is damaged: it holds no JSON object")
        return raw

    def _path(self, *names: str) -> str:
        return "/".join((self._root, *names))

    @contextmanager
    def _access(self, how: str, what: str) -> Iterator[None]:
        """Tell of a store that cannot be "read" or "written"."""
        try:
            yield
        except OSError as error:
            raise EngineError(f"the avatar store {self.uri} cannot be {how} ({what}): {error}") from None


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
        yield "idle.mp4", prepared.idle["mp4"]


def _given(**arrays: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
    return {name: array for name, array in arrays.items() if array is not None}


def _meta_of(prepared: PreparedAvatar, files: dict[str, StoredFile]) -> AvatarMeta:
    """What both classes have under one name is taken over."""
    told = {
        "n_frames": len(prepared.frames if prepared.order is None else prepared.order),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "engines": {engine: parts.version for engine, parts in prepared.engines.items()},
        "boxes": {engine: astuple(parts.box) for engine, parts in prepared.engines.items()},
        "idle_segments": tuple(map(len, prepared.idle["segments"])) if prepared.idle else (),
        "files": files,
    }
    return AvatarMeta.model_validate(vars(prepared) | told)


def _check_version(avatar_id: str, version: str) -> str:
    if not isinstance(version, str) or not VERSION_PATTERN.fullmatch(version):
        raise UnknownAvatarError(f"avatar {avatar_id!r} has no version {str(version)[:80]!r}: a version is 16 hexadecimal digits")
    return version


def _base(filesystem: Any) -> Any:
    while isinstance(filesystem, pafs.SubTreeFileSystem):
        filesystem = filesystem.base_fs
    return filesystem
