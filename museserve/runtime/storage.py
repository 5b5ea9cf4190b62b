"""Folders that may lie on this machine or in an object store, by `pyarrow.fs` URI.

A store that does not answer fails within about five seconds: pyarrow's own time-outs and retries take a minute and a half.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs
from filelock import FileLock, Timeout

from museserve.errors import ConfigError

logger = logging.getLogger(__name__)

OBJECT_STORES = ("s3", "gcs", "abfs")  # no folders, no rename; a put is atomic
CONNECT_S = 1.0
SILENCE_S = 2.0  # without a byte
ATTEMPTS = 2
GCS_RETRY_S = 4
FIXED_S3 = {"tls_verify_certificates", "smart_defaults"}  # keys of a URI that go together with no time-outs


def resolve(uri: str, default: Path, key: str) -> tuple[Any, str]:
    """The file system and the path in it that `uri` names; an empty one is the local folder `default`.

    Raises:
        ConfigError: it names none; the message calls it by its configuration `key`.
    """
    if "://" not in uri:
        return pafs.LocalFileSystem(), str((Path(uri).expanduser() if uri else default).resolve())
    asked = dict(parse_qsl(urlsplit(uri).query))
    if uri.startswith(("gs://", "gcs://")) and "retry_limit_seconds" not in asked:
        uri += f"{'&' if asked else '?'}retry_limit_seconds={GCS_RETRY_S}"
    try:
        filesystem, path = pafs.FileSystem.from_uri(uri)
    except (ValueError, pa.ArrowException) as error:
        raise ConfigError(f"{key} {uri!r} names no file system: {error}. Accepted: a folder, file://, s3:// or gs://") from None
    except OSError as error:  # without a region in the URI, S3 is asked for it
        raise ConfigError(f"{key} {uri!r}: the store does not answer: {error}") from None
    if not path.strip("/"):
        raise ConfigError(f"{key} {uri!r} names no folder or bucket")
    if filesystem.type_name == "s3":
        if fixed := FIXED_S3 & asked.keys():
            logger.warning("%s: a URI with %s has the time-outs of the AWS SDK: a store that hangs is noticed late", key, ", ".join(sorted(fixed)))
        else:
            filesystem = _impatient(filesystem, asked)
    return filesystem, path.rstrip("/")


def _impatient(filesystem: Any, asked: dict[str, str]) -> Any:
    """The same S3 with our time-outs, which a URI cannot name. asked: the keys of the URI."""
    _, (options,) = filesystem.__reduce__()  # all that the URI and the environment said
    options |= {
        "connect_timeout": CONNECT_S,
        "request_timeout": SILENCE_S,
        "retry_strategy": pafs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        # One request for a small file, where there would be three.
        "allow_delayed_open": asked.get("allow_delayed_open", "true") == "true",
    }
    if not options["proxy_options"]["host"]:
        del options["proxy_options"]
    return pafs.S3FileSystem(**options)


def check(filesystem: Any, path: str, key: str) -> None:
    """See whether the bucket is there; one that may be created (`allow_bucket_creation`) is.

    A store that does not answer is only told in the log: it may be back in a moment.

    Raises:
        ConfigError: it is not there. Reads would find nothing, and the first write would fail.
    """
    if filesystem.type_name not in OBJECT_STORES:
        return
    bucket = path.split("/")[0]
    try:
        if filesystem.get_file_info(bucket).type != pafs.FileType.NotFound:
            return
    except OSError as error:
        logger.warning("%s: whether bucket %s is there cannot be told now: %s", key, bucket, error)
        return
    missing = f"{key}: bucket {bucket!r} is not there; make it first"
    if filesystem.type_name != "s3":
        raise ConfigError(missing)
    try:
        filesystem.create_dir(bucket)
    except OSError as error:
        raise ConfigError(f"{missing}, or add allow_bucket_creation=true to the URI ({error})") from None


def base_of(filesystem: Any) -> Any:
    """The file system itself, of a part of one."""
    while isinstance(filesystem, pafs.SubTreeFileSystem):
        filesystem = filesystem.base_fs
    return filesystem


def local_path(filesystem: Any, path: str) -> Path | None:
    """Where the files lie on this machine, or None when they do not."""
    while isinstance(filesystem, pafs.SubTreeFileSystem):
        filesystem, path = filesystem.base_fs, filesystem.base_path.rstrip("/") + "/" + path
    return Path(path) if isinstance(filesystem, pafs.LocalFileSystem) else None


def keep_private(folder: Path, *, own: bool) -> None:
    """Make a folder that nobody else may look into.

    own: close one that is there, too; the rights of a folder that a user made are the user's. What it cannot be made
    for shows when it is first written to.
    """
    with suppress(OSError):
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif own and folder.stat().st_mode & 0o077:
            folder.chmod(0o700)


@contextmanager
def locked(target: Path, on_wait: Callable[[], None] = lambda: None, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock on `target` among threads and processes; yields whether it had to be waited for.

    Raises OSError. Timeout: another holds it, and wait is False.
    """
    path = target.with_name(f"{target.name}.lock")
    lock = FileLock(path, mode=0o600)
    waited = False
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if not wait:
            raise
        waited = True
        on_wait()
        lock.acquire()
    try:
        yield waited
    finally:
        # Unlinked while it is held: FileLock opens the path again when what it locked has no name any more.
        path.unlink(missing_ok=True)
        lock.release()
