"""What a live session must know of its avatar."""

from __future__ import annotations

import asyncio

from deployments.ingress.avatars import Avatars
from deployments.ingress.idle_bundle import first_bytes, idle_url, media_of, stored_idle
from deployments.ingress.sessions.protocol import Idle, Media
from deployments.ingress.sessions.speaker import SessionAvatar
from museserve.access.caller import Caller
from musetalk.avatars.format import Avatar, name_of


async def session_avatar(avatars: Avatars, caller: Caller, name: str | None) -> SessionAvatar:
    """Raises UnknownAvatarError, ForbiddenError, EngineError."""
    return await asyncio.to_thread(_of, await avatars.open(caller, name))


def _of(avatar: Avatar) -> SessionAvatar:
    meta = avatar.meta
    return SessionAvatar(
        id=meta.id,
        name=name_of(meta.id),
        version=meta.version,
        gender=meta.gender,
        uploaded=avatar.uploaded,
        init=stored_idle(avatar)["init"],
        idle=Idle(url=idle_url(avatar), frames=meta.n_frames, segments=len(meta.idle_segments), first_bytes=first_bytes(avatar)),
        media=Media(**media_of(avatar)),
    )
