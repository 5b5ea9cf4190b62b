"""A bounded store of immutable blobs under content-derived keys, on any `pyarrow.fs` file system, shared by processes.

    <root>/<first two digits>/<key>         32 bytes of SHA-256 and the blob
    <root>/<first two digits>/<key>.used    empty; its time is the last time the blob was read, to the hour

When the blobs outgrow their bound, those that were read longest ago go. File systems know when a file was written but seldom when it was read, and an
object store cannot change that time: so each read that is the first in an hour writes the marker anew. Libraries that bound
a cache (diskcache, cachetools) know a disk or a process; this one is the same on S3.

A remote store that is slow or away is left alone for a while: nobody waits longer for the cache than for what it would save.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
import uuid
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.fs as pafs

from museserve.runtime import storage

logger = logging.getLogger(__name__)

KEY = re.compile(r"[0-9a-f]{64}")
USED = ".used"
TEMPORARY = ".tmp-"
MARK_S = 3_600.0  # how exactly the last read is known
KEPT_SHARE = 0.9  # what is left after blobs had to go, so that not every write makes some go
LOOK_AFTER = 64  # writes after which the whole store is measured again, because other processes write too
STALE_S = 3_600.0  # a temporary file this old was left by a writer that died
DIGEST = 32
PATIENCE_S = 1.0  # for a blob of a remote store
AWAY_S = 10.0  # how long a store that failed is left alone
READERS = 8


class BlobStore:
    """Thread-safe. A blob that cannot be read is no blob: the store is a cache, so nothing here fails a request.

    Args:
        uri: folder, or a `pyarrow.fs` URI (file://, s3://, gs://).
        max_bytes: of all blobs together; may be passed for a moment by what was just written.
        memory_bytes: of blobs kept in this process as well.
    Raises:
        ConfigError: the URI names no file system, or its bucket is not there.
    """

    def __init__(self, uri: str, max_bytes: int, memory_bytes: int = 32 * 2**20) -> None:
        self._fs, self._root = storage.resolve(uri, Path(), "cache.uri")
        storage.check(self._fs, self._root, "cache.uri")
        self._local = self._fs.type_name == "local"
        self._readers = None if self._local else ThreadPoolExecutor(READERS, thread_name_prefix="cache")
        self._away_until = 0.0
        self._max_bytes, self._memory_bytes = max_bytes, memory_bytes
        self._lock = threading.Lock()
        self._memory: OrderedDict[str, bytes] = OrderedDict()
        self._marked: dict[str, float] = {}
        self._writes = 0

    def get(self, key: str) -> bytes | None:
        """The blob, or None when there is none or it is damaged."""
        with self._lock:
            blob = self._memory.get(key)
            if blob is not None:
                self._memory.move_to_end(key)
        if blob is None:
            blob = self._looked_up(key)
            if blob is None:
                return None
            self._remember(key, blob)
        if self._readers is None:
            self._mark(key)
        else:
            self._readers.submit(self._mark, key)
        return blob

    def put(self, key: str, blob: bytes) -> bool:
        """Keep a blob. False when it is larger than the store or cannot be written."""
        if len(blob) > self._max_bytes or self.away:
            return False
        path = self._path(key)
        try:
            self._write(path, hashlib.sha256(blob).digest() + blob)
        except OSError as error:
            self._failed("written", error)
            return False
        self._remember(key, blob)
        with self._lock:
            self._writes += 1
            look = self._writes % LOOK_AFTER == 1
        if look:
            self.trim()
        return True

    def trim(self) -> int:
        """Remove what was read longest ago until the bound is kept. Returns the bytes that are left."""
        try:
            entries = self._fs.get_file_info(pafs.FileSelector(self._root, allow_not_found=True, recursive=True))
        except OSError as error:
            self._failed("listed", error)
            return 0
        blobs: dict[str, tuple[float, int]] = {}
        used: dict[str, float] = {}
        for entry in entries:
            if entry.type != pafs.FileType.File:
                continue
            name, at = entry.base_name, (entry.mtime_ns or 0) / 1e9
            if KEY.fullmatch(name):
                blobs[name] = at, entry.size
            elif name.endswith(USED):
                used[name.removesuffix(USED)] = at
            elif name.startswith(TEMPORARY) and time.time() - at > STALE_S:
                self._delete(entry.path)
        total = sum(size for _, size in blobs.values())
        if total > self._max_bytes:
            for name in sorted(blobs, key=lambda name: max(blobs[name][0], used.get(name, 0.0))):
                if total <= KEPT_SHARE * self._max_bytes:
                    break
                total -= blobs[name][1]
                self._forget(name)
        return total

    def _looked_up(self, key: str) -> bytes | None:
        """From the store, if it answers in time."""
        path = self._path(key)
        if self._readers is None:
            return self._read(path)
        if self.away:
            return None
        try:
            return self._readers.submit(self._read, path).result(PATIENCE_S)
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

    def _read(self, path: str) -> bytes | None:
        try:
            with self._fs.open_input_stream(path) as file:
                raw = bytes(file.read())
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failed("read", error)
            return None
        if hashlib.sha256(memoryview(raw)[DIGEST:]).digest() != raw[:DIGEST]:
            logger.warning("a damaged blob was removed from the cache: %s", path)
            self._delete(path)
            return None
        return raw[DIGEST:]

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

    def _mark(self, key: str) -> None:
        now = time.time()
        with self._lock:
            if now - self._marked.get(key, 0.0) < MARK_S:
                return
            self._marked[key] = now
        if self.away:
            return
        try:
            self._write(self._path(key) + USED, b"")
        except OSError:
            return  # it is then taken for as old as it was written

    def _remember(self, key: str, blob: bytes) -> None:
        with self._lock:
            self._memory[key] = blob
            self._memory.move_to_end(key)
            held = sum(map(len, self._memory.values()))
            while self._memory and held > self._memory_bytes:
                held -= len(self._memory.popitem(last=False)[1])

    def _forget(self, key: str) -> None:
        for path in (self._path(key), self._path(key) + USED):
            self._delete(path)
        with self._lock:
            self._memory.pop(key, None)
            self._marked.pop(key, None)

    def _delete(self, path: str) -> None:
        try:
            self._fs.delete_file(path)
        except OSError:
            return  # another process was faster

    def _path(self, key: str) -> str:
        if not KEY.fullmatch(key):
            raise ValueError(f"a key is 64 hex digits, got {key[:80]!r}")
        return f"{self._root}/{key[:2]}/{key}"


def blob_key(*parts: Any) -> str:
    """A key that stands for everything the parts say."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()
