"""Stored avatars made again that another version prepared."""

from __future__ import annotations

import logging

from configs.models import MediaConfig
from museserve.messages import AvatarRef
from musetalk.avatars import from_clip, from_portrait
from musetalk.avatars.assembly import PartsEncoder
from musetalk.avatars.format import AvatarMeta
from musetalk.avatars.progress import Steps
from musetalk.avatars.store import AvatarStore
from musetalk.engine import ANIMATOR, MUSETALK

logger = logging.getLogger(__name__)


def is_current(meta: AvatarMeta, networks: PartsEncoder | None = None) -> bool:
    """Whether an avatar was prepared by what is installed; if not, `renew` mends it."""
    if networks is not None and meta.engines.get(MUSETALK) != networks.version:
        return False
    if meta.source == "clip":
        return networks is None or meta.crf is not None
    return meta.crf is not None and meta.engines.get(ANIMATOR) == from_portrait.animator_version()


def renew(
    avatar_id: str,
    store: AvatarStore,
    media: MediaConfig | None = None,
    networks: PartsEncoder | None = None,
) -> AvatarRef:
    """Prepare an avatar again, from what is stored of its source, if another version of an engine prepared it.

    Detects no face in the source.

    Raises:
        UnknownAvatarError: no such avatar. EngineError: its files are damaged.
    """
    meta, media = store.meta(avatar_id), media or MediaConfig()
    if is_current(meta, networks):
        return meta.ref
    if meta.builtin:
        return from_portrait.prepare_builtin(avatar_id, store, meta.size, media, networks)
    avatar, steps = store.load(avatar_id, meta.version), Steps()
    if meta.source == "clip":
        assert networks is not None
        ref = from_clip.again_from_frames(avatar, store, networks, media, steps)
    else:
        ref = from_portrait.prepare_framed(avatar.source(), meta.size, store, media, steps, networks)
    logger.warning("avatar prepared again, as it was of another version: id=%s version=%s %s", ref.id, ref.version, steps)
    return ref
