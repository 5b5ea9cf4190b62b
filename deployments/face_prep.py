"""Portrait to prepared avatar, into the avatar store. The work lives in `musetalk.prepare`."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from configs.models import AppConfig
from musetalk.load import open_store
from musetalk.prepare import prepare_portrait

logger = logging.getLogger("ray.serve")


class FacePrep:
    """A plain class: `graph.py` makes it a deployment."""

    def __init__(self, config: AppConfig) -> None:
        self._size = config.avatars.size
        self._max_pixels = config.avatars.max_pixels
        self._media = config.mux.media
        self._store = open_store(config.avatars)

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
