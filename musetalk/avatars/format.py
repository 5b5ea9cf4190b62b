"""A prepared avatar: what an engine and the composer need to draw a person, immutable and versioned by content."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from museserve.errors import EngineError, EngineUnavailableError, UnknownAvatarError
from museserve.media.background import Background
from museserve.media.idle_loop import Gesture
from museserve.messages import AvatarRef, Box, ByteArray, EngineInfo, FloatArray
from museserve.timebase import FPS
from musetalk.avatars import arrow_file

FORMAT = 1  # of the files below; an avatar of another format is prepared again
Gender = Literal["female", "male"]
Source = Literal["portrait", "clip"]

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")  # what callers name an avatar by
# A tenant's avatars lie in the store by its name and theirs, with a dot between; those of nobody in particular by theirs alone.
ID_PATTERN = re.compile(rf"(?:[a-z0-9][a-z0-9_-]{{0,31}}\.)?{NAME_PATTERN.pattern}")
ONE_OFF = "tmp-"  # names that begin so are of avatars that live as long as one request, held by a lease
ACCEPTED = "1 to 64 of a-z, 0-9, '-' and '_' are accepted, beginning with a letter or digit"
VERSION_PATTERN = re.compile(r"[0-9a-f]{16}")


class StoredFile(BaseModel):
    """What a file of an avatar must be, or it is not read."""

    model_config = ConfigDict(frozen=True)

    bytes: int = Field(ge=0)
    sha256: str


class AvatarMeta(BaseModel):
    """What is known of an avatar without opening its pictures. JSON-able; stored as `meta.json`."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    id: str
    version: str
    name: str
    gender: Gender
    builtin: bool = False
    size: int = Field(description="side of the square picture, pixels")
    fps: int = FPS
    n_frames: int = Field(description="frames of the idle loop")
    source: Source = "portrait"
    source_sha256: str = Field(description="of the picture or clip it was made from")
    settings: str = Field("", description="stands for the source and all settings, whichever engines it was prepared for")
    created: str = Field(description="ISO 8601, UTC")
    engines: dict[str, str] = Field(description="engine that it is prepared for -> version of that preparation")
    boxes: dict[str, tuple[int, int, int, int]] = Field(description="engine -> x, y, w, h of the part it redraws")
    report: dict[str, Any] = Field(default_factory=dict, description="what was found in the portrait or clip, and by which means")
    idle_segments: tuple[int, ...] = Field((), description="byte lengths of the pre-encoded idle loop's fragments")
    idle_steady: tuple[int, ...] = Field((), description="the same of those without a key frame; empty in avatars of before")
    idle_gestures: dict[str, tuple[tuple[int, tuple[int, ...]], ...]] | None = Field(
        None, description="state -> first segment and byte lengths of each gesture; None: prepared before there were any"
    )
    crf: int | None = Field(None, description="quantiser of the idle loop, and so of speech; None: `frames` are not what the loop shows")
    files: dict[str, StoredFile] = Field(default_factory=dict)

    @property
    def ref(self) -> AvatarRef:
        return AvatarRef(self.id, self.version)

    def to_json(self) -> dict[str, Any]:
        """What callers of the API see: all but how it is stored."""
        told = self.model_dump(mode="json", exclude={"format", "settings", "boxes", "idle_segments", "idle_steady", "idle_gestures", "crf", "files"})
        return told | {"id": name_of(self.id)}


class StoredIdle(TypedDict):
    """The idle loop encoded once: `init` and one fragment a segment for a live stream, `mp4` as a finished file.

    steady, gestures: segments for whoever saw the one before, as in `IdleLoop`; empty in avatars that were stored before there were any.
    """

    init: bytes
    segments: tuple[bytes, ...]
    steady: tuple[bytes, ...]
    gestures: Mapping[str, tuple[Gesture, ...]]
    mp4: bytes


@dataclass(frozen=True)
class EngineParts:
    """One engine's share of an avatar.

    mask: uint8 (h, w) of the box, or one a background frame (n, h, w), 255 = the crop; None where crops replace the whole box.
    faces: int32 (n, 4) x0, y0, x1, y1 on each background frame, for engines that draw the face at a size of their own.
    """

    version: str
    box: Box
    arrays: Mapping[str, NDArray[Any]]
    mask: ByteArray | None = None
    faces: NDArray[np.int32] | None = None


@dataclass(frozen=True, kw_only=True)
class AvatarSource:
    """What an avatar is made from, whatever it is prepared for: enough to prepare it again with no face detection.

    portrait_png: the framed portrait, or a frame of the clip; landmarks: float32 (478, 3) in pixels of that picture.
    report: what was found in the upload, JSON-able.
    Of a clip alone: order: int32 (m,), which frame stands at each place of its loop; track: float32 (n, 478, 2) in
    pixels of each frame, NaN where no face was seen.
    """

    id: str
    name: str
    gender: Gender
    source_sha256: str
    portrait_png: bytes
    landmarks: FloatArray
    source: Source = "portrait"
    builtin: bool = False
    report: Mapping[str, Any] = field(default_factory=dict)
    order: NDArray[np.int32] | None = None
    track: FloatArray | None = None

    @property
    def portrait(self) -> ByteArray:
        """`portrait_png` decoded: RGB uint8 (p, p, 3). Raises EngineError: it cannot be."""
        picture = cv2.imdecode(np.frombuffer(self.portrait_png, np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise EngineError(f"avatar {self.id!r}: portrait.png cannot be decoded")
        return np.asarray(picture[:, :, ::-1], np.uint8, order="C")


@dataclass(frozen=True, kw_only=True)
class PreparedAvatar(AvatarSource):
    """Everything `AvatarStore.save` writes.

    frames: I420 uint8 (n, size * 3 // 2, size), the idle loop as a viewer sees it: encoded with the quantiser `crf` and
    decoded again.
    settings: stands for the source and all settings, whichever engines it is prepared for.
    """

    version: str
    size: int
    frames: ByteArray
    engines: Mapping[str, EngineParts]
    idle: StoredIdle | None = None
    crf: int | None = None
    settings: str = ""


def _cut(joined: bytes, sizes: tuple[int, ...]) -> tuple[bytes, ...]:
    ends = np.cumsum((0, *sizes)).tolist()
    return tuple(joined[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True))


def to_png(rgb: ByteArray) -> bytes:
    """RGB uint8 (h, w, 3) as PNG. Raises EngineError."""
    done, data = cv2.imencode(".png", rgb[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 4])
    if not done:
        raise EngineError("the avatar's portrait cannot be written as PNG")
    return data.tobytes()


def tenant_of(avatar_id: str) -> str:
    """Whose avatar it is; "" = nobody's in particular."""
    return avatar_id.rpartition(".")[0]


def name_of(avatar_id: str) -> str:
    """What its tenant calls it."""
    return avatar_id.rpartition(".")[2]


def is_one_off(avatar_id: str) -> bool:
    return name_of(avatar_id).startswith(ONE_OFF)


def id_of(tenant: str, name: str) -> str:
    """The id of what a tenant calls `name`. Raises UnknownAvatarError: it cannot be a name."""
    if not NAME_PATTERN.fullmatch(name):
        raise UnknownAvatarError(f"{name[:80]!r} is not an avatar id: {ACCEPTED}")
    return f"{tenant}.{name}" if tenant else name


def check_id(avatar_id: str) -> str:
    """The id itself.

    Raises:
        UnknownAvatarError: it cannot be one, so no such avatar exists; nothing was looked up.
    """
    if not isinstance(avatar_id, str) or not ID_PATTERN.fullmatch(avatar_id):
        raise UnknownAvatarError(f"{str(avatar_id)[:80]!r} is not an avatar id: {ACCEPTED}")
    return avatar_id


def content_fault(size: int, sha256: str, expected: StoredFile) -> str:
    """What is wrong with a file of this size and digest; "" when nothing is."""
    if size != expected.bytes:
        return f"{size:,} bytes, {expected.bytes:,} were written"
    return "" if sha256 == expected.sha256 else "its content is not what was written"


def check_content(ref: AvatarRef, name: str, size: int, sha256: str, expected: StoredFile) -> None:
    """Raises EngineError, with the file's name, when it is not what was written."""
    if fault := content_fault(size, sha256, expected):
        raise EngineError(f"avatar {ref.id!r}: {name} is damaged: {fault}")


def content_version(*parts: object) -> str:
    """16 hex digits that stand for everything an avatar is made from."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


class Avatar:
    """One version of an avatar, opened lazily: a file is checked and mapped the first time its content is asked for.

    Thread-safe. Arrays are read-only and stay valid for as long as someone holds them, even when the avatar is deleted meanwhile.
    `open_file(name, expected)` returns a file as a `pyarrow.Buffer` that is what `expected` says, or raises EngineError;
    `opened(n)` is told each time n more bytes are held.
    """

    def __init__(self, meta: AvatarMeta, open_file: Callable[[str, StoredFile], Any], opened: Callable[[int], None] = lambda n: None) -> None:
        self.meta = meta
        self.ref = meta.ref
        self._open_file = open_file
        self._opened = opened
        self._lock = threading.Lock()
        self._buffers: dict[str, Any] = {}
        self._arrays: dict[str, dict[str, NDArray[Any]]] = {}

    @property
    def uploaded(self) -> bool:
        """Whether it was made of somebody's portrait or clip."""
        return not self.meta.builtin

    @property
    def nbytes(self) -> int:
        """Bytes of the files opened so far."""
        with self._lock:
            return sum(buffer.size for buffer in self._buffers.values())

    @property
    def frames(self) -> ByteArray:
        """The idle loop's frames, I420 uint8 (n, size * 3 // 2, size); n is `n_frames` when there is no `order`."""
        frames: ByteArray = self._read_arrays("background.arrow")["background"]
        order = self.order
        n = self.meta.n_frames if order is None else int(order.max(initial=-1)) + 1
        expected = (n, self.meta.size * 3 // 2, self.meta.size)
        if frames.shape != expected:
            raise EngineError(f"avatar {self.ref.id!r}: background.arrow holds {frames.shape}, its metadata says {expected}")
        return frames

    @property
    def order(self) -> NDArray[np.int32] | None:
        """int32 (n_frames,): which frame of `frames` stands at each place of the loop; None = each once."""
        order: NDArray[np.int32] | None = self._read_arrays("background.arrow").get("order")
        if order is not None and (order.shape != (self.meta.n_frames,) or order.min(initial=0) < 0):
            raise EngineError(f"avatar {self.ref.id!r}: background.arrow has an order of {order.shape}, its loop {self.meta.n_frames} frames")
        return order

    @property
    def portrait_png(self) -> bytes:
        return self._read("portrait.png")

    @property
    def landmarks(self) -> FloatArray:
        """float32 (478, 3), pixels of the framed portrait."""
        return self._read_arrays("landmarks.arrow")["landmarks"]

    @property
    def track(self) -> FloatArray | None:
        """float32 (n, 478, 2), the landmarks on each frame of `frames`, NaN where no face was seen; None for a portrait."""
        return self._read_arrays("landmarks.arrow").get("track")

    @property
    def idle(self) -> StoredIdle | None:
        """The pre-encoded idle loop, or None when the avatar was saved without one."""
        if "idle.mp4" not in self.meta.files:
            return None
        segments = _cut(self._read("idle.segments.mp4"), self.meta.idle_segments)
        steady = _cut(self._read("idle.steady.mp4"), self.meta.idle_steady) if self.meta.idle_steady else ()
        init, mp4 = self._read("idle.init.mp4"), self._read("idle.mp4")
        return StoredIdle(init=init, segments=segments, steady=steady, gestures=self._gestures(), mp4=mp4)

    def _gestures(self) -> dict[str, tuple[Gesture, ...]]:
        places = [(state, first, sizes) for state, made in (self.meta.idle_gestures or {}).items() for first, sizes in made]
        if not places:
            return {}
        segments = iter(_cut(self._read("idle.gestures.mp4"), tuple(size for _, _, sizes in places for size in sizes)))
        found: dict[str, tuple[Gesture, ...]] = {}
        for state, first, sizes in places:
            found[state] = (*found.get(state, ()), Gesture(first, tuple(islice(segments, len(sizes)))))
        return found

    def source(self) -> AvatarSource:
        """What it was made from. Raises EngineError: a file of that is missing or damaged."""
        shared = ("id", "name", "gender", "source_sha256", "source", "builtin", "report")
        return AvatarSource(
            **{name: getattr(self.meta, name) for name in shared},
            portrait_png=self.portrait_png,
            landmarks=self.landmarks,
            order=self.order if self.meta.source == "clip" else None,
            track=self.track,
        )

    def box(self, engine: str) -> Box:
        """Where this engine's crops go."""
        self._check_engine(engine)
        return Box(*self.meta.boxes[engine])

    def arrays(self, engine: str) -> dict[str, NDArray[Any]]:
        """The engine's own arrays, read-only."""
        self._check_engine(engine)
        return dict(self._read_arrays(f"engine-{engine}.arrow"))

    def mask(self, engine: str) -> ByteArray | None:
        """uint8 (h, w) or (n, h, w) of the engine's box, or None when crops replace the whole box."""
        return self._mask_file(engine).get("mask")

    def faces(self, engine: str) -> NDArray[np.int32] | None:
        """int32 (n, 4) x0, y0, x1, y1 on each frame of `frames`, or None when the engine's crops have its box's size."""
        return self._mask_file(engine).get("faces")

    def background(self, engine: str) -> Background:
        """What this engine's utterances are drawn on. Raises EngineError: not prepared for it, or a file is missing or damaged."""
        return Background(self.ref, self.frames, self.box(engine), self.mask(engine), self.faces(engine), self.order, self.meta.crf)

    def open_engines(self) -> None:
        """Open what the engines it is prepared for draw by. Raises EngineError."""
        for engine in self.meta.engines:
            self.arrays(engine)

    def open(self) -> None:
        """Open every file, so that each is checked and mapped before anyone waits for it. Raises EngineError."""
        for name in self.meta.files:
            with self._lock:
                _, new = self._buffer(name)
            self._opened(new)

    def verify(self) -> None:
        """Read every file once and keep none.

        Raises:
            EngineError: one is missing or damaged; the message names it.
        """
        for name in self.meta.files:
            self._checked(name)

    def require(self, engine: EngineInfo) -> None:
        """Raises EngineUnavailableError when the engine that runs cannot draw this avatar, with why that one runs."""
        if engine.name not in self.meta.engines:
            needs = "was made from a clip, which only MuseTalk can draw" if self.meta.source == "clip" else f"is not prepared for {engine.name}"
            raise EngineUnavailableError(f"avatar {self.ref.id!r} {needs}; this service draws with {engine.name} ({engine.reason})")

    def _check_engine(self, engine: str) -> None:
        if engine not in self.meta.engines:
            prepared = ", ".join(sorted(self.meta.engines)) or "none"
            raise EngineError(f"avatar {self.ref.id!r} is not prepared for the engine {engine!r}, only for: {prepared}")

    def _mask_file(self, engine: str) -> dict[str, NDArray[Any]]:
        self._check_engine(engine)
        name = f"mask-{engine}.arrow"
        return self._read_arrays(name) if name in self.meta.files else {}

    def _read(self, name: str) -> bytes:
        with self._lock:
            buffer, new = self._buffer(name)
        self._opened(new)
        return bytes(memoryview(buffer))

    def _read_arrays(self, name: str) -> dict[str, NDArray[Any]]:
        with self._lock:
            arrays, new = self._arrays.get(name), 0
            if arrays is None:
                buffer, new = self._buffer(name)
                try:
                    arrays = self._arrays[name] = arrow_file.from_buffer(buffer)
                except (ValueError, KeyError, TypeError) as error:
                    raise EngineError(f"avatar {self.ref.id!r}: {name} cannot be read: {error}") from None
        self._opened(new)  # outside the lock: the store trims itself here, and asks avatars for their size
        return arrays

    def _buffer(self, name: str) -> tuple[Any, int]:
        """The checked file and how many bytes are newly held for it."""
        buffer = self._buffers.get(name)
        if buffer is not None:
            return buffer, 0
        buffer = self._buffers[name] = self._checked(name)
        return buffer, buffer.size

    def _checked(self, name: str) -> Any:
        expected = self.meta.files.get(name)
        if expected is None:
            raise EngineError(f"avatar {self.ref.id!r} version {self.ref.version} has no file {name}")
        return self._open_file(name, expected)
