"""Where prepared avatars lie: a local folder, S3 or GCS behind one class, and a bounded cache of the open ones.

    <uri>/<id>/current.json                  which version is current, with its metadata; written last
    <uri>/<id>/<version>/meta.json           and the files that it lists
    <uri>/<id>/.tmp-<random>/                a version being written (file systems that can rename)

A version is immutable. It becomes visible in one step, when `current.json` names it, so a half-written avatar is never seen.

Of a remote store, which version is current is known for some seconds, and files are copied to this machine's disk (`LocalCopies`).
While it does not answer, avatars that are known here go on as they were last seen.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import astuple
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.fs as pafs
from numpy.typing import NDArray
from pydantic import ValidationError

from configs.models import cache_dir
from museserve.errors import ConflictError, EngineError, StoreError, UnknownAvatarError
from museserve.messages import AvatarRef
from museserve.runtime import storage
from musetalk.avatars import arrow_file
from musetalk.avatars.builtin import BUILTIN
from musetalk.avatars.copies import LocalCopies, mapped
from musetalk.avatars.current import CurrentVersions
from musetalk.avatars.format import (
    FORMAT,
    ID_PATTERN,
    ONE_OFF,
    VERSION_PATTERN,
    Avatar,
    AvatarMeta,
    PreparedAvatar,
    StoredFile,
    check_content,
    check_id,
    name_of,
    tenant_of,
)

logger = logging.getLogger(__name__)

CURRENT = "current.json"
META = "meta.json"
TEMPORARY = ".tmp-"
STALE_S = 3600.0  # a temporary folder this old was left by a writer that died
KEPT_VERSIONS = 2  # the current one, and the one before it that live utterances may still show
OBJECT_STORES = storage.OBJECT_STORES
BLOCK = 16 * 2**20  # of one request to a remote store
TOUCH_S = 60.0  # between two marks that a version is in use
TOLD_IDS = 20  # of those that one may have meant
TELL_S = 60.0  # between two log lines about one trouble


class AvatarStore:
    """Thread-safe. Several processes may use one store at the same time.

    Args:
        uri: folder, or a `pyarrow.fs` URI (file://, s3://, gs://); "" = the user's cache folder.
        cache_bytes: open avatars are dropped, least recently used first, above this many bytes of opened files. Mapped files count
            in full, although processes share their pages. The avatar in use is always kept.
        max_avatars: of one tenant; `save` of a further id is refused.
        ttl_s: how long it is taken for known which version is current in a remote store; a folder is looked at each time.
        copies: where files of a remote store are copied to, up to copies_bytes; None = they are read into memory.
        filesystem: a `pyarrow.fs.FileSystem` to use instead of the one `uri` names; `uri` is then a path in it.
    Raises:
        ConfigError: the URI names no file system.
    """

    def __init__(
        self,
        uri: str = "",
        cache_bytes: int = 512 * 2**20,
        *,
        max_avatars: int = 200,
        ttl_s: float = 0.0,
        copies: Path | None = None,
        copies_bytes: int = 2 * 2**30,
        filesystem: Any = None,
    ) -> None:
        self._fs, self._root = (
            (filesystem, uri.rstrip("/")) if filesystem is not None else storage.resolve(uri, cache_dir() / "avatars", "avatars.uri")
        )
        self.uri = uri or self._root
        self._cache_bytes = cache_bytes
        self._max_avatars = max_avatars
        self._local_root = storage.local_path(self._fs, self._root)
        self._renames = storage.base_of(self._fs).type_name not in OBJECT_STORES
        self._copies: LocalCopies | None = None
        if self._local_root is None and copies is not None:
            self._copies = LocalCopies(copies / hashlib.sha256(self.uri.encode()).hexdigest()[:16], copies_bytes)
        self._current = CurrentVersions(0.0 if self._local_root is not None else ttl_s, self._read_current_meta, self._copied_current_meta)
        self._lock = threading.Lock()
        self._cache: OrderedDict[AvatarRef, Avatar] = OrderedDict()
        self._loading: dict[AvatarRef, Future[Avatar]] = {}
        self._told: dict[str, float] = {}
        self._touched: dict[AvatarRef, float] = {}

    def check(self) -> None:
        """At start. Raises ConfigError: the bucket is not there."""
        storage.check(self._fs, self._root, "avatars.uri")

    def load(self, avatar_id: str, version: str | None = None) -> Avatar:
        """An avatar from the cache or the store; without `version` the current one.

        With a version a cached avatar costs no I/O. Threads that ask for the same avatar at once load it once.

        Raises:
            UnknownAvatarError: no such avatar, or no such version of it.
            EngineError: its files are damaged or of another format. StoreError: the store cannot be read.
        """
        if version is not None:
            return self._load(AvatarRef(check_id(avatar_id), _check_version(avatar_id, version)))
        return self._load(self.resolve(avatar_id))

    def resolve(self, avatar_id: str) -> AvatarRef:
        """The current version of an avatar. Raises as `load`."""
        return self.meta(avatar_id).ref

    def meta(self, avatar_id: str) -> AvatarMeta:
        """What is known of the current version; at most one small read. Raises as `load`."""
        meta = self._current.get(check_id(avatar_id))
        if meta is None:
            raise UnknownAvatarError(f"there is no avatar {name_of(avatar_id)!r}; known: {', '.join(self._known(avatar_id)) or 'none'}")
        return meta

    def _known(self, avatar_id: str) -> list[str]:
        """What whoever asks for this id may have meant: nothing of other tenants, and nothing that is one request's."""
        tenant = tenant_of(avatar_id)
        names = [name_of(known) for known in self.ids() if tenant_of(known) == tenant or known in BUILTIN]
        return [name for name in names if not name.startswith(ONE_OFF)][:TOLD_IDS]

    def exists(self, avatar_id: str) -> bool:
        """Looked up anew. Raises EngineError."""
        with suppress(UnknownAvatarError):
            return self._read_current_meta(check_id(avatar_id)) is not None
        return False

    def ids(self) -> list[str]:
        """Sorted names of the avatars that have a current version. Raises StoreError."""
        with self._access("read", "list"):
            # A store without folders is listed at once; some keep the empty folder of an avatar that was deleted.
            entries = self._fs.get_file_info(pafs.FileSelector(self._root, allow_not_found=True, recursive=not self._renames))
            if self._renames:
                folders = [entry.path for entry in entries if entry.type == pafs.FileType.Directory]
                entries = self._fs.get_file_info([f"{folder}/{CURRENT}" for folder in folders])
        paths = (PurePosixPath(entry.path) for entry in entries if entry.type == pafs.FileType.File)
        names = (path.parent.name for path in paths if path.name == CURRENT)
        return sorted(name for name in names if ID_PATTERN.fullmatch(name))

    def list(self, wanted: Callable[[str], bool] = lambda avatar_id: True) -> list[AvatarMeta]:
        """The current version of every avatar whose id is `wanted`, built-in ones first, then by id.

        One that is damaged is left out and told in the log.

        Raises:
            StoreError: the store cannot be read.
        """
        names = self.ids()
        if self._copies is not None:
            self._copies.keep_only(names)
        names = [name for name in names if wanted(name)]
        if not names:
            return []
        with ThreadPoolExecutor(min(16, len(names))) as pool:
            metas = [meta for meta in pool.map(self._listed, names) if meta is not None]
        return sorted(metas, key=lambda meta: (not meta.builtin, meta.id))

    def check_room(self, avatar_id: str) -> None:
        """Raises ConflictError when one more avatar does not fit. An id that exists always fits."""
        names = [name for name in self.ids() if tenant_of(name) == tenant_of(avatar_id)]
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
            if self._renames:
                self._remove_stale(ref.id)
        self._current.put(meta)
        self._copy_json(meta, ref.id, CURRENT)
        return ref

    def delete(self, avatar_id: str) -> None:
        """Remove an avatar with all its versions. Whoever has it open keeps it; other replicas may know it for the time to live.

        Raises:
            UnknownAvatarError: no such avatar.
            ConflictError: it ships with the project.
        """
        self._current.forget(check_id(avatar_id))
        if self.meta(avatar_id).builtin:
            raise ConflictError(f"{avatar_id!r} ships with the project and is not deleted")
        with self._access("written", avatar_id):
            self._fs.delete_file(self._path(avatar_id, CURRENT))  # first: from here on nobody finds it
            self._fs.delete_dir(self._path(avatar_id))
        self._current.forget(avatar_id)
        if self._copies is not None:
            self._copies.drop(avatar_id)
        with self._lock:
            for ref in [ref for ref in self._cache if ref.id == avatar_id]:
                del self._cache[ref]

    def holds(self, ref: AvatarRef) -> bool:
        """Whether this version is the current one and all its files hold what was written. Reads them all, from the store.

        Raises:
            StoreError: the store cannot be read.
        """
        try:
            meta = self._read_current_meta(ref.id)
        except StoreError:
            raise
        except EngineError:
            return False
        return meta is not None and meta.version == ref.version and self._intact(meta)

    def _load(self, ref: AvatarRef) -> Avatar:
        with self._lock:
            avatar = self._cache.get(ref)
            if avatar is not None:
                self._cache.move_to_end(ref)
                self._touch(ref)
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

    def _open(self, ref: AvatarRef) -> Avatar:
        meta = None if self._local_root is not None else self._meta_at_hand(ref)
        if meta is None:
            with self._access("read", ref.id):
                meta = self._stored_meta(ref)
            if meta is not None:
                self._copy_json(meta, ref.id, ref.version, META)
        if meta is None:
            raise UnknownAvatarError(f"avatar {ref.id!r} has no version {ref.version!r}; it was deleted or made again")
        return Avatar(meta, lambda name, expected: self._open_file(ref, name, expected), self._trim)

    def _touch(self, ref: AvatarRef) -> None:
        """So that its copies are not taken for old while they are served from here."""
        now = time.monotonic()
        if self._copies is not None and now - self._touched.get(ref, -TOUCH_S) >= TOUCH_S:
            self._touched = {known: at for known, at in self._touched.items() if known in self._cache} | {ref: now}
            self._copies.touch(ref)

    def _meta_at_hand(self, ref: AvatarRef) -> AvatarMeta | None:
        """A version's metadata without a request, which never changes."""
        meta = self._current.peek(ref.id)
        if (meta is None or meta.ref != ref) and self._copies is not None:
            meta = self._copied_meta(ref.id, ref.version, META)
        return meta if meta is not None and meta.ref == ref else None

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
                self._current.forget(ref.id)  # it may have been deleted, or made again, elsewhere
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

    def _read_current_meta(self, avatar_id: str) -> AvatarMeta | None:
        with self._access("read", avatar_id):
            current = self._read_current(avatar_id)
        if current is None:
            if self._copies is not None:
                self._copies.drop(avatar_id)
            return None
        meta = self._parse_meta(current["meta"], f"{avatar_id}/{CURRENT}")
        if self._copied_current_meta(avatar_id) != meta:
            self._copy_json(meta, avatar_id, CURRENT)
        return meta

    def _copied_current_meta(self, avatar_id: str) -> AvatarMeta | None:
        """As a process of this machine saw it last, for when the store does not answer."""
        return self._copied_meta(avatar_id, CURRENT)

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

    def _listed(self, avatar_id: str) -> AvatarMeta | None:
        try:
            return self.meta(avatar_id)
        except UnknownAvatarError:
            return None
        except StoreError:
            raise
        except EngineError as error:
            self._tell(str(error), "an avatar is left out of the list: %s", error)
            return None

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
