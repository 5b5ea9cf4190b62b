"""Portrait to prepared avatar, into the avatar store. The work lives in `musetalk.prepare`."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from configs.models import AppConfig
from errors import MuseserveError
from musetalk.load import shipped_store
from musetalk.prepare import prepare_portrait, refresh

logger = logging.getLogger("ray.serve")

CACHE_BYTES = 64 * 2**20  # what it prepares is read by others


class FacePrep:
    """A plain class: `graph.py` makes it a deployment."""

    def __init__(self, config: AppConfig) -> None:
        self._size = config.avatars.size
        self._max_pixels = config.avatars.max_pixels
        self._media = config.mux.media
        self._store = shipped_store(config, CACHE_BYTES)
        for avatar_id in self._store.ids():
            self._renew(avatar_id)
        logger.info("face preparation ready: %d avatars", len(self._store.ids()))

    async def prepare(self, data: bytes, avatar_id: str, name: str, gender: str) -> dict[str, Any]:
        """Prepare and store an avatar; returns its metadata with the report. Raises ImageError, ConflictError."""
        ref, _ = await asyncio.to_thread(
            prepare_portrait,
            data,
            id=avatar_id,
            name=name,
            gender=gender,
            size=self._size,
            store=self._store,
            max_pixels=self._max_pixels,
            media=self._media,
        )
        avatar = await asyncio.to_thread(self._store.load, ref.id, ref.version)
        return avatar.meta.to_json()

    def _renew(self, avatar_id: str) -> None:
        """Prepare an avatar of another animator version again. A damaged one is reported and left: the others must still serve."""
        try:
            refresh(avatar_id, self._store, self._media)
        except MuseserveError as error:
            logger.error("avatar %s cannot be used: %s", avatar_id, error)
