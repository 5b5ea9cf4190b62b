"""One file over HTTP onto a disk: goes on where it was broken off, and appears under its name whole and checked, or not at all.

Bytes are gathered in `NAME.MARK.part` beside the file, where MARK stands for the version that is fetched, so that the rest of one version is never
put behind the beginning of another. The lock on that file lets one process write and all others wait.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import IO

import httpx2

from museserve.errors import WeightsError

PART = ".part"  # ends the name of a file that is still being written; never read
BLOCK = 2**20
TIMEOUT_S = 30.0  # without a byte
TRIES = 5  # in a row that bring nothing
PAUSE_S = 1.0  # before the second try; twice as long before each further one
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}

Progress = Callable[[int, "int | None"], None]  # bytes that are there, of so many


@dataclass(frozen=True)
class Remote:
    """A file on a server. mark: names this version of it among others; None = its content cannot be told apart, so it is never resumed."""

    url: str
    bytes: int | None = None
    sha256: str | None = None
    mark: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class TransferInterrupted(Exception):
    """The connection failed; another try may help."""


def fetch(
    remote: Remote,
    target: Path,
    *,
    on_progress: Progress = lambda have, total: None,
    on_wait: Callable[[], None] = lambda: None,
    pause_s: float = PAUSE_S,
) -> str:
    """Bring `remote` to `target` in place of whatever is there, and return its SHA-256.

    on_wait: called when another process is fetching the same file; what that one brought is then taken.

    Raises:
        WeightsError: the server refuses, sends something else, or stays unreachable (what has come stays for the next try); the content is not the
            published one; the disk is full or read-only.
    """
    mark = hashlib.sha256(remote.mark.encode()).hexdigest()[:12] if remote.mark else "new"
    part = target.with_name(f"{target.name}.{mark}{PART}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        before = _stamp(target)
        with locked(part, on_wait) as (file, waited):
            if waited and _stamp(target) != before:
                part.unlink()
                return sha256_of(target)
            try:
                digest = _filled(_Part(file), remote, on_progress, pause_s)
                os.fsync(file.fileno())
                os.replace(part, target)
            except BaseException:
                if not os.fstat(file.fileno()).st_size:
                    part.unlink(missing_ok=True)
                raise
        _tidy(target)
    except OSError as error:
        raise WeightsError(disk_trouble(target, error)) from None
    return digest


@contextmanager
def locked(part: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[tuple[IO[bytes], bool]]:
    """`part`, open for reading and writing, for one holder at a time among all processes, and whether it had to be waited for.

    It stays when the holder fails, and is gone when the holder has renamed or deleted it. Raises OSError.
    """
    waited = False
    while True:
        with open(part, "r+b", buffering=0, opener=_made) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waited:
                    on_wait()
                waited = True
                fcntl.flock(file, fcntl.LOCK_EX)
            if _stamp(part) == _stamp_of(os.fstat(file.fileno())):
                yield file, waited
                return


class _Part:
    """What has come so far: its length, and the sum of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.have, self.sum = file, 0, hashlib.sha256()
        while block := file.read(BLOCK):
            self._count(block)
        self.resumed = self.have > 0

    def add(self, block: bytes) -> None:
        write_all(self.file, block)
        self._count(block)

    def restart(self) -> None:
        self.file.seek(0)
        if self.have:
            self.file.truncate()
        self.have, self.sum, self.resumed = 0, hashlib.sha256(), False

    def _count(self, block: bytes) -> None:
        self.sum.update(block)
        self.have += len(block)


def write_all(file: IO[bytes], block: bytes) -> None:
    """For files without a buffer, which may take a part of it only. Raises OSError."""
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]


def _filled(part: _Part, remote: Remote, on_progress: Progress, pause_s: float) -> str:
    """SHA-256 of the whole content; a sum that is wrong after resuming is given a second chance from the start."""
    if remote.mark is None or (remote.bytes is not None and part.have > remote.bytes):
        part.restart()
    for _ in range(2):
        resumed = part.resumed
        _read_all(part, remote, on_progress, pause_s)
        found = part.sum.hexdigest()
        if remote.sha256 is None or found == remote.sha256:
            return found
        part.restart()
        if not resumed:
            break
    raise WeightsError(f"{remote.url} sent a file of SHA-256 {found} where {remote.sha256} is expected: it is damaged or another version")


def _read_all(part: _Part, remote: Remote, on_progress: Progress, pause_s: float) -> None:
    failures = 0
    with httpx2.Client(timeout=TIMEOUT_S, follow_redirects=True) as client:
        while part.have != remote.bytes:
            before = part.have
            try:
                _read_on(client, part, remote, on_progress)
                return
            except (httpx2.TransportError, TransferInterrupted) as error:
                failures = 1 if part.have > before else failures + 1
                if failures >= TRIES:
                    kept = f"; {part.have:,} bytes are kept, and the same command goes on from there" if part.have and remote.mark else ""
                    raise WeightsError(f"{remote.url} cannot be read: {error or type(error).__name__}, {TRIES} times in a row{kept}") from None
                time.sleep(pause_s * 2 ** (failures - 1))
            except httpx2.HTTPError as error:
                raise WeightsError(f"{remote.url} cannot be read: {error or type(error).__name__}") from None


def _read_on(client: httpx2.Client, part: _Part, remote: Remote, on_progress: Progress) -> None:
    """One request, from where `part` ends. Returns when the file is whole."""
    # Compressed on the way, a file could not be resumed, nor its size be compared.
    headers = {**remote.headers, "Accept-Encoding": "identity", **({"Range": f"bytes={part.have}-"} if part.have else {})}
    with client.stream("GET", remote.url, headers=headers) as answer:
        total = _begun(answer, part, remote)
        if total == part.have:
            return
        on_progress(part.have, total)
        for block in answer.iter_raw():
            part.add(block)
            on_progress(part.have, total)
    if total is not None and part.have != total:
        raise TransferInterrupted(f"the connection ended at {part.have:,} of {total:,} bytes")


def _begun(answer: httpx2.Response, part: _Part, remote: Remote) -> int | None:
    """Length of the whole file, once it is sure that what follows belongs behind `part`, which is emptied where the server starts anew."""
    status, length = answer.status_code, answer.headers.get("content-length", "")
    total = int(length) if length.isdigit() else None
    if status in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        found = re.fullmatch(r"bytes (?:\*|(\d+)-\d+)/(\d+)", answer.headers.get("content-range", ""))
        start, total = (int(found[1] or found[2]), int(found[2])) if found else (-1, None)
        if start != part.have:
            part.restart()
            raise TransferInterrupted("it does not go on from where the file was broken off")
    elif status in TRANSIENT:
        raise TransferInterrupted(f"it answered {_named(status)}")
    elif status == HTTPStatus.OK:
        part.restart()
    else:
        raise WeightsError(f"{remote.url} answered {_named(status)}")
    if answer.headers.get("content-type", "").startswith("text/html"):
        raise WeightsError(f"{remote.url} sent a web page where a file is expected: a login, a quota or a warning")
    if remote.bytes is not None and total is not None and total != remote.bytes:
        raise WeightsError(f"{remote.url} has {total:,} bytes where {remote.bytes:,} are expected: it is another version")
    free = shutil.disk_usage(os.path.dirname(part.file.name)).free
    if total is not None and free < total - part.have:
        raise OSError(errno.ENOSPC, f"{total - part.have:,} bytes are still to come and {free:,} are free")
    return total


def _named(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else str(status)


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        return _stamp_of(path.stat())
    except FileNotFoundError:
        return None


def _stamp_of(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _tidy(target: Path) -> None:
    """Delete what is left of other versions of the file, unless somebody is writing it."""
    for part in target.parent.glob(f"{glob.escape(target.name)}.*{PART}"):
        with suppress(BlockingIOError, FileNotFoundError), part.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def disk_trouble(target: Path, error: OSError) -> str:
    """What a person can do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{target} cannot be written, the disk is full: {error.strerror}. Make room; what has come is kept"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{target} cannot be written: {error.strerror}. Choose a folder that is writable"
    return f"{target} cannot be written: {error}"


def _made(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o644)
