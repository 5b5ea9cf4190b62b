"""The last steps to an avatar, the same for portraits and clips: MuseTalk's share where it runs, and the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from museserve.media.idle_loop import IdleLoop
from museserve.messages import MUSETALK, AvatarRef, ByteArray, FloatArray
from musetalk.avatars.format import AvatarSource, EngineParts, PreparedAvatar, StoredIdle, content_version
from musetalk.avatars.progress import Steps
from musetalk.avatars.store import AvatarStore


class PartsEncoder(Protocol):
    """What makes MuseTalk's share of an avatar; here a protocol, because the networks behind it bring PyTorch.

    version: changes with whatever the share is made by.
    """

    version: str

    def prepare(
        self,
        frames: ByteArray,
        mesh: FloatArray | None,
        *,
        loop: bool,
        steps: Steps,
        begin: float = 0.0,
        end: float = 1.0,
    ) -> tuple[EngineParts, dict[str, Any]]:
        """The share, and a JSON-able report on it.

        Args:
            frames: I420 uint8 (n, size * 3 // 2, size). mesh: landmarks on them, float32 (n, 478, 2), NaN where none
                were seen; None = look for them.
            loop: the frame after the last is the first; otherwise the frames are played forth and back.
            begin, end: the part of the whole that this is, for `steps`.
        Raises:
            ClipError: no usable face. EngineError: memory that does not suffice.
        """
        ...


def version_for(settings: str, networks: PartsEncoder | None) -> str:
    """The version of an avatar with these settings, prepared for MuseTalk too where `networks` are given."""
    return settings if networks is None else content_version(settings, networks.version)


def assemble(
    source: AvatarSource,
    loop: IdleLoop,
    engines: Mapping[str, EngineParts],
    *,
    version: str,
    settings: str,
    report: Mapping[str, Any],
) -> PreparedAvatar:
    """An avatar of its parts. report: takes the place of the source's."""
    return PreparedAvatar(
        **{**vars(source), "report": report},
        version=version,
        size=loop.shown.shape[2],
        frames=loop.shown,
        engines=engines,
        idle=StoredIdle(init=loop.init, segments=loop.segments, steady=loop.steady, gestures=loop.gestures, mp4=loop.mp4),
        crf=loop.crf,
        settings=settings,
    )


def encode_and_save(
    source: AvatarSource,
    loop: IdleLoop,
    engines: Mapping[str, EngineParts],
    settings: str,
    store: AvatarStore,
    networks: PartsEncoder | None,
    steps: Steps,
    begin: float = 0.0,
    end: float = 0.95,
) -> AvatarRef:
    """Store an avatar; where there are `networks`, prepared for MuseTalk too.

    Args:
        engines: the shares that are made already. begin, end: the part of the whole that MuseTalk's is, for `steps`.
    Raises as `PartsEncoder.prepare` and `AvatarStore.save`.
    """
    engines = dict(engines)
    report = {key: value for key, value in source.report.items() if key != MUSETALK}
    if networks is not None:
        portrait = source.source == "portrait"
        made = networks.prepare(loop.shown, source.track, loop=portrait, steps=steps, begin=begin, end=end)
        engines[MUSETALK], report[MUSETALK] = made
    with steps("save", end, 1.0):
        version = version_for(settings, networks)
        return store.save(assemble(source, loop, engines, version=version, settings=settings, report=report))
