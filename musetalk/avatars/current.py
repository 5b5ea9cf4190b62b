"""Which version of each avatar is current, as it is known in this process."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass

from museserve.errors import StoreError
from musetalk.avatars.format import AvatarMeta

logger = logging.getLogger(__name__)

PATIENCE_S = 0.5  # for a store that is slow to answer, where what it said before is at hand
TELL_S = 60.0  # between two log lines about one outage
REMEMBERED = 1_000
READERS = 4

Read = Callable[[str], "AvatarMeta | None"]


@dataclass(frozen=True)
class _Known:
    """until: `time.monotonic` up to which it is taken for current without a look."""

    meta: AvatarMeta
    until: float


class CurrentVersions:
    """Thread-safe. What the store said is taken for current for `ttl_s`; while it does not answer, what it said last is.

    Args:
        ttl_s: 0 = look each time, for a folder of this machine.
        read: an avatar's current version from the store, None when there is none. Raises StoreError when the store cannot
            be read, EngineError when what it says is damaged.
        remembered: the same as it was last seen by another process, for a store that cannot be read.
    """

    def __init__(self, ttl_s: float, read: Read, remembered: Read = lambda avatar_id: None) -> None:
        self._ttl_s, self._read, self._remembered = ttl_s, read, remembered
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asked: dict[str, Future[AvatarMeta | None]] = {}
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="current-avatar")
        self._told = -TELL_S

    def get(self, avatar_id: str) -> AvatarMeta | None:
        """The current version. Raises as `read`, unless another answer is known."""
        with self._lock:
            known = self._known.get(avatar_id)
            if known is None or self._ttl_s == 0:
                asked = None
            elif time.monotonic() < known.until:
                return known.meta
            else:
                asked = self._asked.get(avatar_id)
                if asked is None:
                    asked = self._asked[avatar_id] = self._readers.submit(self._look, avatar_id, known)
        if asked is None or known is None:
            return self._look(avatar_id, known)
        try:
            return asked.result(PATIENCE_S)
        except FutureTimeoutError:
            return known.meta  # the look goes on, and tells what comes of it

    def put(self, meta: AvatarMeta) -> None:
        """What this process has made current, or has just seen to be."""
        with self._lock:
            self._put(meta)

    def forget(self, avatar_id: str) -> None:
        """It is read again when it is asked for."""
        with self._lock:
            self._known.pop(avatar_id, None)

    def peek(self, avatar_id: str) -> AvatarMeta | None:
        """What is known without a look, of whatever age."""
        with self._lock:
            known = self._known.get(avatar_id)
        return known.meta if known else None

    def _look(self, avatar_id: str, known: _Known | None) -> AvatarMeta | None:
        try:
            meta = self._read(avatar_id)
        except StoreError as error:
            meta = known.meta if known else self._remembered(avatar_id)
            if meta is None:
                raise
            self._tell(error)
        finally:
            with self._lock:
                self._asked.pop(avatar_id, None)
        with self._lock:
            if self._known.get(avatar_id) is known:  # else one was saved or deleted here meanwhile
                self._known.pop(avatar_id, None)
                if meta is not None:
                    self._put(meta)
        return meta

    def _put(self, meta: AvatarMeta) -> None:
        self._known[meta.id] = _Known(meta, time.monotonic() + self._ttl_s)
        self._known.move_to_end(meta.id)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _tell(self, error: StoreError) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._told < TELL_S:
                return
            self._told = now
        logger.warning("avatars are served as they were last seen: %s", error)
