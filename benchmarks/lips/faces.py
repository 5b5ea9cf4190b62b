"""The face in each frame of a film, by MediaPipe's face landmarker, and the distances that are read off it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from museserve.messages import ByteArray
from musetalk.faces.mediapipe import MODEL, N_LANDMARKS, quiet_stderr

Curve = NDArray[np.float64]

LIP_PAIRS = ((82, 87), (13, 14), (312, 317))  # inner contour, upper and lower
EYE_CORNERS = (33, 263)  # outer ones: their distance is the unit of everything below
EYES = ((159, 145, 33, 133), (386, 374, 362, 263))  # upper lid, lower lid, corners
# Moves with the head alone: forehead, eye corners. The bridge of the nose and the hairline do too, but the landmarker guesses at them from the
# whole face: on heads that are drawn perfectly still and speak, their second difference is 0.4 to 0.7 % of the eye span, that of these 0.2 to 0.4.
SKULL = (9, 33, 108, 133, 151, 263, 337, 362)


@dataclass(frozen=True)
class Seen:
    """One detection. points: (478, 2) pixels; jaw_open, blink: MediaPipe's scores 0..1."""

    points: NDArray[np.float32]
    jaw_open: float
    blink: float


class FaceReader:
    """The landmarker on single pictures, with no memory from one to the next."""

    def __init__(self) -> None:
        with quiet_stderr():
            from mediapipe import Image, ImageFormat
            from mediapipe.tasks.python import BaseOptions, vision

            options = vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_buffer=MODEL.read_bytes()), num_faces=1, output_face_blendshapes=True
            )
            self._landmarker: Any = vision.FaceLandmarker.create_from_options(options)
            self._wrap = lambda rgb: Image(image_format=ImageFormat.SRGB, data=np.ascontiguousarray(rgb))
            self._landmarker.detect(self._wrap(np.zeros((64, 64, 3), np.uint8)))

    def read(self, rgb: ByteArray) -> Seen | None:
        """The face in an RGB picture (h, w, 3), or None."""
        found = self._landmarker.detect(self._wrap(rgb))
        if not found.face_landmarks:
            return None
        height, width = rgb.shape[:2]
        points = np.array([(p.x * width, p.y * height) for p in found.face_landmarks[0]], np.float32)
        scores = {score.category_name: float(score.score) for score in found.face_blendshapes[0]}
        return Seen(points, scores["jawOpen"], (scores["eyeBlinkLeft"] + scores["eyeBlinkRight"]) / 2)

    def close(self) -> None:
        self._landmarker.close()


@dataclass(frozen=True)
class FaceTrack:
    """points: (n, 478, 2) pixels; jaw_open, blink: (n,). NaN where there is no face or nobody looked."""

    points: NDArray[np.float32]
    jaw_open: Curve
    blink: Curve

    @classmethod
    def of(cls, seen: Sequence[Seen | None]) -> FaceTrack:
        nothing = Seen(np.full((N_LANDMARKS, 2), np.nan, np.float32), np.nan, np.nan)
        faces = [face or nothing for face in seen]
        return cls(np.stack([f.points for f in faces]), np.array([f.jaw_open for f in faces]), np.array([f.blink for f in faces]))

    def take(self, which: NDArray[np.bool_]) -> FaceTrack:
        return FaceTrack(self.points[which], self.jaw_open[which], self.blink[which])

    @property
    def found(self) -> NDArray[np.bool_]:
        return np.isfinite(self.jaw_open)

    @property
    def unit_px(self) -> float:
        """The eye span: median distance of the outer eye corners."""
        a, b = EYE_CORNERS
        return float(np.nanmedian(self._distance(a, b)))

    @property
    def lip_gap(self) -> Curve:
        """(n,) mean distance of the inner lip contours, in eye spans."""
        return np.asarray(np.mean([self._distance(a, b) for a, b in LIP_PAIRS], axis=0) / self.unit_px)

    @property
    def eye_opening(self) -> Curve:
        """(n,) height over width of the eyes."""
        return np.asarray(np.mean([self._distance(up, low) / self._distance(left, right) for up, low, left, right in EYES], axis=0))

    @property
    def skull(self) -> Curve:
        """(n, k, 2) points that move with the head alone, in eye spans."""
        return np.asarray(self.points[:, list(SKULL)] / self.unit_px, np.float64)

    def _distance(self, a: int, b: int) -> Curve:
        return np.asarray(np.linalg.norm(self.points[:, a] - self.points[:, b], axis=1), np.float64)
