"""Claims on avatars of a store that end by themselves: whoever dies cannot give them back.

    <uri>/.leases/<id>.json     {"until": seconds since 1970, "by": ...}; written anew while it is held

Clocks of machines that share a store may differ by a fraction of `LEASE_S`.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any

import pyarrow.fs as pafs

from museserve.errors import StoreError

logger = logging.getLogger(__name__)

FOLDER = ".leases"
LEASE_S = 120.0
SETTLE_S = 0.5  # an object store has no "write unless it is there": two that claim at once look again after this


class Leases:
    """Thread-safe. What the store refuses is an OSError."""

    def __init__(self, filesystem: Any, root: str, *, folders: bool) -> None:
        """folders: whether one must be there before a file can be written in it."""
        self._fs, self._folder, self._folders = filesystem, f"{root}/{FOLDER}", folders

    def until(self, avatar_id: str) -> float:
        """When the lease ends or ended, seconds since 1970; 0 when there is none."""
        return float(self._read(avatar_id).get("until", 0.0))

    def holds(self, avatar_id: str) -> bool:
        return self.until(avatar_id) > time.time()

    def write(self, avatar_id: str, by: str) -> None:
        """For `LEASE_S` from now on."""
        if self._folders:
            self._fs.create_dir(self._folder, recursive=True)
        with self._fs.open_output_stream(self._path(avatar_id)) as stream:
            stream.write(json.dumps({"until": time.time() + LEASE_S, "by": by}).encode())

    def claim(self, avatar_id: str, by: str) -> bool:
        """Write it unless somebody else holds it. Of two that do so at once one has it."""
        if self.holds(avatar_id):
            return False
        self.write(avatar_id, by)
        time.sleep(SETTLE_S)
        return bool(self._read(avatar_id).get("by") == by)

    def remove(self, avatar_id: str) -> None:
        with suppress(OSError):  # not there, or it ends by itself
            self._fs.delete_file(self._path(avatar_id))

    def ids(self) -> set[str]:
        """Of all leases, also of those that have ended."""
        entries = self._fs.get_file_info(pafs.FileSelector(self._folder, allow_not_found=True))
        return {PurePosixPath(entry.path).stem for entry in entries if entry.base_name.endswith(".json")}

    def _read(self, avatar_id: str) -> dict[str, Any]:
        try:
            with self._fs.open_input_stream(self._path(avatar_id)) as stream:
                told = json.loads(stream.read())
        except FileNotFoundError:
            return {}
        except ValueError:
            return {}  # it is just being written, or was cut short: whoever holds it writes it again
        return told if isinstance(told, dict) else {}

    def _path(self, avatar_id: str) -> str:
        return f"{self._folder}/{avatar_id}.json"


class Kept:
    """A lease that a thread renews until `end`. write: makes it last for `LEASE_S` from now on."""

    def __init__(self, write: Callable[[], None], what: str) -> None:
        self._write, self._what = write, what
        self._ended = threading.Event()
        threading.Thread(target=self._renew, name="lease", daemon=True).start()

    def end(self) -> None:
        self._ended.set()

    def _renew(self) -> None:
        while not self._ended.wait(LEASE_S / 4):
            try:
                self._write()
            except (OSError, StoreError) as error:
                logger.warning("the lease on %s could not be renewed, which is tried again: %s", self._what, error)


def new_owner() -> str:
    return secrets.token_hex(8)
