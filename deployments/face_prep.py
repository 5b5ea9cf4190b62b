"""Portrait or clip to prepared avatar, while somebody waits for it.

The work lives in `musetalk.avatars.preparation`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator
from typing import Any

from configs.models import AppConfig
from deployments import cores, logs, tracing
from deployments.live import LiveConfig
from museserve.errors import ConflictError
from museserve.messages import PreparationProgress
from museserve.runtime.malloc import Tidy
from musetalk.avatars.format import AvatarMeta, name_of
from musetalk.avatars.preparation import AvatarPreparation
from musetalk.avatars.progress import Progress
from musetalk.avatars.stores import shipped_store
from musetalk.factory import load_face_networks, prepare_shipped

logger = logging.getLogger("ray.serve")

CACHE_BYTES = 64 * 2**20  # what it prepares is read by others
STEP = 0.01  # of the whole, between two reports of one step


class Abandoned(Exception):
    """Nobody waits for this avatar any more."""


class Caller:
    """Whether somebody still waits, agreed on between the thread that works and whoever waits for it, so that one of them cleans up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = self._stored = False

    def check(self) -> None:
        if self._left:
            raise Abandoned

    def stored(self) -> bool:
        """Said when the avatar lies in the store. False: the caller has left, so it must be removed."""
        with self._lock:
            self._stored = True
            return not self._left

    def leave(self) -> bool:
        """Said when nobody waits any more. True: the avatar lies in the store and must be removed."""
        with self._lock:
            self._left = True
            return self._stored


class FacePrep:
    """A plain class: `graph.py` makes it a deployment."""

    def __init__(self, config: AppConfig) -> None:
        logs.join_serve()
        tracing.join_serve()
        cores.keep_to_own()
        self._store = shipped_store(config, CACHE_BYTES)
        self._store.watch()
        networks, reason = load_face_networks(config)
        self._preparation = AvatarPreparation(config, self._store, networks, reason)
        self._live_config = LiveConfig("face_prep", config)
        self._making: set[str] = set()
        self._tidy = Tidy()
        if networks is not None:
            prepare_shipped(config, self._store, networks)
            # Seconds for each avatar, so the shipped ones serve meanwhile; whoever asks for another is told.
            threading.Thread(target=self._preparation.renew_all, name="renew", daemon=True).start()
        else:
            self._preparation.renew_all()
        there = len(self._store.ids())
        logger.info("face preparation ready: %d avatars; MuseTalk: %s", there, reason or "prepared for")

    def reconfigure(self, user_config: Any) -> None:
        """What Serve calls with a new `user_config`. Raises ConfigError at the start alone."""
        self._live_config.changed(user_config)

    async def prepare(
        self, data: bytes, avatar_id: str, name: str, gender: str, clip: bool = False
    ) -> AsyncGenerator[PreparationProgress | AvatarMeta, None]:
        """Prepare and store an avatar. Yields its progress and at last what is known of it, with the report.

        Closed before that, it breaks off at the next step and leaves nothing behind.

        Raises:
            ImageError, ClipError, RequestError, ConflictError. EngineUnavailableError: a clip, and MuseTalk does not run here.
        """
        self._tidy.soon()  # also after a refusal
        self._preparation.check(avatar_id, gender, clip=clip)
        if avatar_id in self._making:
            raise ConflictError(f"avatar {name_of(avatar_id)!r} is being prepared just now; wait for it or choose another id")
        self._making.add(avatar_id)
        loop, caller = asyncio.get_running_loop(), Caller()
        told: asyncio.Queue[PreparationProgress | None] = asyncio.Queue()
        last = ("", -1.0)

        def progress(step: str, done: float) -> None:
            nonlocal last
            caller.check()
            if step != last[0] or done >= last[1] + STEP:
                last = step, done
                loop.call_soon_threadsafe(told.put_nowait, PreparationProgress(step, round(done, 3)))

        work = loop.run_in_executor(None, self._make, data, avatar_id, name, gender, clip, progress, caller)
        work.add_done_callback(lambda _: told.put_nowait(None))
        delivered = False
        try:
            while (item := await told.get()) is not None:
                yield item
            made = await work
            assert made is not None
            delivered = True  # whoever closes it from here on has been told of the avatar
            yield made
        finally:
            self._tidy.soon()
            del work  # its error has this frame, and the frame all of `data`
            if not delivered and caller.leave():
                self._drop(avatar_id)

    def _make(
        self,
        data: bytes,
        avatar_id: str,
        name: str,
        gender: str,
        clip: bool,
        progress: Progress,
        caller: Caller,
    ) -> AvatarMeta | None:
        """None when nobody waited for it to the end."""
        try:
            with self._store.making(avatar_id, wait=False):  # nor does another replica make it
                made = self._preparation.prepare(data, avatar_id, name, gender, clip=clip, progress=progress)
                if not caller.stored():
                    self._drop(avatar_id)
            return made
        except Abandoned:
            logger.info("avatar %s was abandoned by its caller", avatar_id)
            return None
        finally:
            self._making.discard(avatar_id)

    def _drop(self, avatar_id: str) -> None:
        if self._store.exists(avatar_id):
            self._store.delete(avatar_id)
        logger.info("avatar %s was finished after its caller had left, and is deleted", avatar_id)
