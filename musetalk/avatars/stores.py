"""The configured avatar store, and the shipped avatars in it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from configs.models import AppConfig, AvatarConfig, cache_dir
from museserve.errors import EngineError, StoreError
from musetalk.avatars.builtin import BUILTIN
from musetalk.avatars.format import Avatar
from musetalk.avatars.from_portrait import prepare_builtin
from musetalk.avatars.store import AvatarStore

logger = logging.getLogger(__name__)


def open_store(config: AvatarConfig, cache_bytes: int = 64 * 2**20) -> AvatarStore:
    """The configured avatar store. Raises ConfigError: its bucket is not there."""
    store = AvatarStore(
        config.uri,
        cache_bytes,
        max_avatars=config.max_avatars,
        ttl_s=config.current_ttl_s,
        copies=config.copies or cache_dir() / "avatar-copies",
        copies_bytes=config.copies_bytes,
    )
    store.check()
    return store


def shipped_store(config: AppConfig, cache_bytes: int, use: Callable[[Avatar], object] = lambda avatar: None, verify: bool = False) -> AvatarStore:
    """The store with the shipped avatars prepared in it; costs two small reads when they are.

    Args:
        use: opens what this process needs of each. A file is checked as it is opened, and an avatar that turns out to be damaged
            is prepared again.
        verify: read all of what the store has of them.
    """
    store = open_store(config.avatars, cache_bytes)
    size, media = config.avatars.size, config.mux.media
    for avatar_id in BUILTIN:
        prepare_builtin(avatar_id, store, size, media, verify=verify)
        try:
            use(store.load(avatar_id))
        except StoreError:
            raise
        except EngineError as error:
            logger.warning("a shipped avatar is prepared again: %s", error)
            prepare_builtin(avatar_id, store, size, media, verify=True)
            use(store.load(avatar_id))
    return store
