"""Where a face is in its portrait, and how large: the frame in which all shapes of the animator are given, in millimetres.

x runs along the line of the two irises, y down, origin at the middle of the mouth's corners. Landmark numbers are those of the
MediaPipe face mesh with irises (478 points).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from museserve.errors import ImageError
from musetalk.speech_cues.controls import JAW_MM

Array = NDArray[Any]

IRIS_CENTERS = (468, 473)
INNER_CORNERS = (78, 308)
OUTER_CORNERS = (61, 291)
FOREHEAD, CHIN = 10, 152
JAW_ANGLES = (172, 397)
EARS = (234, 454)
UPPER_LIP_EDGE, LOWER_LIP_EDGE = 0, 17
INNER_LIPS = (13, 14)

IRIS_DISTANCE_MM = 63.0
FACE_HEIGHT_MM = 168.0  # landmark 10 to the chin; protects turned heads, whose irises are close
INNER_SHARE = 0.75  # a corner lies between the inner and the outer contour's
MIN_UPPER_LIP_MM, MIN_LOWER_LIP_MM = 4.0, 5.0
CROWN_MM = 28.0  # landmark 10 is on the forehead; the head goes on
HEAD_WIDTH, HEAD_HEIGHT = 1.22, 1.12  # of the head's ellipse, against ears, and crown to chin
USUAL_CHIN_MM, JAW_FURTHER = 46.5, (0.9, 1.15)  # a jaw turns about its joint: a longer one carries its chin further, within these shares
MIN_EYES, MIN_FACE, MIN_CHIN_MM = 0.03, 0.1, 15.0  # of the picture's side; less is no face that looks at the camera


def smoothstep(t: Array) -> Array:
    """3t² - 2t³ of t clipped to 0..1."""
    t = np.minimum(np.maximum(t, 0.0), 1.0)  # of arrays as short as a mouth's columns many times faster than NumPy's own `clip`
    return t * t * (3.0 - 2.0 * t)


def ramp(x: Array | float, start: float | Array, width: float | Array) -> Array:
    """0 up to `start`, 1 from `start + width` on, smoothly between."""
    return smoothstep(np.asarray((x - start) / width))


def scalar_smoothstep(t: float) -> float:
    """`smoothstep` of one number, many times faster."""
    t = min(max(t, 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@dataclass(frozen=True)
class Anatomy:
    """The measures of one face. Lengths in mm unless the name says pixels.

    landmarks: (478, 2) pixel positions (pixel centres are whole numbers) in the output picture.
    origin: (2,) pixels; axes: (2, 2) unit vectors of x and y in the picture; scale: pixels per mm.
    half_width: mouth corner from the middle; chin: mouth to chin; jaw_half: half distance of the jaw's angles;
    upper_lip, lower_lip: height of the red of each lip.
    head_center: (2,) and head_axes: (2,) of the ellipse of the head, mm.
    """

    size: int
    landmarks: Array
    origin: Array
    axes: Array
    scale: float
    half_width: float
    chin: float
    jaw_half: float
    upper_lip: float
    lower_lip: float
    head_center: Array
    head_axes: Array

    @property
    def jaw_mm(self) -> float:
        """How far down the control `jaw` = 1 carries this chin."""
        least, most = JAW_FURTHER
        return JAW_MM * min(max(self.chin / USUAL_CHIN_MM, least), most)

    def to_mm(self, pixels: Array) -> Array:
        """(..., 2) pixel positions -> face frame."""
        mm: Array = ((pixels - self.origin) @ self.axes.T) / self.scale
        return mm

    def to_pixels(self, mm: Array) -> Array:
        """(..., 2) face frame -> pixel positions."""
        return self.vectors(mm) + self.origin

    def to_texture(self, mm: Array, texture_scale: float) -> Array:
        """(..., 2) face frame -> pixel positions in a texture of `texture_scale` times the output's size."""
        return (self.to_pixels(mm) + 0.5) * texture_scale - 0.5

    def from_texture(self, pixels: Array, texture_scale: float) -> Array:
        """The inverse of `to_texture`."""
        return self.to_mm((pixels + 0.5) / texture_scale - 0.5)

    def corners(self, low: tuple[float, float], high: tuple[float, float]) -> Array:
        """(4, 2) pixel positions of the corners of a rectangle in the face frame."""
        return self.to_pixels(np.array([(x, y) for x in (low[0], high[0]) for y in (low[1], high[1])]))

    def vectors(self, mm: Array) -> Array:
        """(..., 2) displacements in the face frame -> displacements in pixels."""
        pixels: Array = (mm @ self.axes) * self.scale
        return pixels

    def at(self, *numbers: int) -> Array:
        """Landmarks (n, 2) in the face frame."""
        return self.to_mm(self.landmarks[list(numbers)])


def measure(landmarks: Array, size: int) -> Anatomy:
    """Measure a face.

    Args:
        landmarks: (478, 2) pixel positions in the output picture of `size` x `size`.
    Raises:
        ImageError: the points cannot be a face that looks at the camera.
    """
    eyes = landmarks[IRIS_CENTERS[1]] - landmarks[IRIS_CENTERS[0]]
    distance = float(np.hypot(*eyes))
    height = float(np.hypot(*(landmarks[FOREHEAD] - landmarks[CHIN])))
    if distance < MIN_EYES * size or height < MIN_FACE * size:
        apart = f"eyes {distance:.0f} px apart in a picture of {size} px; at least {MIN_EYES * size:.0f} are needed"
        raise ImageError(f"the face is too small or turned away: {apart}")
    x = eyes / distance
    axes = np.stack([x, np.array([-x[1], x[0]])])
    scale = max(distance / IRIS_DISTANCE_MM, height / FACE_HEIGHT_MM)

    inner, outer = landmarks[list(INNER_CORNERS)], landmarks[list(OUTER_CORNERS)]
    corners = INNER_SHARE * inner + (1 - INNER_SHARE) * outer
    origin = corners.mean(0)

    def mm(*numbers: int) -> Array:
        points: Array = ((landmarks[list(numbers)] - origin) @ axes.T) / scale
        return points

    chin = float(mm(CHIN)[0, 1])
    upper, lower = mm(UPPER_LIP_EDGE)[0, 1], mm(LOWER_LIP_EDGE)[0, 1]
    line = mm(*INNER_LIPS)[:, 1]
    if chin < MIN_CHIN_MM:
        raise ImageError("the chin is not below the mouth: the landmarks do not show an upright face")
    left, right = mm(*EARS)[:, 0]
    top = float(mm(FOREHEAD)[0, 1]) - CROWN_MM
    jaw = mm(*JAW_ANGLES)[:, 0]
    return Anatomy(
        size=size,
        landmarks=landmarks,
        origin=origin,
        axes=axes,
        scale=scale,
        half_width=float(np.hypot(*(corners[1] - corners[0]))) / 2 / scale,
        chin=chin,
        jaw_half=float(jaw[1] - jaw[0]) / 2,
        upper_lip=max(MIN_UPPER_LIP_MM, float(line[0] - upper)),
        lower_lip=max(MIN_LOWER_LIP_MM, float(lower - line[1])),
        head_center=np.array([(left + right) / 2, (chin + top) / 2]),
        head_axes=np.array([HEAD_WIDTH * (right - left) / 2, HEAD_HEIGHT * (chin - top) / 2]),
    )
