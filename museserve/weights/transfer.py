"""One file over HTTP onto a disk: resumed where it broke off, and under its name only when it is whole and checked.

Bytes are gathered in `NAME.VERSION.part` beside the file, so that the rest of one version is never appended to the
beginning of another. A lock on NAME lets one process download while all others wait.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import IO

import httpx2

from museserve.errors import WeightsError
from museserve.runtime.storage import locked

PART = ".part"  # ends the name of a file that is still being written; never read
BLOCK = 2**20
TIMEOUT_S = 30.0  # without a byte
MAX_ATTEMPTS = 5  # in a row that bring nothing
BACKOFF_S = 1.0  # before the second attempt; twice as long before each further one
RETRYABLE_STATUSES = {408, 425, 429, 500, 502, 503, 504}

Progress = Callable[[int, "int | None"], None]  # bytes so far, of so many


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server. version: tells its content from another, such as an ETag; None = unknown, never resumed."""

    url: str
    bytes: int | None = None
    sha256: str | None = None
    version: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class TransferInterrupted(Exception):
    """The connection failed; another attempt may help."""


def fetch(
    remote: RemoteFile,
    target: Path,
    *,
    on_progress: Progress = lambda received, total: None,
    on_wait: Callable[[], None] = lambda: None,
    backoff_s: float = BACKOFF_S,
) -> str:
    """Download `remote` to `target` in place of whatever is there, and return its SHA-256.

    on_wait: called when another process is downloading the same file; what that one brought is then taken.

    Raises:
        WeightsError: the server refuses, sends something else, or stays unreachable (what has come stays for the next
            attempt); the content is not the published one; the disk is full or read-only.
    """
    version = hashlib.sha256(remote.version.encode()).hexdigest()[:12] if remote.version else "new"
    part = target.with_name(f"{target.name}.{version}{PART}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        before = _inode(target)
        with locked(target, on_wait) as waited:
            if waited and _inode(target) != before:
                digest = sha256_of(target)
                if remote.sha256 in (None, digest):
                    return digest
            with part.open("a+b", buffering=0) as file:
                try:
                    digest = _download(_PartialFile(file), remote, on_progress, backoff_s)
                    os.fsync(file.fileno())
                    os.replace(part, target)
                except BaseException:
                    if not os.fstat(file.fileno()).st_size:
                        part.unlink()
                    raise
            for other_version in target.parent.glob(f"{glob.escape(target.name)}.*{PART}"):
                other_version.unlink()
    except OSError as error:
        raise WeightsError(disk_error(target, error)) from None
    return digest


class _PartialFile:
    """What has come so far, its size and its sum. file: opened for appending, without a buffer."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.size, self.digest = file, 0, hashlib.sha256()
        file.seek(0)
        while block := file.read(BLOCK):
            self._count(block)
        self.resumed = self.size > 0

    def append(self, block: bytes) -> None:
        rest = memoryview(block)
        while rest:  # without a buffer, a part of it may be written
            rest = rest[self.file.write(rest) :]
        self._count(block)

    def restart(self) -> None:
        if self.size:
            self.file.truncate(0)
        self.size, self.digest, self.resumed = 0, hashlib.sha256(), False

    def _count(self, block: bytes) -> None:
        self.digest.update(block)
        self.size += len(block)


def _download(part: _PartialFile, remote: RemoteFile, on_progress: Progress, backoff_s: float) -> str:
    """SHA-256 of the whole content; when it is wrong after resuming, the file is downloaded once more from the start."""
    if remote.version is None or (remote.bytes is not None and part.size > remote.bytes):
        part.restart()
    for _ in range(2):
        resumed = part.resumed
        _request_until_whole(part, remote, on_progress, backoff_s)
        found = part.digest.hexdigest()
        if remote.sha256 in (None, found):
            return found
        part.restart()
        if not resumed:
            break
    wanted = f"where {remote.sha256} is expected: it is damaged or another version"
    raise WeightsError(f"{remote.url} sent a file of SHA-256 {found} {wanted}")


def _request_until_whole(part: _PartialFile, remote: RemoteFile, on_progress: Progress, backoff_s: float) -> None:
    failures = 0
    with httpx2.Client(timeout=TIMEOUT_S, follow_redirects=True) as client:
        while part.size != remote.bytes:
            before = part.size
            try:
                _request_rest(client, part, remote, on_progress)
                return
            except (httpx2.TransportError, TransferInterrupted) as error:
                failures = 1 if part.size > before else failures + 1
                if failures >= MAX_ATTEMPTS:
                    reason = f"{error or type(error).__name__}, {MAX_ATTEMPTS} times in a row"
                    if part.size and remote.version:
                        reason += f"; {part.size:,} bytes are kept, and the same command goes on from there"
                    raise WeightsError(f"{remote.url} cannot be read: {reason}") from None
                time.sleep(backoff_s * 2 ** (failures - 1))
            except httpx2.HTTPError as error:
                raise WeightsError(f"{remote.url} cannot be read: {error or type(error).__name__}") from None


def _request_rest(client: httpx2.Client, part: _PartialFile, remote: RemoteFile, on_progress: Progress) -> None:
    """One request, from where `part` ends. Returns when the file is whole."""
    # Compressed on the way, a file could not be resumed, nor its size be compared.
    headers = {**remote.headers, "Accept-Encoding": "identity"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
    with client.stream("GET", remote.url, headers=headers) as response:
        total = _check_response(response, part, remote)
        if total == part.size:
            return
        on_progress(part.size, total)
        for block in response.iter_raw():
            part.append(block)
            on_progress(part.size, total)
    if total is not None and part.size != total:
        raise TransferInterrupted(f"the connection ended at {part.size:,} of {total:,} bytes")


def _check_response(response: httpx2.Response, part: _PartialFile, remote: RemoteFile) -> int | None:
    """Bytes of the whole file, once the body is known to continue `part`; that is emptied where the server starts anew."""
    status, length = response.status_code, response.headers.get("content-length", "")
    total = int(length) if length.isdigit() else None
    if status in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        found = re.fullmatch(r"bytes (?:\*|(\d+)-\d+)/(\d+)", response.headers.get("content-range", ""))
        start, total = (int(found[1] or found[2]), int(found[2])) if found else (-1, None)
        if start != part.size:
            part.restart()
            raise TransferInterrupted("it does not go on from where the file was broken off")
    elif status in RETRYABLE_STATUSES:
        raise TransferInterrupted(f"it answered {_phrase(status)}")
    elif status == HTTPStatus.OK:
        part.restart()
    else:
        raise WeightsError(f"{remote.url} answered {_phrase(status)}")
    if response.headers.get("content-type", "").startswith("text/html"):
        raise WeightsError(f"{remote.url} sent a web page where a file is expected: a login, a quota or a warning")
    if remote.bytes is not None and total is not None and total != remote.bytes:
        wanted = f"where {remote.bytes:,} are expected: it is another version"
        raise WeightsError(f"{remote.url} has {total:,} bytes {wanted}")
    free = shutil.disk_usage(os.path.dirname(part.file.name)).free
    if total is not None and free < total - part.size:
        raise OSError(errno.ENOSPC, f"{total - part.size:,} bytes are still to come and {free:,} are free")
    return total


def _phrase(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else str(status)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def disk_error(target: Path, error: OSError) -> str:
    """What a person can do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{target} cannot be written, the disk is full: {error.strerror}. Make room; what has come is kept"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{target} cannot be written: {error.strerror}. Choose a folder that is writable"
    return f"{target} cannot be written: {error}"
