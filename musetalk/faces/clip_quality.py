"""Whether a clip makes a good avatar: measurements, warnings, and the refusals with their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from configs.models import ClipConfig
from museserve.errors import ClipError
from museserve.media.clip import ClipInfo
from museserve.timebase import FPS
from musetalk.faces.mediapipe import Face
from musetalk.faces.quality import CLOSED_EYES, CUT_OFF, LEVEL_PITCH, MOUTH_OPEN_MM, FaceReport, blink, lip_gap_mm, outside
from musetalk.faces.tracking import FaceTrack

MIN_IRIS_PX = 24.0  # a face box of about 70 pixels, of which 256 are drawn
GOOD_IRIS_PX = 60.0
GOOD_YAW = 15.0
MAX_PITCH, GOOD_PITCH = 40.0, 20.0
MAX_ROLL, GOOD_ROLL = 30.0, 12.0
SOFT = 30.0
SAME_SIZE = 0.8  # a second face this large, in parts of the first, leaves open who is meant
WORST = 98  # percentile of all frames that a limit is held against, so that one mistaken landmark refuses nothing
CUT_FRAMES = 0.02  # part of the frames in which the face may be cut off
TALKS = 0.2  # part of the frames with an open mouth


class ClipReport(BaseModel):
    """What was found in a clip. JSON-able; kept with the avatar. Angles in degrees, worst: of 98 % of the frames."""

    model_config = ConfigDict(frozen=True)

    picture: tuple[int, int] = Field(description="width, height of its frames in pixels, upright, as they are in the file")
    codec: str
    fps: float = Field(description="its mean frame rate")
    variable_rate: bool = Field(description="its frames do not come at regular times; they were resampled to 25 a second")
    rotation: int = Field(description="degrees it was turned clockwise, as its metadata ask for")
    damaged_frames: int
    seconds: float
    frames: int = Field(description="at 25 a second")
    people: int = Field(description="faces that are there for a good part of the clip; the largest is used")
    frames_without_face: int = Field(description="bridged from their neighbours")
    longest_gap: int = Field(description="frames of the longest stretch without the face")
    iris_px: float = Field(description="distance of the irises, pixels of the frames as they were read; median")
    yaw: float = Field(description="median, > 0 = turned to the picture's right")
    yaw_worst: float
    pitch: float = Field(description="median, from a level look, > 0 = raised")
    roll: float = Field(description="median, > 0 = tilted counter-clockwise")
    sharpness: float = Field(description=f"as for portraits; median of one frame a second; below {SOFT:.0f} is soft")
    brightness: float
    mouth_open: float = Field(description="part of the frames in which the mouth is open")
    eyes_closed: float = Field(description="part of the frames in which both eyes are closed")
    sway_px: float = Field(description="how far the head moves from its mean place; pixels of the frames as they were read")
    warnings: tuple[str, ...] = ()


def assess_clip(info: ClipInfo, track: FaceTrack, samples: Sequence[FaceReport], limits: ClipConfig) -> ClipReport:
    """Report on a clip.

    Args:
        track: the person's face in each frame. samples: what `quality.measure` saw in some frames.
    Raises:
        ClipError: no face, one that is missing for too long, several of the same size, or one that is too small, turned
            away, cut off or lies on its side.
    """
    faces = [face for face in track.faces if face is not None]
    gaps = _gaps(track.faces)
    _refuse_missing(info, track, gaps, limits)
    _refuse_pose(info, faces, limits)
    middles = np.array([face.landmarks[[468, 473], :2].mean(0) for face in faces])
    yaws, pitches, rolls = (np.array([getattr(face, name) for face in faces]) for name in ("yaw", "pitch", "roll"))
    report = ClipReport(
        picture=info.source if not info.rotation % 180 else info.source[::-1],
        codec=info.codec,
        fps=info.fps,
        variable_rate=info.variable,
        rotation=info.rotation,
        damaged_frames=info.damaged,
        seconds=round(info.seconds, 2),
        frames=info.n_frames,
        people=track.people,
        frames_without_face=len(track.faces) - len(faces),
        longest_gap=max((n for _, n in gaps), default=0),
        iris_px=round(float(np.median([face.span_px for face in faces])), 1),
        yaw=round(float(np.median(yaws)), 1),
        yaw_worst=round(_worst(yaws), 1),
        pitch=round(float(np.median(pitches)) - LEVEL_PITCH, 1),
        roll=round(float(np.median(rolls)), 1),
        sharpness=round(float(np.median([sample.sharpness for sample in samples])), 1),
        brightness=round(float(np.median([sample.brightness for sample in samples])), 1),
        mouth_open=round(float(np.mean([lip_gap_mm(face) > MOUTH_OPEN_MM for face in faces])), 2),
        eyes_closed=round(float(np.mean([min(blink(face)) > CLOSED_EYES for face in faces])), 2),
        sway_px=round(float(np.linalg.norm(middles - middles.mean(0), axis=1).mean()), 1),
    )
    return report.model_copy(update={"warnings": tuple(_warnings(report, info))})


def _gaps(faces: Sequence[Face | None]) -> list[tuple[int, int]]:
    """First frame and length of each stretch without a face."""
    runs = (list(run) for missing, run in groupby(range(len(faces)), lambda i: faces[i] is None) if missing)
    return [(run[0], len(run)) for run in runs]


def _refuse_missing(info: ClipInfo, track: FaceTrack, gaps: list[tuple[int, int]], limits: ClipConfig) -> None:
    missing = sum(n for _, n in gaps)
    if missing == len(track.faces):
        raise ClipError(
            f"no face was found in the clip ({info.n_frames} frames of {info.width} x {info.height} were searched); one person who looks at the "
            f"camera is needed, with at least {MIN_IRIS_PX:.0f} pixels between the eyes"
        )
    first, longest = max(gaps, key=lambda gap: gap[1], default=(0, 0))
    if longest > limits.bridge_s * FPS:
        raise ClipError(
            f"the face is missing for {longest / FPS:.2f} s from {first / FPS:.2f} s on; up to {limits.bridge_s:g} s in a stretch are bridged. "
            "Cut the clip to where the face is seen all the time"
        )
    if missing > limits.max_missing * len(track.faces):
        raise ClipError(
            f"the face is missing in {missing} of {len(track.faces)} frames; up to {100 * limits.max_missing:.0f} % are bridged. "
            "More light, or a larger face, helps"
        )
    if track.rival > SAME_SIZE:
        raise ClipError(
            f"{track.people} faces of about the same size are in the clip (the second has {100 * track.rival:.0f} % of the largest's area); "
            f"one person is needed, others may have up to {100 * SAME_SIZE:.0f} %"
        )


def _refuse_pose(info: ClipInfo, faces: list[Face], limits: ClipConfig) -> None:
    iris_px = float(np.median([face.span_px for face in faces]))
    if iris_px < MIN_IRIS_PX:
        raise ClipError(f"the face is too small: {iris_px:.0f} pixels between the eyes, at least {MIN_IRIS_PX:.0f} are needed; come closer")
    yaw = _worst(np.array([face.yaw for face in faces]))
    if abs(yaw) > limits.max_yaw:
        raise ClipError(
            f"the face is turned by {abs(yaw):.0f} degrees to the picture's {'right' if yaw > 0 else 'left'}; up to {limits.max_yaw:.0f} are accepted"
        )
    roll = float(np.median([face.roll for face in faces]))
    if abs(roll) > MAX_ROLL:
        raise ClipError(
            f"the person lies {abs(roll):.0f} degrees on the side, up to {MAX_ROLL:.0f} are accepted; "
            f"the clip's rotation ({info.rotation}) may be wrong"
        )
    pitch = _worst(np.array([face.pitch for face in faces]) - LEVEL_PITCH)
    if abs(pitch) > MAX_PITCH:
        raise ClipError(f"the head is {'raised' if pitch > 0 else 'lowered'} by {abs(pitch):.0f} degrees; up to {MAX_PITCH:.0f} are accepted")
    cut = [max(outside(face, info.width, info.height).values()) > CUT_OFF for face in faces]
    if np.mean(cut) > CUT_FRAMES:
        raise ClipError(f"the face is cut off by the picture's edge in {sum(cut)} of {len(faces)} frames; the whole face is needed all the time")


def _worst(values: NDArray[np.float64]) -> float:
    """The value farthest from 0 of 98 % of all, with its sign."""
    limit = float(np.percentile(np.abs(values), WORST))
    within = values[np.abs(values) <= limit]
    return float(within[np.argmax(np.abs(within))])


def _warnings(report: ClipReport, info: ClipInfo) -> list[str]:
    checks = (
        (report.people > 1, f"{report.people} people are in the clip; the one with the largest face is used"),
        (report.frames_without_face > 0, f"the face was not seen in {report.frames_without_face} frames, which were bridged"),
        (report.iris_px < GOOD_IRIS_PX, f"the face is small ({report.iris_px:.0f} pixels between the eyes; {GOOD_IRIS_PX:.0f} or more look sharp)"),
        (abs(report.yaw_worst) > GOOD_YAW, f"the head turns by up to {abs(report.yaw_worst):.0f} degrees; frontal clips speak best"),
        (abs(report.pitch) > GOOD_PITCH, f"the head is {'raised' if report.pitch > 0 else 'lowered'} by {abs(report.pitch):.0f} degrees"),
        (abs(report.roll) > GOOD_ROLL, f"the head is tilted by {abs(report.roll):.0f} degrees"),
        (report.sharpness < SOFT, f"the clip is soft (sharpness {report.sharpness:.0f}; {SOFT:.0f} or more is good)"),
        (report.brightness < 55, f"the face is dark (brightness {report.brightness:.0f} of 255)"),
        (report.brightness > 215, f"the face is very bright (brightness {report.brightness:.0f} of 255)"),
        (
            report.mouth_open > TALKS,
            f"the mouth is open in {100 * report.mouth_open:.0f} % of the frames, and shows so in pauses; film somebody who listens with closed lips",
        ),
        (report.eyes_closed > 0.5, f"the eyes are closed in {100 * report.eyes_closed:.0f} % of the frames"),
        (info.damaged > 0, f"{info.damaged} frames were damaged and left out"),
        (bool(info.hdr), f"the clip has a high dynamic range ({info.hdr}); its colours were brought into the ordinary one"),
        (info.fps < 20, f"the clip has {info.fps:g} frames a second and will stutter; 25 or more are smooth"),
    )
    return [text for when, text in checks if when]
