"""The open avatars of a process: as many as fit into so many bytes, each opened once however many ask for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from museserve.messages import AvatarRef
from musetalk.avatars.format import Avatar


class OpenAvatars:
    """Thread-safe.

    Args:
        most_bytes: of opened files, above which avatars are dropped, least recently used first. The one in use is always kept.
        open_one: opens one that is not. used: told of each that is asked for and open already, one call at a time.
    """

    def __init__(self, most_bytes: int, open_one: Callable[[AvatarRef], Avatar], used: Callable[[AvatarRef], object]) -> None:
        self._most_bytes, self._open_one, self._used = most_bytes, open_one, used
        self._lock = threading.Lock()
        self._opened: OrderedDict[AvatarRef, Avatar] = OrderedDict()
        self._opening: dict[AvatarRef, Future[Avatar]] = {}

    def __contains__(self, ref: AvatarRef) -> bool:
        return ref in self._opened

    def get(self, ref: AvatarRef) -> Avatar:
        """Raises what opening it raises."""
        with self._lock:
            avatar = self._opened.get(ref)
            if avatar is not None:
                self._opened.move_to_end(ref)
                self._used(ref)
                return avatar
            future = self._opening.get(ref)
            mine = future is None
            if future is None:
                future = self._opening[ref] = Future()
        if not mine:
            return future.result()
        try:
            avatar = self._open_one(ref)
        except BaseException as error:
            with self._lock:
                del self._opening[ref]
            future.set_exception(error)
            raise
        with self._lock:
            self._opened[ref] = avatar
            del self._opening[ref]
        future.set_result(avatar)
        return avatar

    def refs(self) -> list[AvatarRef]:
        with self._lock:
            return list(self._opened)

    @property
    def nbytes(self) -> int:
        """Of all opened files."""
        with self._lock:
            return sum(avatar.nbytes for avatar in self._opened.values())

    def forget(self, refs: Iterable[AvatarRef]) -> None:
        with self._lock:
            for ref in refs:
                self._opened.pop(ref, None)

    def trim(self, new_bytes: int) -> None:
        """What an avatar calls that has opened so many bytes more."""
        if not new_bytes:
            return
        with self._lock:
            sizes = {ref: avatar.nbytes for ref, avatar in self._opened.items()}
            total = sum(sizes.values())
            for ref in list(self._opened)[:-1]:
                if total <= self._most_bytes:
                    break
                total -= sizes[ref]
                del self._opened[ref]
