"""Whether a face in a picture makes a good avatar: measurements, warnings, and the refusals with their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from museserve.errors import ImageError
from museserve.messages import ByteArray, FloatArray
from musetalk.faces.mediapipe import IRIS_MM, Face

MIN_IRIS_PX = 40.0  # below, no resampling brings back a mouth
GOOD_IRIS_PX = 77.0  # what a 512 x 512 avatar shows
MAX_YAW = 15.0
GOOD_YAW = 8.0
LEVEL_PITCH, GOOD_PITCH = -10.0, 14.0  # the model's pitch of a level face, and how far off is still fine
LARGE_ROLL = 30.0
RIVAL_AREA = 0.35  # a second face this large, in parts of the first, leaves open who is meant
CUT_OFF = 0.02  # of the face's size outside the picture
CLOSED_EYES = 0.6  # blink score of both
MOUTH_CLOSED_MM, MOUTH_OPEN_MM, MOUTH_WIDE_MM = 1.5, 3.2, 14.0
GRID_PX = 77.0  # sharpness and light are measured at this iris distance, so that they do not depend on the photo's size
SOFT = 30.0
MIDDLE_GREY = 150.0
UNSEEN_CONTRAST = 0.12  # of an eye, in parts of the cheeks' brightness
OFF_COLOUR = 22.0  # CIE Lab distance from the cheeks, lightness counted half
DARK, BRIGHT, UNEVEN = 55.0, 215.0, 0.45
BLOWN = 0.05
GLASSES = 1.0

EYES = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382),
)
CHEEKS = (50, 280)
PATCHES = {"chin": 199, "upper lip": 164, "nose": 4}
OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)


class FaceReport(BaseModel):
    """What was found in a portrait. JSON-able; kept with the avatar."""

    model_config = ConfigDict(frozen=True)

    picture: tuple[int, int] = Field(description="width, height of the upload in pixels, upright")
    faces: int
    box: tuple[int, int, int, int] = Field(description="x, y, w, h of the face in the upload")
    iris_px: float = Field(description="distance of the irises in the upload, pixels")
    yaw: float = Field(description="degrees, > 0 = turned to the picture's right")
    pitch: float = Field(description="degrees from a level look, > 0 = raised")
    roll: float = Field(description="degrees, > 0 = tilted counter-clockwise")
    sharpness: float = Field(description=f"variance of the Laplacian at {GRID_PX:.0f} px between the eyes and middle grey; below {SOFT:.0f} is soft")
    brightness: float = Field(description="mean of the face, 0..255")
    light_balance: float = Field(description="darker half of the face by the brighter one; 1 = even")
    clipped: float = Field(description="part of the face that is pure white or black")
    mouth_gap_mm: float
    mouth: str = Field(description="closed, parted or open")
    eyes_open: float = Field(description="0..1")
    glasses: float = Field(description="how strongly an edge crosses the bridge of the nose; above 1 looks like a frame")
    blinks: bool = Field(True, description="whether the animator's eyes blink: not behind glasses whose rims it cannot trace")
    covered: tuple[str, ...] = Field(description="parts of the face that do not look like its cheeks")
    warnings: tuple[str, ...] = ()


def assess_portrait(rgb: ByteArray, faces: Sequence[Face]) -> tuple[Face, FaceReport]:
    """Choose the face that is meant and report on it.

    Args:
        rgb: uint8 (h, w, 3); faces: what `find_faces` saw in it, largest first.
    Raises:
        ImageError: no face, several that could be meant, or one that is too small, turned away, cut off or has its eyes closed.
    """
    height, width = rgb.shape[:2]
    if not faces:
        raise ImageError(
            f"no face was found in the picture ({width} x {height} pixels); one face that looks at the camera is needed, "
            f"upright, lit evenly, with at least {MIN_IRIS_PX:.0f} pixels between the eyes"
        )
    face = faces[0]
    rivals = [other for other in faces[1:] if other.area > RIVAL_AREA * face.area]
    if rivals:
        raise ImageError(
            f"{len(rivals) + 1} faces of similar size were found in the picture (the second has {100 * rivals[0].area / face.area:.0f} % of the "
            f"largest one's area); one person is needed, others may have up to {100 * RIVAL_AREA:.0f} %"
        )
    _refuse(face, width, height)
    report = measure(rgb, face, len(faces))
    if set(PATCHES) <= set(report.covered):
        raise ImageError("mouth and nose look covered (their colour is not that of the cheeks); a face without a mask or hand before it is needed")
    return face, report.model_copy(update={"warnings": tuple(_warnings(report, face, len(faces)))})


def _refuse(face: Face, width: int, height: int) -> None:
    beyond = outside(face, width, height)
    edge = max(beyond, key=lambda name: beyond[name])
    if beyond[edge] > CUT_OFF:
        raise ImageError(f"the face is cut off: {100 * beyond[edge]:.0f} % of it lies beyond the picture's {edge} edge; the whole face is needed")
    if face.span_px < MIN_IRIS_PX:
        raise ImageError(
            f"the face is too small: {face.span_px:.0f} pixels between the eyes, at least {MIN_IRIS_PX:.0f} are needed "
            f"and {GOOD_IRIS_PX:.0f} or more look best; take a larger picture or come closer"
        )
    if abs(face.yaw) > MAX_YAW:
        side = "right" if face.yaw > 0 else "left"
        raise ImageError(f"the face is turned {abs(face.yaw):.0f} degrees to the picture's {side}; up to {MAX_YAW:.0f} are accepted")
    if min(blink(face)) > CLOSED_EYES:
        raise ImageError(f"the eyes are closed (blink score {min(blink(face)):.2f}, up to {CLOSED_EYES} is accepted)")


def outside(face: Face, width: int, height: int) -> dict[str, float]:
    """How far the face reaches beyond each edge of the picture, in parts of its own size; negative inside."""
    x0, y0, x1, y1 = face.box
    w, h = x1 - x0, y1 - y0
    return {"left": -x0 / w, "right": (x1 - width) / w, "upper": -y0 / h, "lower": (y1 - height) / h}


def blink(face: Face) -> tuple[float, float]:
    """How closed each eye is, 0..1."""
    return face.blendshapes.get("eyeBlinkLeft", 0.0), face.blendshapes.get("eyeBlinkRight", 0.0)


def lip_gap_mm(face: Face) -> float:
    """Between the inner borders of the lips, in their middle."""
    return float(np.linalg.norm(face.landmarks[13, :2] - face.landmarks[14, :2]) / face.span_px * IRIS_MM)


def measure(rgb: ByteArray, face: Face, n_faces: int) -> FaceReport:
    """What can be measured of a face, without judging it."""
    grey, colour, points = _normalised(rgb, face)
    oval = np.zeros(grey.shape, np.uint8)
    cv2.fillConvexPoly(oval, np.round(points[list(OVAL)]).astype(np.int32), 255)
    skin = grey[oval > 0].astype(np.float64)
    middle = points[168, 0]
    columns = np.arange(grey.shape[1])[None, :]
    halves = [float(grey[(oval > 0) & (columns < middle)].mean()), float(grey[(oval > 0) & (columns >= middle)].mean())]
    inner = cv2.erode(oval, np.ones((9, 9), np.uint8)) > 0
    x0, y0, x1, y1 = face.box
    gap_mm = lip_gap_mm(face)
    return FaceReport(
        picture=(rgb.shape[1], rgb.shape[0]),
        faces=n_faces,
        box=(round(x0), round(y0), round(x1 - x0), round(y1 - y0)),
        iris_px=round(face.span_px, 1),
        yaw=round(face.yaw, 1),
        pitch=round(face.pitch - LEVEL_PITCH, 1),
        roll=round(face.roll, 1),
        sharpness=round(float(cv2.Laplacian(grey, cv2.CV_64F)[inner].var()) * (MIDDLE_GREY / max(float(skin.mean()), 20.0)) ** 2, 1),
        brightness=round(float(skin.mean()), 1),
        light_balance=round(min(halves) / max(max(halves), 1.0), 2),
        clipped=round(float(((skin > 252) | (skin < 3)).mean()), 3),
        mouth_gap_mm=round(gap_mm, 1),
        mouth="closed" if gap_mm < MOUTH_CLOSED_MM else "parted" if gap_mm < MOUTH_OPEN_MM else "open",
        eyes_open=round(1 - max(blink(face)), 2),
        glasses=round(_bridge_edge(grey, points), 2),
        covered=tuple(_covered(grey, colour, points)),
    )


def _normalised(rgb: ByteArray, face: Face) -> tuple[ByteArray, FloatArray, FloatArray]:
    """The upright face at `GRID_PX` between the eyes: grey (h, w), CIE Lab float32 (h, w, 3), landmarks (478, 2)."""
    scale = GRID_PX / face.span_px
    angle = np.radians(face.roll)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    corners = (turn @ face.landmarks[:, :2].T).T
    low, high = corners.min(0) - 8, corners.max(0) + 8
    matrix = np.column_stack([turn, -low])
    if scale < 1:
        rgb = np.asarray(cv2.GaussianBlur(rgb, (0, 0), 0.4 / scale), np.uint8)  # or fine texture would alias into false sharpness
    size = tuple(np.ceil(high - low).astype(int).tolist())
    upright = cv2.warpAffine(rgb, matrix, size, flags=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    grey = cv2.cvtColor(upright, cv2.COLOR_RGB2GRAY)
    lab = cv2.cvtColor(upright.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.asarray(grey, np.uint8), np.asarray(lab, np.float32), (corners - low).astype(np.float32)


def _bridge_edge(grey: ByteArray, points: FloatArray) -> float:
    """How sharp an edge runs across the nose between the eyes, against the face's contrast there; skin has none."""
    x, top = points[168, 0], points[9, 1]
    bottom = points[195, 1]
    strip = grey[max(0, int(top)) : int(bottom), max(0, int(x) - 3) : int(x) + 4].astype(np.float64)
    profile = cv2.GaussianBlur(strip.mean(1, keepdims=True), (1, 0), 0, sigmaY=0.8).ravel() if len(strip) > 4 else np.zeros(5)
    return float(np.abs(np.diff(profile)).max() / (0.09 * max(float(np.median(strip)) if strip.size else 1.0, 30.0)))


def _covered(grey: ByteArray, lab: FloatArray, points: FloatArray) -> list[str]:
    """Parts whose colour or light is far from the cheeks': a mask, a hand, hair, a beard, dark glasses."""
    cheeks = np.median([_patch(lab, points[i]) for i in CHEEKS], 0)
    light = float(np.median([grey[int(points[i, 1]), int(points[i, 0])] for i in CHEEKS]))
    found = []
    for name, index in PATCHES.items():
        patch = _patch(lab, points[index])
        distance = np.hypot(0.5 * (patch[0] - cheeks[0]), np.hypot(*(patch[1:] - cheeks[1:])))
        if distance > OFF_COLOUR:
            found.append(name)
    for name, eye in zip(("right eye", "left eye"), EYES, strict=True):
        mask = np.zeros(grey.shape, np.uint8)
        cv2.fillPoly(mask, [np.round(points[list(eye)]).astype(np.int32)], 255)
        inside = grey[mask > 0]
        contrast = float(np.percentile(inside, 90) - np.percentile(inside, 10)) if inside.size >= 8 else 0.0
        if contrast < UNSEEN_CONTRAST * light:
            found.append(name)
    return found


def _patch(lab: FloatArray, point: FloatArray) -> FloatArray:
    x, y = (int(v) for v in point)
    patch = lab[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4].reshape(-1, 3)
    return np.asarray(np.median(patch, 0), np.float32)


def _warnings(report: FaceReport, face: Face, n_faces: int) -> list[str]:
    checks = (
        (n_faces > 1, f"{n_faces} faces were found; the largest is used"),
        (report.iris_px < GOOD_IRIS_PX, f"the face is small ({report.iris_px:.0f} pixels between the eyes; {GOOD_IRIS_PX:.0f} or more look sharp)"),
        (abs(report.yaw) > GOOD_YAW, f"the head is turned by {abs(report.yaw):.0f} degrees; frontal pictures speak best"),
        (abs(report.pitch) > GOOD_PITCH, f"the head is {'raised' if report.pitch > 0 else 'lowered'} by {abs(report.pitch):.0f} degrees"),
        (abs(report.roll) > LARGE_ROLL, f"the picture was turned upright by {abs(report.roll):.0f} degrees"),
        (report.sharpness < SOFT, f"the picture is soft (sharpness {report.sharpness:.0f}; {SOFT:.0f} or more is good)"),
        (report.brightness < DARK, f"the face is dark (brightness {report.brightness:.0f} of 255)"),
        (report.brightness > BRIGHT, f"the face is very bright (brightness {report.brightness:.0f} of 255)"),
        (report.clipped > BLOWN, f"{100 * report.clipped:.0f} % of the face is pure white or black"),
        (
            report.light_balance < UNEVEN,
            f"the light is uneven: one side of the face has {100 * report.light_balance:.0f} % of the other's brightness",
        ),
        (report.mouth == "parted", f"the lips are a little apart ({report.mouth_gap_mm} mm); a closed mouth or a clear smile looks best"),
        (MOUTH_OPEN_MM <= report.mouth_gap_mm <= MOUTH_WIDE_MM, f"the mouth is open ({report.mouth_gap_mm} mm); a closed mouth looks best"),
        (report.mouth_gap_mm > MOUTH_WIDE_MM, f"the mouth is wide open ({report.mouth_gap_mm} mm): closing it will not look natural"),
        (max(blink(face)) > 0.45, "an eye is nearly closed"),
        (report.glasses > GLASSES, "the person seems to wear glasses; a face without any moves best"),
        (bool(report.covered), f"parts of the face look covered, bearded or shadowed: {', '.join(report.covered)}"),
    )
    return [text for when, text in checks if when]
