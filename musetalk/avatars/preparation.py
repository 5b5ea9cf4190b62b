"""Uploads to avatars, and stored avatars made again that another version prepared."""

from __future__ import annotations

import logging
from typing import Any

from configs.models import AppConfig, MediaConfig
from museserve.errors import EngineUnavailableError, MuseserveError
from museserve.media.clip import is_clip, read_clip
from museserve.messages import ANIMATOR, MUSETALK, AvatarRef
from museserve.runtime.foreign import READERS
from musetalk.avatars import from_clip, from_portrait
from musetalk.avatars.assembly import PartsEncoder
from musetalk.avatars.format import AvatarMeta
from musetalk.avatars.progress import Progress, Steps
from musetalk.avatars.store import AvatarStore
from musetalk.faces.framing import read_portrait

logger = logging.getLogger(__name__)


class AvatarPreparation:
    """Makes avatars by what is configured and what runs here. Thread-safe.

    networks: make MuseTalk's share; None where MuseTalk does not run, and `reason` says why.
    """

    def __init__(self, config: AppConfig, store: AvatarStore, networks: PartsEncoder | None, reason: str) -> None:
        self._config, self._media, self._store = config.avatars, config.mux.media, store
        self._networks, self._reason = networks, reason
        READERS.warm(read_portrait, read_clip)

    def check(self, avatar_id: str, gender: str, *, clip: bool) -> None:
        """What can be refused before any work.

        Raises:
            RequestError, ConflictError: the id or gender is not acceptable.
            EngineUnavailableError: a clip, and MuseTalk does not run here.
        """
        from_portrait.check_request(avatar_id, gender)
        if clip and self._networks is None:
            raise EngineUnavailableError(
                f"an avatar from a clip needs MuseTalk, which does not run here ({self._reason}); a portrait becomes an avatar without it"
            )

    def prepare(
        self,
        data: bytes,
        avatar_id: str,
        name: str,
        gender: str,
        *,
        clip: bool | None = None,
        progress: Progress | None = None,
    ) -> AvatarMeta:
        """Prepare and store an avatar. clip: what `data` is meant to be; None = what its first bytes say.

        Raises as `check`, `prepare_clip` and `prepare_portrait`.
        """
        clip = is_clip(data) if clip is None else clip
        self.check(avatar_id, gender, clip=clip)
        told = {"id": avatar_id, "name": name, "gender": gender, "size": self._config.size, "progress": progress}
        common: dict[str, Any] = {**told, "store": self._store, "media": self._media, "networks": self._networks}
        if clip:
            ref: AvatarRef = from_clip.prepare_clip(data, limits=self._config.clip, **common)[0]
        else:
            ref = from_portrait.prepare_portrait(data, max_pixels=self._config.max_pixels, **common)[0]
        return self._store.load(ref.id, ref.version).meta

    def renew_all(self) -> None:
        """`renew` every avatar of the store. One that cannot be is reported and left: the others must still serve."""
        for avatar_id in self._store.ids():
            try:
                renew(avatar_id, self._store, self._media, self._networks)
            except Exception as error:
                unforeseen = not isinstance(error, MuseserveError)
                logger.error("avatar %s cannot be used: %s", avatar_id, error, exc_info=unforeseen)


def is_current(meta: AvatarMeta, networks: PartsEncoder | None = None) -> bool:
    """Whether an avatar was prepared by what is installed; if not, `renew` mends it."""
    if networks is not None and meta.engines.get(MUSETALK) != networks.version:
        return False
    shown = meta.crf is not None and bool(meta.idle_steady)
    if meta.source == "clip":
        return networks is None or shown
    return shown and meta.idle_gestures is not None and meta.engines.get(ANIMATOR) == from_portrait.animator_version()


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
    with store.making(avatar_id):
        store.seen_anew(avatar_id)
        meta = store.meta(avatar_id)
        if is_current(meta, networks):
            return meta.ref  # another replica has done it meanwhile
        avatar, steps = store.load(avatar_id, meta.version), Steps()
        if meta.source == "clip":
            assert networks is not None
            ref = from_clip.again_from_frames(avatar, store, networks, media, steps)
        else:
            ref = from_portrait.prepare_framed(avatar.source(), meta.size, store, media, steps, networks)
    logger.warning("avatar prepared again, as it was of another version: id=%s version=%s %s", ref.id, ref.version, steps)
    return ref
