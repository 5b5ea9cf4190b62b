"""The configured avatar store, and the shipped avatars in it."""

from __future__ import annotations

from configs.models import AppConfig, AvatarConfig
from musetalk.avatars.builtin import BUILTIN
from musetalk.avatars.from_portrait import prepare_builtin
from musetalk.avatars.store import AvatarStore


def open_store(config: AvatarConfig, cache_bytes: int = 64 * 2**20) -> AvatarStore:
    """The configured avatar store."""
    return AvatarStore(config.uri, cache_bytes, max_avatars=config.max_avatars)


def shipped_store(config: AppConfig, cache_bytes: int) -> AvatarStore:
    """The store with the shipped avatars prepared in it; costs little when they are."""
    store = open_store(config.avatars, cache_bytes)
    for avatar_id in BUILTIN:
        prepare_builtin(avatar_id, store, config.avatars.size, config.mux.media)
    return store
