"""From a clip to an avatar for MuseTalk: read twice, once to follow the face and judge, once to cut the square that is shown.

The background is the clip itself, played forth and back. Nothing but that square is kept in memory.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.models import ClipConfig, MediaConfig
from museserve.errors import ClipError, EngineError
from museserve.media.clip import ClipInfo, read_clip
from museserve.media.idle_loop import IdleLoop, encode_idle
from museserve.messages import AvatarRef, ByteArray
from museserve.runtime.foreign import READERS
from museserve.runtime.versions import stamp
from museserve.timebase import FPS, SEGMENT_FRAMES
from musetalk.avatars.assembly import PartsEncoder, encode_and_save
from musetalk.avatars.format import Avatar, AvatarSource, Gender, content_version, to_png
from musetalk.avatars.progress import Progress, Steps
from musetalk.avatars.store import AvatarStore
from musetalk.faces.clip_quality import ClipReport, assess_clip
from musetalk.faces.framing import EYES_X, EYES_Y, IRIS_SPAN
from musetalk.faces.mediapipe import Face, mesh_of, shared_detector
from musetalk.faces.quality import FaceReport, blink, lip_gap_mm, measure
from musetalk.faces.tracking import track_face

logger = logging.getLogger(__name__)

PREPARATION = 5  # of what this file does: raise it with any change to what it stores
KEPT_LIBRARIES = ("av", "mediapipe", "opencv-python")  # what encoded the idle loop, found the landmarks and cut the square
ROOM = 0.06  # of the square's side, kept around the face wherever it moves
TURN = SEGMENT_FRAMES // 2


@dataclass(frozen=True)
class Square:
    """What is cut from the clip's frames: x, y of its upper left corner and its side, pixels."""

    x: int
    y: int
    side: int


def prepare_clip(
    data: bytes,
    *,
    id: str,
    name: str = "",
    gender: Gender = "female",
    size: int = 512,
    store: AvatarStore,
    networks: PartsEncoder,
    limits: ClipConfig | None = None,
    media: MediaConfig | None = None,
    progress: Progress | None = None,
) -> tuple[AvatarRef, ClipReport]:
    """Make an avatar of a clip and store it. The same clip and settings again change nothing.

    Args:
        data: the bytes of a film; id, name, gender: of the avatar; size: side of its pictures in pixels.
        progress: told each step by name, with the part of the whole that is done; what it raises breaks off, and nothing is stored.
    Raises:
        ClipError: not a usable clip, or no usable face; the message says why. ConflictError: the store is full.
    """
    store.check_room(id)
    limits, media = limits or ClipConfig(), media or MediaConfig()
    steps = Steps(progress)
    with steps("read and follow the face", 0.0, 0.35) as tick:
        info, faces, report = _seen(data, limits, tick)
    n = loop_frames(len(faces))
    faces = faces[:n]
    square = clip_square(faces, info.width, info.height)
    with steps("read and cut", 0.35, 0.45) as tick:
        frames, poster = _cut_all(data, limits, square, size, n, _best(faces), tick)
    scale = size / square.side
    track = np.asarray((mesh_of(faces) - (square.x, square.y)) * scale, np.float32)
    order = forth_and_back(n)
    with steps("encode the idle loop", 0.45, 0.55):
        idle = encode_idle(frames, media, order)
    if square.side < size:
        text = f"the part of the clip that is shown has {square.side} pixels a side and is enlarged to {size}"
        report = report.model_copy(update={"warnings": (*report.warnings, text)})
    best = faces[_best(faces)]
    assert best is not None
    sha256 = hashlib.sha256(data).hexdigest()
    made_of = stamp(PREPARATION, *KEPT_LIBRARIES), id, name or id, gender, sha256, size
    settings = content_version(*made_of, limits.model_dump_json(), media.model_dump_json())
    source = AvatarSource(
        id=id,
        name=name or id,
        gender=gender,
        source_sha256=sha256,
        portrait_png=to_png(poster),
        landmarks=np.asarray((best.landmarks - (square.x, square.y, 0)) * scale, np.float32),
        source="clip",
        report=report.model_dump(mode="json"),
        order=order,
        track=track,
    )
    ref = encode_and_save(source, idle, {}, settings, store, networks, steps, 0.55, 0.95)
    logger.info("avatar prepared from a clip: id=%s version=%s frames=%d %s", ref.id, ref.version, n, steps)
    return ref, report


def again_from_frames(
    avatar: Avatar,
    store: AvatarStore,
    networks: PartsEncoder,
    media: MediaConfig,
    steps: Steps,
) -> AvatarRef:
    """An avatar made from a clip, with MuseTalk's share of it made anew.

    Its pictures stay as they are, if they are those that the loop shows.

    Raises:
        EngineError: its files are damaged, or memory does not suffice.
    """
    meta, idle, settings = avatar.meta, avatar.idle, avatar.meta.settings
    if avatar.track is None or idle is None:
        raise EngineError(f"avatar {meta.id!r} lacks its landmarks or its idle loop; make it again from its clip")
    if meta.crf is None or not meta.idle_steady:
        loop = encode_idle(avatar.frames, media, avatar.order)
        settings = content_version(stamp(PREPARATION, *KEPT_LIBRARIES), settings)
    else:
        loop = IdleLoop(**idle, shown=avatar.frames, crf=meta.crf)
    return encode_and_save(avatar.source(), loop, {}, settings, store, networks, steps)


def loop_frames(n: int) -> int:
    """The most of n frames whose way forth and back is a whole number of segments. The frames at both ends are shown once, so it has 2 n - 2."""
    return n - (n - 1) % TURN


def forth_and_back(n: int) -> NDArray[np.int32]:
    """int32 (2 n - 2,): 0, 1, .. n - 1, n - 2, .. 1."""
    return np.concatenate([np.arange(n), np.arange(n - 2, 0, -1)]).astype(np.int32)


def clip_square(faces: Sequence[Face | None], width: int, height: int) -> Square:
    """The square of the clip that is shown: framed as portraits are, large enough for the face wherever it moves, inside the picture.

    Raises:
        ClipError: the face moves further than the picture is high or wide.
    """
    seen = [face for face in faces if face is not None]
    span = float(np.median([face.span_px for face in seen]))
    eyes = np.median([face.landmarks[[468, 473], :2].mean(0) for face in seen], axis=0)
    boxes = np.array([face.box for face in seen])
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    side = float(min(width, height))
    needed = float((high - low).max()) / (1 - 2 * ROOM)
    if (high - low).max() > side:
        raise ClipError(
            f"the head moves too far: the face takes {high[0] - low[0]:.0f} x {high[1] - low[1]:.0f} pixels over the clip, and a square of "
            f"{side:.0f} is shown; film from farther off, or keep the head still"
        )
    side = min(side, max(span / IRIS_SPAN, needed))
    corner = eyes - np.array([EYES_X, EYES_Y]) * side
    room = min(ROOM * side, float(side - (high - low).max()) / 2)
    corner = np.clip(corner, high + room - side, low - room)
    x, y = (int(np.clip(round(float(v)), 0, extent - int(side))) for v, extent in zip(corner, (width, height), strict=True))
    return Square(x, y, int(side))


def _seen(data: bytes, limits: ClipConfig, tick: Callable[[float], None]) -> tuple[ClipInfo, tuple[Face | None, ...], ClipReport]:
    """The first reading: what the clip is, the face in each frame, the report."""
    detector = shared_detector()
    info: list[ClipInfo] = []
    samples: list[FaceReport] = []
    most = limits.max_s * FPS

    def read() -> Iterator[ByteArray]:
        fields = yield from _read(data, limits)
        info.append(ClipInfo(**{**fields, "source": tuple(fields["source"])}))

    def frames() -> Iterator[ByteArray]:
        for n, rgb in enumerate(read()):
            if n % FPS == 0:
                found = detector.detect(rgb)
                samples.extend(measure(rgb, face, len(found)) for face in found[:1])
            yield rgb
            tick((n + 1) / most)

    track = track_face(frames(), detector)
    return info[0], track.faces, assess_clip(info[0], track, samples, limits)


def _read(data: bytes, limits: ClipConfig) -> Generator[ByteArray, None, dict[str, Any]]:
    """`read_clip` in a process of its own; the fields of what it returns."""
    return READERS.items(ClipError, "the clip", read_clip, data, limits)


def _cut_all(
    data: bytes, limits: ClipConfig, square: Square, size: int, n: int, poster: int, tick: Callable[[float], None]
) -> tuple[ByteArray, ByteArray]:
    """The second reading: the background, I420 uint8 (n, size * 3 // 2, size), and one of its frames in RGB."""
    background = np.empty((n, size * 3 // 2, size), np.uint8)
    picture = np.empty((size, size, 3), np.uint8)
    for i, rgb in zip(range(n), _read(data, limits), strict=False):
        cut = rgb[square.y : square.y + square.side, square.x : square.x + square.side]
        fitted = np.asarray(cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA if square.side > size else cv2.INTER_CUBIC), np.uint8)
        background[i] = cv2.cvtColor(fitted, cv2.COLOR_RGB2YUV_I420)
        if i == poster:
            picture = fitted
        tick((i + 1) / n)
    return background, picture


def _best(faces: Sequence[Face | None]) -> int:
    """The frame that shows the person best: straight, eyes open, lips closed."""

    def cost(face: Face | None) -> float:
        return float("inf") if face is None else abs(face.yaw) / 10 + 4 * max(blink(face)) + lip_gap_mm(face) / 2

    return int(np.argmin([cost(face) for face in faces]))
