"""A bounded store of immutable blobs under content-derived keys, on any `pyarrow.fs` file system, shared by processes.

    <root>/<first two digits>/<name>         the blob, sealed
    <root>/<first two digits>/<name>.used    empty; its time is the last time the blob was read, to the hour
    <root>/<first two digits>/<name>.long    empty; the blob is one that is kept longer, from this file's time on
    <root>/<16 digits>/...                   the same for a group, such as a tenant, which can be cleared apart

A blob is sealed (AES-GCM) by its own key, and the name does not tell the key: whoever can read the store but does not
know what a key was made of, such as a text, learns the size and the time of blobs and nothing else.

A blob has an end, by its age. What is past it goes at the next `trim`, also out of memory.

When the blobs outgrow their bound, those that were read longest ago go. File systems know when a file was written but seldom when it was read, and an
object store cannot change that time: so each read that is the first in an hour writes the marker anew. Libraries that bound
a cache (diskcache, cachetools) know a disk or a process; this one is the same on S3.

A remote store that is slow or away is left alone for a while: nobody waits longer for the cache than for what it would save.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import threading
import time
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.fs as pafs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from museserve.runtime import storage

logger = logging.getLogger(__name__)

KEY = re.compile(r"[0-9a-f]{64}")
FOLDER, GROUP = re.compile(r"[0-9a-f]{2}"), re.compile(r"[0-9a-f]{16}")
USED, LONG = ".used", ".long"
TEMPORARY = ".tmp-"
MARK_S = 3_600.0  # how exactly the last read is known
KEPT_SHARE = 0.9  # what is left after blobs had to go, so that not every write makes some go
LOOK_AFTER = 64  # writes after which the whole store is measured again, because other processes write too
STALE_S = 3_600.0  # a temporary file this old was left by a writer that died
TRIM_S = 600.0  # between two looks for what is past its end
NONCE = 12
PATIENCE_S = 1.0  # for a blob of a remote store
AWAY_S = 10.0  # how long a store that failed is left alone
READERS = 8


class BlobStore:
    """Thread-safe. A blob that cannot be read is no blob: the store is a cache, so nothing here fails a request.

    Args:
        uri: folder, or a `pyarrow.fs` URI (file://, s3://, gs://).
        max_bytes: of all blobs together; may be passed for a moment by what was just written.
        memory_bytes: of blobs kept in this process as well.
        kept_s, long_s: how old a blob, and one that is kept longer, becomes before it is removed.
        own: whether a local folder is the project's own, whose rights may be changed; one that is made is private.
    Raises:
        ConfigError: the URI names no file system, or its bucket is not there.
    """

    def __init__(
        self, uri: str, max_bytes: int, memory_bytes: int = 32 * 2**20, *, kept_s: float = math.inf, long_s: float = math.inf, own: bool = False
    ) -> None:
        self._fs, self._root = storage.resolve(uri, Path(), "cache.uri")
        storage.check(self._fs, self._root, "cache.uri")
        self._local = self._fs.type_name == "local"
        if self._local:
            storage.keep_private(Path(self._root), own=own)
        self._readers = None if self._local else ThreadPoolExecutor(READERS, thread_name_prefix="cache")
        self._away_until = 0.0
        self._max_bytes, self._memory_bytes = max_bytes, memory_bytes
        self._kept_s, self._long_s = kept_s, long_s
        self._lock = threading.Lock()
        self._memory: OrderedDict[str, bytes] = OrderedDict()  # by path, like all else
        self._marked: dict[str, float] = {}
        self._writes = 0

    def get(self, key: str, *, group: str = "") -> bytes | None:
        """The blob, or None when there is none or it is damaged."""
        path = self._path(key, group)
        with self._lock:
            blob = self._memory.get(path)
            if blob is not None:
                self._memory.move_to_end(path)
        if blob is None:
            blob = self._looked_up(key, path)
            if blob is None:
                return None
            self._remember(path, blob)
        if self._readers is None:
            self._mark(path)
        else:
            self._readers.submit(self._mark, path)
        return blob

    def put(self, key: str, blob: bytes, *, long: bool = False, group: str = "") -> bool:
        """Keep a blob; long: for the longer time. False when it is larger than the store or cannot be written."""
        if len(blob) > self._max_bytes or self.away:
            return False
        path = self._path(key, group)
        try:
            if long:
                self._write(path + LONG, b"")
            self._write(path, _sealed(key, blob))
        except OSError as error:
            self._failed("written", error)
            return False
        self._remember(path, blob)
        with self._lock:
            self._writes += 1
            look = self._writes % LOOK_AFTER == 1
        if look:
            self.trim()
        return True

    def lengthen(self, key: str, *, group: str = "") -> None:
        """Keep a blob that is there for the longer time, from now on."""
        if not self.away:
            try:
                self._write(self._path(key, group) + LONG, b"")
            except OSError as error:
                self._failed("written", error)

    def trim(self) -> int:
        """Remove what is past its end, and what was read longest ago until the bound is kept. Returns the bytes that are left."""
        try:
            entries = self._fs.get_file_info(pafs.FileSelector(self._root, allow_not_found=True, recursive=True))
        except OSError as error:
            self._failed("listed", error)
            return 0
        blobs: dict[str, tuple[float, int]] = {}
        marks: dict[str, dict[str, float]] = {USED: {}, LONG: {}}
        now = time.time()
        for entry in entries:
            if entry.type != pafs.FileType.File:
                continue
            name, path, at = entry.base_name, entry.path, (entry.mtime_ns or 0) / 1e9
            suffix = PurePosixPath(name).suffix
            if KEY.fullmatch(name):
                blobs[path] = at, entry.size
            elif suffix in marks:
                marks[suffix][path.removesuffix(suffix)] = at
            elif name.startswith(TEMPORARY) and now - at > STALE_S:
                self._delete(path)
        used, long = marks[USED], marks[LONG]
        for path in used.keys() | long.keys():
            if path not in blobs and now - max(used.get(path, 0.0), long.get(path, 0.0)) > STALE_S:
                self._forget(path)  # marks of nothing
        for path, (at, _) in list(blobs.items()):
            if now - at > self._kept_s and not now - long.get(path, -math.inf) < self._long_s:
                del blobs[path]
                self._forget(path)
        total = sum(size for _, size in blobs.values())
        if total > self._max_bytes:
            for path in sorted(blobs, key=lambda path: max(blobs[path][0], used.get(path, 0.0))):
                if total <= KEPT_SHARE * self._max_bytes:
                    break
                total -= blobs.pop(path)[1]
                self._forget(path)
        self._keep_in_memory(blobs.__contains__)
        return total

    def clear(self, group: str | None = None) -> None:
        """Remove all of a group, out of the store and this process's memory; None = of every group. Raises OSError."""
        place = self._folder(group or "")
        self._keep_in_memory(lambda path: group is not None and not FOLDER.fullmatch(path.removeprefix(f"{place}/").partition("/")[0]))
        for entry in self._fs.get_file_info(pafs.FileSelector(place, allow_not_found=True)):
            name = PurePosixPath(entry.path).name
            if FOLDER.fullmatch(name) or (group is None and GROUP.fullmatch(name)):
                try:
                    self._fs.delete_dir(entry.path)
                except FileNotFoundError:
                    pass  # another process was faster

    def watch(self) -> None:
        """`trim` every `TRIM_S`, from a thread of its own, so that what is past its end goes although nothing is written."""
        threading.Thread(target=_watch, args=(weakref.ref(self),), name="cache", daemon=True).start()

    def _looked_up(self, key: str, path: str) -> bytes | None:
        """From the store, if it answers in time."""
        if self._readers is None:
            return self._read(key, path)
        if self.away:
            return None
        try:
            return self._readers.submit(self._read, key, path).result(PATIENCE_S)
        except FutureTimeoutError:
            self._failed("read", f"no answer in {PATIENCE_S:g} s")
            return None

    @property
    def away(self) -> bool:
        """Whether the store has failed a moment ago: it is not asked then, and nothing is found."""
        return time.monotonic() < self._away_until

    def _failed(self, how: str, error: object) -> None:
        """One line in the log for as long as the store is left alone; a local folder is tried each time."""
        if self.away:
            return
        logger.warning("the cache cannot be %s: %s", how, error)
        if not self._local:
            self._away_until = time.monotonic() + AWAY_S

    def _read(self, key: str, path: str) -> bytes | None:
        try:
            with self._fs.open_input_stream(path) as file:
                raw = bytes(file.read())
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failed("read", error)
            return None
        try:
            return _opened(key, raw)
        except InvalidTag:
            logger.warning("a damaged blob was removed from the cache: %s", path)
            self._delete(path)
            return None

    def _write(self, path: str, content: bytes) -> None:
        folder = str(PurePosixPath(path).parent)
        if not self._local:  # a put is atomic
            with self._fs.open_output_stream(path) as stream:
                stream.write(content)
            return
        self._fs.create_dir(folder, recursive=True)
        temporary = f"{folder}/{TEMPORARY}{uuid.uuid4().hex}"
        try:
            with self._fs.open_output_stream(temporary) as stream:
                stream.write(content)
            self._fs.move(temporary, path)
        except BaseException:
            self._delete(temporary)
            raise

    def _mark(self, path: str) -> None:
        now = time.time()
        with self._lock:
            if now - self._marked.get(path, 0.0) < MARK_S:
                return
            self._marked[path] = now
        if self.away:
            return
        try:
            self._write(path + USED, b"")
        except OSError:
            return  # it is then taken for as old as it was written

    def _remember(self, path: str, blob: bytes) -> None:
        with self._lock:
            self._memory[path] = blob
            self._memory.move_to_end(path)
            held = sum(map(len, self._memory.values()))
            while self._memory and held > self._memory_bytes:
                held -= len(self._memory.popitem(last=False)[1])

    def _keep_in_memory(self, wanted: Callable[[str], bool]) -> None:
        with self._lock:
            for path in [path for path in self._memory if not wanted(path)]:
                del self._memory[path]
            self._marked = {path: at for path, at in self._marked.items() if wanted(path)}

    def _forget(self, path: str) -> None:
        for mark in ("", USED, LONG):
            self._delete(path + mark)

    def _delete(self, path: str) -> None:
        try:
            self._fs.delete_file(path)
        except OSError:
            return  # another process was faster

    def _path(self, key: str, group: str = "") -> str:
        if not KEY.fullmatch(key):
            raise ValueError(f"a key is 64 hex digits, got {key[:80]!r}")
        name = hashlib.sha256(b"name" + key.encode()).hexdigest()
        return f"{self._folder(group)}/{name[:2]}/{name}"

    def _folder(self, group: str) -> str:
        return f"{self._root}/{hashlib.sha256(b'group' + group.encode()).hexdigest()[:16]}" if group else self._root


def _watch(watched: weakref.ref[BlobStore]) -> None:
    while (store := watched()) is not None:
        try:
            store.trim()
        except Exception:
            logger.exception("trimming the cache failed, and is tried again")
        del store
        time.sleep(TRIM_S)


def _cipher(key: str) -> AESGCM:
    return AESGCM(hashlib.sha256(b"seal" + key.encode()).digest())


def _sealed(key: str, blob: bytes) -> bytes:
    nonce = os.urandom(NONCE)
    return nonce + _cipher(key).encrypt(nonce, blob, None)


def _opened(key: str, raw: bytes) -> bytes:
    """Raises InvalidTag: it is not what was sealed."""
    if len(raw) < NONCE + 16:
        raise InvalidTag
    return _cipher(key).decrypt(raw[:NONCE], raw[NONCE:], None)


def blob_key(*parts: Any) -> str:
    """A key that stands for everything the parts say."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()
