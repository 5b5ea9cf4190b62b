"""From a portrait to an avatar in the store: read, find the face, report, frame, rig, idle loop, encode, save."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from filelock import FileLock

from configs.models import MediaConfig
from museserve.errors import ConflictError, EngineError, ImageError, RequestError, UnknownAvatarError
from museserve.media.idle_loop import encode_idle
from museserve.messages import AvatarRef, ByteArray, FloatArray
from museserve.runtime.versions import stamp
from musetalk.animator.render import idle_loop
from musetalk.animator.rig import VERSION, Rig
from musetalk.avatars.builtin import is_builtin, shipped_digest, shipped_facts, shipped_portrait
from musetalk.avatars.format import AvatarMeta, EngineParts, Gender, PreparedAvatar, StoredIdle, check_id, content_version
from musetalk.avatars.from_clip import again_from_background
from musetalk.avatars.progress import Progress, Steps
from musetalk.avatars.store import AvatarStore
from musetalk.faces.framing import frame_portrait, read_portrait
from musetalk.faces.mediapipe import find_faces
from musetalk.faces.quality import FaceReport, assess

if TYPE_CHECKING:
    from musetalk.neural.avatar_parts import FaceNetworks  # brings PyTorch, which the animator does without

logger = logging.getLogger(__name__)

ANIMATOR, MUSETALK = "animator", "musetalk"
PREPARATION = 3  # of what this file does: raise it with any change to what it stores
KEPT_LIBRARIES = ("av", "mediapipe")  # what encoded the idle loop and found the landmarks


@dataclass(frozen=True)
class _PortraitSource:
    """What an avatar is made from. portrait: RGB uint8 (p, p, 3), framed; landmarks: float32 (478, 3) in it."""

    id: str
    name: str
    gender: Gender
    builtin: bool
    sha256: str
    portrait: ByteArray
    landmarks: FloatArray
    portrait_png: bytes
    report: dict[str, Any]


def prepare_portrait(
    data: bytes,
    *,
    id: str,
    name: str = "",
    gender: str = "female",
    size: int = 512,
    store: AvatarStore,
    max_pixels: int = 40_000_000,
    media: MediaConfig | None = None,
    networks: FaceNetworks | None = None,
    progress: Progress | None = None,
) -> tuple[AvatarRef, FaceReport]:
    """Make an avatar of an uploaded picture and store it. The same picture and settings again change nothing.

    Args:
        data: the bytes of a PNG, JPEG or WebP picture; id, name, gender: of the avatar; size: side of its pictures in pixels.
        networks: when they are there, the avatar is prepared for MuseTalk too.
        progress: told each step by name, with the part of the whole that is done before it; what it raises breaks off, and nothing is stored.
    Raises:
        ImageError: not a usable picture, or no usable face; the message says why.
        RequestError: the id or gender is not acceptable. ConflictError: it is a shipped avatar's id, or the store is full.
    """
    check_request(id, gender)
    store.check_room(id)
    steps = Steps(progress)
    with steps("read", 0.0, 0.05):
        picture = read_portrait(data, max_pixels)
    with steps("find the face", 0.05, 0.1):
        face, report = assess(picture, find_faces(picture))
    with steps("frame", 0.1, 0.15):
        framing = frame_portrait(picture, face, 2 * size)
        landmarks = _landmarks_in(framing.portrait)
        if framing.padded > 0.02:
            warning = f"{100 * framing.padded:.0f} % of the portrait lies beyond the picture and is filled in; leave more room around the head"
            report = report.model_copy(update={"warnings": (*report.warnings, warning)})
        png = _png(framing.portrait)
    source = _PortraitSource(
        id,
        name or id,
        "male" if gender == "male" else "female",
        False,
        hashlib.sha256(data).hexdigest(),
        framing.portrait,
        landmarks,
        png,
        report.model_dump(mode="json"),
    )
    ref = _make(source, size, store, media or MediaConfig(), steps, networks)
    logger.info("avatar prepared: id=%s version=%s size=%d %s", ref.id, ref.version, size, steps)
    return ref, report


def builtin_settings(avatar_id: str, size: int, media: MediaConfig) -> str:
    """What tells a current shipped avatar from an outdated one, its networks apart. Raises UnknownAvatarError."""
    name, gender = shipped_facts(avatar_id)
    return _settings(avatar_id, name, gender, shipped_digest(avatar_id), size, media)


def prepare_builtin(
    avatar_id: str, store: AvatarStore, size: int = 512, media: MediaConfig | None = None, networks: FaceNetworks | None = None
) -> AvatarRef:
    """Make sure that a shipped avatar lies in the store, whole and current. Detects nothing; costs little when it is there.

    With `networks` it is prepared for MuseTalk too; without them one that is so already is left as it is.
    Processes of a machine that do this at once wait for the first.

    Raises:
        UnknownAvatarError: no such avatar ships with the project.
    """
    media = media or MediaConfig()
    settings = builtin_settings(avatar_id, size, media)

    def there() -> AvatarRef | None:
        """The current version, when it is whole and does for what is asked."""
        ref = AvatarRef(avatar_id, _version(settings, networks))
        if networks is None:
            with suppress(UnknownAvatarError, EngineError):
                meta = store.meta(avatar_id)
                ref = meta.ref if meta.settings == settings else ref
        return ref if store.holds(ref) else None

    if found := there():
        return found
    with _lock(avatar_id):
        if found := there():
            return found
        steps = Steps()
        shipped = shipped_portrait(avatar_id)
        source = _PortraitSource(
            shipped.id, shipped.name, shipped.gender, True, shipped.sha256, shipped.portrait, shipped.landmarks, shipped.portrait_png, {}
        )
        ref = _make(source, size, store, media, steps, networks)
        logger.info("built-in avatar prepared: id=%s version=%s size=%d %s", ref.id, ref.version, size, steps)
    return ref


def is_current(meta: AvatarMeta, networks: FaceNetworks | None = None) -> bool:
    """Whether an avatar was prepared by what is installed; if not, `refresh` mends it."""
    if networks is not None and meta.engines.get(MUSETALK) != networks.version:
        return False
    if meta.source == "clip":
        return networks is None or meta.crf is not None
    return meta.crf is not None and meta.engines.get(ANIMATOR) == animator_version()


def refresh(avatar_id: str, store: AvatarStore, media: MediaConfig | None = None, networks: FaceNetworks | None = None) -> AvatarRef:
    """Prepare an avatar again, from what is stored of its source, if another version of an engine prepared it. Detects no face in the source.

    Raises:
        UnknownAvatarError: no such avatar. EngineError: its files are damaged.
    """
    meta = store.meta(avatar_id)
    if is_current(meta, networks):
        return meta.ref
    if meta.builtin:
        return prepare_builtin(avatar_id, store, meta.size, media, networks)
    avatar, steps = store.load(avatar_id, meta.version), Steps()
    if meta.source == "clip":
        assert networks is not None
        ref = again_from_background(avatar, store, networks, media or MediaConfig(), steps)
    else:
        picture = cv2.imdecode(np.frombuffer(avatar.portrait_png, np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise EngineError(f"avatar {avatar_id!r}: portrait.png cannot be decoded")
        rgb = np.asarray(picture[:, :, ::-1], np.uint8)
        source = _PortraitSource(meta.id, meta.name, meta.gender, False, meta.source_sha256, rgb, avatar.landmarks, avatar.portrait_png, meta.report)
        ref = _make(source, meta.size, store, media or MediaConfig(), steps, networks)
    logger.info("avatar prepared again: id=%s version=%s %s", ref.id, ref.version, steps)
    return ref


def animator_version() -> str:
    """Changes with what the animator draws, because idle loop, rig and drawing must agree to the pixel."""
    return content_version(stamp(VERSION, "opencv-python"))


def _make(source: _PortraitSource, size: int, store: AvatarStore, media: MediaConfig, steps: Steps, networks: FaceNetworks | None) -> AvatarRef:
    drawn = 0.3 if networks else 0.6
    with steps("rig", 0.15, 0.2):
        rig = Rig.build(source.portrait, source.landmarks, size)
    with steps("draw the idle loop", 0.2, drawn):
        drawn_loop = idle_loop(rig)
    with steps("encode the idle loop", drawn, drawn + 0.1):
        idle = encode_idle(drawn_loop, media)
    engines = {ANIMATOR: EngineParts(animator_version(), rig.box, rig.to_arrays())}
    report = {key: value for key, value in source.report.items() if key != MUSETALK}
    if networks is not None:
        engines[MUSETALK], report[MUSETALK] = networks.prepare(idle.shown, None, loop=True, steps=steps, begin=drawn + 0.1, end=0.9)
    with steps("save", 0.9, 1.0):
        settings = _settings(source.id, source.name, source.gender, source.sha256, size, media)
        prepared = PreparedAvatar(
            id=source.id,
            version=_version(settings, networks),
            name=source.name,
            gender=source.gender,
            size=size,
            source_sha256=source.sha256,
            portrait_png=source.portrait_png,
            landmarks=source.landmarks,
            frames=idle.shown,
            engines=engines,
            idle=StoredIdle(init=idle.init, segments=idle.segments, mp4=idle.mp4),
            crf=idle.crf,
            builtin=source.builtin,
            report=report,
            settings=settings,
        )
        return store.save(prepared)


def _settings(avatar_id: str, name: str, gender: str, sha256: str, size: int, media: MediaConfig) -> str:
    return content_version(stamp(PREPARATION, *KEPT_LIBRARIES), animator_version(), avatar_id, name, gender, sha256, size, media.model_dump_json())


def _version(settings: str, networks: FaceNetworks | None) -> str:
    return settings if networks is None else content_version(settings, networks.version)


def check_request(avatar_id: str, gender: str) -> None:
    """Raises RequestError, ConflictError."""
    try:
        check_id(avatar_id)
    except UnknownAvatarError as error:
        raise RequestError(str(error)) from None
    if is_builtin(avatar_id):
        raise ConflictError(f"{avatar_id!r} ships with the project; choose another id")
    if gender not in ("female", "male"):
        raise RequestError(f"gender is {gender!r}; female and male are accepted")


def _landmarks_in(portrait: ByteArray) -> FloatArray:
    """Landmarks found afresh in the framed portrait, where they are most exact."""
    faces = find_faces(portrait)
    if not faces:
        raise ImageError("a face was found in the picture, but not again after it was framed; use a larger or sharper picture")
    return faces[0].landmarks


def _png(rgb: ByteArray) -> bytes:
    done, data = cv2.imencode(".png", rgb[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 4])
    if not done:
        raise EngineError("the framed portrait cannot be written as PNG")
    return data.tobytes()


def _lock(avatar_id: str) -> FileLock:
    """Held by one process of the machine at a time; the system frees it when that process dies."""
    return FileLock(Path(tempfile.gettempdir()) / f"museserve-{os.getuid()}-{avatar_id}.lock")
