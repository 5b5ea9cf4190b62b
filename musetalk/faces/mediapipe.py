"""Faces in a picture: 478 landmarks, pose and expression, by MediaPipe's face landmarker (Apache-2.0, shipped in `data/`)."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from museserve.errors import EngineError
from museserve.messages import ByteArray, FloatArray

MODEL = Path(__file__).parent.parent / "data" / "face_landmarker.task"
N_LANDMARKS = 478
MAX_FACES = 6
SCAN_SIDE = 1600  # the search looks at a picture of at most this many pixels a side; landmarks come from the full one
CROP_SIDE = 768
CROP_REACH = 2.0  # side of the crop around a face, in face sizes: where the landmarker is steadiest
SAME_FACE_IOU = 0.3
SAME_ROLL = 20.0
IRIS_MM, FACE_MM = 63.0, 168.0  # between the irises; landmark 10 to 152

# Lines that MediaPipe and TensorFlow Lite write past Python's stderr while they start.
CHATTER = re.compile(rb"(WARNING: (Logging|All log messages) before|INFO: Created TensorFlow Lite|[IWE]\d{4} \d\d:\d\d:\d|[IWE]\d{4} \d{5,})")


@dataclass(frozen=True, eq=False)
class Face:
    """One face. landmarks: float32 (478, 3) pixels of the picture (depth in the same unit, towards the viewer negative).

    yaw, pitch, roll: degrees as seen along the line to the face. yaw > 0: turned to the picture's right; pitch > 0: raised; roll > 0: tilted
    counter-clockwise in the picture. A face that looks straight at the camera has a pitch near -10 by this model.
    blendshapes: MediaPipe's expression scores, name -> 0..1.
    """

    landmarks: FloatArray
    yaw: float
    pitch: float
    roll: float
    blendshapes: dict[str, float] = field(repr=False)

    @cached_property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of all landmarks."""
        (x0, y0), (x1, y1) = self.landmarks[:, :2].min(0), self.landmarks[:, :2].max(0)
        return float(x0), float(y0), float(x1), float(y1)

    @property
    def area(self) -> float:
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)

    @property
    def span_px(self) -> float:
        """Distance of the irises' middles, pixels; where a turned head brings them together, by the face's height."""
        points = self.landmarks[:, :2]
        irises, height = (float(np.linalg.norm(points[a] - points[b])) for a, b in ((468, 473), (10, 152)))
        return max(irises / IRIS_MM, height / FACE_MM) * IRIS_MM


class FaceDetector:
    """The detector. Thread-safe: one picture at a time. Loading takes about a second, of which most is MediaPipe's import."""

    def __init__(self, model: Path = MODEL) -> None:
        if not model.is_file():
            raise EngineError(f"the face landmarker's model file {model.name} is missing from the installation")
        self._lock = threading.Lock()
        with quiet_stderr():
            from mediapipe import Image, ImageFormat
            from mediapipe.tasks.python import BaseOptions, vision

            options = vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_buffer=model.read_bytes()),
                num_faces=MAX_FACES,
                output_face_blendshapes=True,
                output_facial_transformation_matrixes=True,
            )
            self._landmarker: Any = vision.FaceLandmarker.create_from_options(options)
            self._wrap: Callable[[ByteArray], Any] = lambda rgb: Image(image_format=ImageFormat.SRGB, data=rgb)
            self._landmarker.detect(self._wrap(np.zeros((64, 64, 3), np.uint8)))  # its threads speak up at the first picture
        atexit.register(self._abandon)

    def find(self, rgb: ByteArray) -> list[Face]:
        """All faces in an RGB picture uint8 (h, w, 3), the largest first; small ones in large pictures too."""
        scale = min(1.0, SCAN_SIDE / max(rgb.shape[:2]))
        scanned = _shrunk(rgb, scale)
        faces: list[Face] = []
        for tiles in _tile_levels(scanned.shape[1], scanned.shape[0]):
            for x, y, side_x, side_y in tiles:
                for candidate in self._run(scanned[y : y + side_y, x : x + side_x]):
                    x0, y0, x1, y1 = candidate.box
                    around = ((x + x0) / scale, (y + y0) / scale, (x + x1) / scale, (y + y1) / scale)
                    if any(iou(around, face.box) > SAME_FACE_IOU for face in faces):
                        continue
                    face = self._refine(rgb, around)
                    if face is not None and not any(iou(face.box, other.box) > SAME_FACE_IOU for other in faces):
                        faces.append(face)
            if len(faces) > 0 and tiles[0][2] < scanned.shape[1]:
                break  # parts of the picture were searched as well
        return sorted(faces, key=lambda face: -face.area)

    def detect(self, rgb: ByteArray, around: tuple[float, float, float, float] | None = None) -> list[Face]:
        """Upright faces that one look sees, for frame after frame of a clip: in the whole picture, or near where a face was before.

        Args:
            rgb: uint8 (h, w, 3); around: x0, y0, x1, y1 of the face seen before.
        """
        if around is None:
            scale = min(1.0, SCAN_SIDE / max(rgb.shape[:2]))
            origin = np.zeros(3, np.float32)
            faces = self._run(_shrunk(rgb, scale))
        else:
            cut = _cut_around(rgb, around)
            if cut is None:
                return []
            crop, scale, origin = cut
            faces = self._run(crop)
        return sorted((_moved(face, scale, origin) for face in faces), key=lambda face: -face.area)

    def close(self) -> None:
        """Free the model. The detector cannot be used afterwards."""
        atexit.unregister(self._abandon)
        with self._lock:
            landmarker, self._landmarker = self._landmarker, None
        if landmarker is not None:
            landmarker.close()

    def _abandon(self) -> None:
        """At exit MediaPipe's own finaliser fails, because Python's thread pools are gone by then; the system frees the model."""
        if self._landmarker is not None:
            self._landmarker._handle = None

    def _refine(self, rgb: ByteArray, around: tuple[float, float, float, float]) -> Face | None:
        """The face again, from a crop at full resolution with the face in its middle; None when there is none after all."""
        cut = _cut_around(rgb, around)
        if cut is None:
            return None
        crop, scale, origin = cut
        wanted = tuple((v - origin[i % 2]) * scale for i, v in enumerate(around))
        best = self._detect_right_way_up(crop, wanted)
        return None if best is None else _moved(best, scale, origin)

    def _detect_right_way_up(self, crop: ByteArray, around: tuple[float, ...]) -> Face | None:
        """The face at `around`, looked for with the crop turned all four ways.

        The landmarker lays an upright face over one that stands on its head, and just as well. Turned by a quarter it is not fooled, so
        the tilt that the four agree on best is the true one.
        """
        votes: list[tuple[int, Face]] = []
        for quarters in range(4):
            found = [_turned_back(face, quarters, crop.shape[1], crop.shape[0]) for face in self._run(np.rot90(crop, quarters))]
            near = [face for face in found if iou(face.box, around) > 0]
            if near:
                votes.append((quarters, max(near, key=lambda face: iou(face.box, around))))

        def agree(a: Face, b: Face) -> float:
            return iou(a.box, b.box) if abs((a.roll - b.roll + 180) % 360 - 180) < SAME_ROLL else 0.0

        def tilt_when_seen(vote: tuple[int, Face]) -> float:  # the nearer to upright, the more exact
            return abs((vote[1].roll + 90 * vote[0] + 180) % 360 - 180)

        if not votes:
            return None
        chosen = max(votes, key=lambda vote: sum(agree(vote[1], other) for _, other in votes))[1]
        return min((vote for vote in votes if agree(vote[1], chosen)), key=tilt_when_seen)[1]

    def _run(self, rgb: ByteArray) -> list[Face]:
        with self._lock:
            if self._landmarker is None:
                raise EngineError("the face detector was closed")
            result = self._landmarker.detect(self._wrap(np.ascontiguousarray(rgb)))
        height, width = rgb.shape[:2]
        faces = []
        for points, matrix, scores in zip(result.face_landmarks, result.facial_transformation_matrixes, result.face_blendshapes, strict=True):
            landmarks = np.array([(p.x * width, p.y * height, p.z * width) for p in points], np.float32)
            if len(landmarks) == N_LANDMARKS and np.isfinite(landmarks).all():
                faces.append(Face(landmarks, *_angles(np.asarray(matrix)), {s.category_name: float(s.score) for s in scores}))
        return faces


_shared, _shared_lock = cache(FaceDetector), threading.Lock()


def shared_detector() -> FaceDetector:
    """A detector that the process shares and loads at first use."""
    with _shared_lock:
        return _shared()


def find_faces(rgb: ByteArray) -> list[Face]:
    """`FaceDetector.find` on the shared detector."""
    return shared_detector().find(rgb)


def mesh_of(faces: Iterable[Face | None]) -> FloatArray:
    """x, y of all landmarks of each face: float32 (n, 478, 2), NaN for None."""
    unseen = np.full((N_LANDMARKS, 2), np.nan, np.float32)
    return np.stack([unseen if face is None else face.landmarks[:, :2] for face in faces])


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keep native start-up chatter off standard error; everything else that was written meanwhile is passed on afterwards."""
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            caught.seek(0)
            kept = b"".join(line for line in caught if not CHATTER.match(line))
            if kept:
                os.write(2, kept)


def _shrunk(rgb: ByteArray, scale: float) -> ByteArray:
    return rgb if scale == 1.0 else np.asarray(cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def _cut_around(rgb: ByteArray, around: tuple[float, float, float, float]) -> tuple[ByteArray, float, FloatArray] | None:
    """A crop with a face in its middle, its scale and where it begins (x, y, 0); None when hardly any of it lies in the picture."""
    x0, y0, x1, y1 = around
    side = max(x1 - x0, y1 - y0) * CROP_REACH
    begin = (x0 + x1 - side) / 2, (y0 + y1 - side) / 2
    (left, top), (right, bottom) = map(int, begin), (int(v + side) + 1 for v in begin)
    a, b, c, d = max(0, left), max(0, top), min(rgb.shape[1], right), min(rgb.shape[0], bottom)
    if c - a < 16 or d - b < 16:
        return None
    crop = cv2.copyMakeBorder(rgb[b:d, a:c], b - top, bottom - d, a - left, right - c, cv2.BORDER_REPLICATE)
    origin = np.array([left, top, 0], np.float32)
    scale = min(1.0, CROP_SIDE / max(crop.shape[:2]))
    return _shrunk(np.asarray(crop, np.uint8), scale), scale, origin


def _moved(face: Face, scale: float, origin: FloatArray) -> Face:
    return replace(face, landmarks=np.asarray(face.landmarks / np.float32(scale) + origin, np.float32))


def _tile_levels(width: int, height: int) -> list[list[tuple[int, int, int, int]]]:
    """What to search, coarse to fine, as lists of x, y, w, h: the whole, then overlapping squares, each level half the size."""
    levels = [[(0, 0, width, height)]]
    longest = max(width, height)
    for parts in (2, 4):
        side = min(longest // parts, width, height)
        if side < 160:
            break
        xs, ys = _starts(width, side), _starts(height, side)
        levels.append([(x, y, side, side) for y in ys for x in xs])
    return levels


def _starts(extent: int, side: int) -> list[int]:
    count = max(1, -(-2 * (extent - side) // side) + 1)
    return [round(i * (extent - side) / max(1, count - 1)) for i in range(count)]


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two x0, y0, x1, y1."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def _turned_back(face: Face, quarters: int, width: int, height: int) -> Face:
    """A face found in `np.rot90(picture, quarters)`, in the coordinates of the picture (width x height)."""
    if not quarters:
        return face
    x, y, z = face.landmarks.T
    back = {1: (width - y, x, z), 2: (width - x, height - y, z), 3: (y, height - x, z)}[quarters]
    return replace(face, landmarks=np.stack(back, 1), roll=(face.roll - 90 * quarters + 180) % 360 - 180)


def _angles(matrix: FloatArray) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees of MediaPipe's 4 x 4 pose (x right, y up, z to the viewer)."""
    yaw = np.arctan2(-matrix[2, 0], np.hypot(matrix[2, 1], matrix[2, 2]))
    pitch = -np.arctan2(matrix[2, 1], matrix[2, 2])
    roll = np.arctan2(matrix[1, 0], matrix[0, 0])
    return tuple(float(np.degrees(angle)) for angle in (yaw, pitch, roll))  # type: ignore[return-value]
