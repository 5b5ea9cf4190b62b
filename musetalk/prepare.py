"""From a portrait to an avatar in the store: read, find the face, report, frame, rig, idle loop, encode, save."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from configs.models import MediaConfig
from contracts import AvatarRef, ByteArray, FloatArray
from errors import ConflictError, EngineError, ImageError, RequestError, UnknownAvatarError
from media.idle import encode_idle
from musetalk import animator
from musetalk.animator.render import idle_loop
from musetalk.animator.rig import Rig
from musetalk.avatar import AvatarStore
from musetalk.builtin import is_builtin, shipped_digest, shipped_facts, shipped_portrait
from musetalk.face import find_faces
from musetalk.face_report import FaceReport, assess
from musetalk.portrait import frame_portrait, read_portrait
from musetalk.prepared import AvatarMeta, EngineParts, Gender, PreparedAvatar, StoredIdle, check_id, content_version

logger = logging.getLogger(__name__)

ANIMATOR = "animator"
PREPARATION = 1  # of what this file does; the animator's own version is its source
Progress = Callable[[str, float], None]  # step, part of the whole that is done


@dataclass(frozen=True)
class _Source:
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
    progress: Progress | None = None,
) -> tuple[AvatarRef, FaceReport]:
    """Make an avatar of an uploaded picture and store it. The same picture and settings again change nothing.

    Args:
        data: the bytes of a PNG, JPEG or WebP picture; id, name, gender: of the avatar; size: side of its pictures in pixels.
        progress: told each step by name, with the part of the whole that is done before it.
    Raises:
        ImageError: not a usable picture, or no usable face; the message says why.
        RequestError: the id or gender is not acceptable. ConflictError: it is a shipped avatar's id, or the store is full.
    """
    _check_request(id, gender)
    store.check_room(id)
    steps = _Steps(progress)
    with steps("read", 0.0):
        picture = read_portrait(data, max_pixels)
    with steps("find the face", 0.05):
        face, report = assess(picture, find_faces(picture))
    with steps("frame", 0.1):
        framing = frame_portrait(picture, face, 2 * size)
        landmarks = _landmarks_in(framing.portrait)
        if framing.padded > 0.02:
            warning = f"{100 * framing.padded:.0f} % of the portrait lies beyond the picture and is filled in; leave more room around the head"
            report = report.model_copy(update={"warnings": (*report.warnings, warning)})
        png = _png(framing.portrait)
    source = _Source(
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
    ref = _make(source, size, store, media or MediaConfig(), steps)
    logger.info("avatar prepared: id=%s version=%s size=%d %s", ref.id, ref.version, size, steps)
    return ref, report


def prepare_builtin(avatar_id: str, store: AvatarStore, size: int = 512, media: MediaConfig | None = None) -> AvatarRef:
    """Make sure that a shipped avatar lies in the store, whole and current. Detects nothing; costs little when it is there.

    Processes of a machine that do this at once wait for the first.

    Raises:
        UnknownAvatarError: no such avatar ships with the project.
    """
    media = media or MediaConfig()
    name, gender = shipped_facts(avatar_id)
    ref = AvatarRef(avatar_id, _version(avatar_id, name, gender, shipped_digest(avatar_id), size, media))
    if store.holds(ref):
        return ref
    with _one_process(ref):
        if store.holds(ref):
            return ref
        steps = _Steps(None)
        shipped = shipped_portrait(avatar_id)
        source = _Source(
            shipped.id, shipped.name, shipped.gender, True, shipped.sha256, shipped.portrait, shipped.landmarks, shipped.portrait_png, {}
        )
        _make(source, size, store, media, steps)
        logger.info("built-in avatar prepared: id=%s version=%s size=%d %s", ref.id, ref.version, size, steps)
    return ref


def is_current(meta: AvatarMeta) -> bool:
    """Whether an avatar was prepared by the animator that is installed; if not, `refresh` mends it."""
    return meta.engines.get(ANIMATOR) == animator_version()


def refresh(avatar_id: str, store: AvatarStore, media: MediaConfig | None = None) -> AvatarRef:
    """Prepare an avatar again from its stored portrait if another version of the animator prepared it. Detects nothing.

    Raises:
        UnknownAvatarError: no such avatar. EngineError: its files are damaged.
    """
    meta = store.meta(avatar_id)
    if is_current(meta):
        return meta.ref
    if meta.builtin:
        return prepare_builtin(avatar_id, store, meta.size, media)
    avatar = store.load(avatar_id, meta.version)
    picture = cv2.imdecode(np.frombuffer(avatar.portrait_png, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise EngineError(f"avatar {avatar_id!r}: portrait.png cannot be decoded")
    rgb = np.asarray(picture[:, :, ::-1], np.uint8)
    source = _Source(meta.id, meta.name, meta.gender, False, meta.source_sha256, rgb, avatar.landmarks, avatar.portrait_png, meta.report)
    steps = _Steps(None)
    ref = _make(source, meta.size, store, media or MediaConfig(), steps)
    logger.info("avatar prepared again: id=%s version=%s %s", ref.id, ref.version, steps)
    return ref


@cache
def animator_version() -> str:
    """Changes with the animator's code, because idle loop, rig and drawing must agree to the pixel."""
    folder = Path(animator.__file__).parent
    return content_version(*(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))))


class _Steps:
    """Times each step and reports progress."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self.ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str, done: float) -> Iterator[None]:
        if self._progress is not None:
            self._progress(step, done)
        began = time.perf_counter()
        yield
        self.ms[step] = (time.perf_counter() - began) * 1000

    def __str__(self) -> str:
        return " ".join(f"{step.replace(' ', '_')}_ms={ms:.0f}" for step, ms in self.ms.items())


def _make(source: _Source, size: int, store: AvatarStore, media: MediaConfig, steps: _Steps) -> AvatarRef:
    with steps("rig", 0.15):
        rig = Rig.build(source.portrait, source.landmarks, size)
    with steps("draw the idle loop", 0.2):
        background = idle_loop(rig)
    with steps("encode the idle loop", 0.6):
        idle = encode_idle(background, media)
    with steps("save", 0.9):
        prepared = PreparedAvatar(
            id=source.id,
            version=_version(source.id, source.name, source.gender, source.sha256, size, media),
            name=source.name,
            gender=source.gender,
            size=size,
            source_sha256=source.sha256,
            portrait_png=source.portrait_png,
            landmarks=source.landmarks,
            background=background,
            engines={ANIMATOR: EngineParts(animator_version(), rig.box, rig.to_arrays())},
            idle=StoredIdle(init=idle.init, segments=tuple(idle.segments), mp4=idle.mp4),
            builtin=source.builtin,
            report=source.report,
        )
        return store.save(prepared)


def _version(avatar_id: str, name: str, gender: str, sha256: str, size: int, media: MediaConfig) -> str:
    return content_version(PREPARATION, animator_version(), avatar_id, name, gender, sha256, size, media.model_dump_json())


def _check_request(avatar_id: str, gender: str) -> None:
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


@contextmanager
def _one_process(ref: AvatarRef) -> Iterator[None]:
    """Held by one process of the machine at a time."""
    with open(Path(tempfile.gettempdir()) / f"museserve-{os.getuid()}-{ref.id}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed, also when the process dies
        yield
