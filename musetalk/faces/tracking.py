"""The same person's face from frame to frame: whoever's is largest over the whole clip."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from museserve.messages import ByteArray
from museserve.timebase import FPS
from musetalk.faces.mediapipe import Face, FaceDetector, iou

SCAN_FRAMES = 12  # how often the whole frame is searched for others
SEARCH_FRAMES = 6  # and how often while nobody is seen at all
KEPT_FRAMES = 2 * FPS  # whoever was not seen for so long, and comes back, is somebody else
FOLLOWED = 3  # faces at once, the largest
SAME_FACE = 0.2  # IoU from one frame to the next
SHORT_LIVED = 0.1  # of the clip; a face seen for less is not counted: a poster, a mirror, a mistake


@dataclass(eq=False)
class _Track:
    seen: dict[int, Face] = field(default_factory=dict)

    @property
    def last(self) -> int:
        return max(self.seen)

    @property
    def face(self) -> Face:
        return self.seen[self.last]

    @property
    def area(self) -> float:
        return float(np.median([face.area for face in self.seen.values()]))


@dataclass(frozen=True)
class FaceTrack:
    """faces: the person's, one a frame, None where it was not seen. people: how many were seen for a good part of the clip.

    rival: area of the second largest person by that of the first.
    """

    faces: tuple[Face | None, ...]
    people: int
    rival: float


def track_face(frames: Iterable[ByteArray], detector: FaceDetector) -> FaceTrack:
    """Go through RGB frames uint8 (h, w, 3) once; no frame is kept."""
    tracks: list[_Track] = []
    n = 0
    for n, rgb in enumerate(frames, 1):
        _look(rgb, n - 1, tracks, detector)
    lasting = [track for track in tracks if len(track.seen) >= SHORT_LIVED * n]
    ranked = sorted(lasting, key=lambda track: -track.area * len(track.seen))
    if not ranked:
        return FaceTrack((None,) * n, 0, 0.0)
    person, *others = ranked
    at_once = [track for track in others if set(track.seen) & set(person.seen)]
    rival = max((track.area for track in at_once), default=0.0) / person.area
    return FaceTrack(tuple(person.seen.get(i) for i in range(n)), 1 + len(at_once), rival)


def _look(rgb: ByteArray, i: int, tracks: list[_Track], detector: FaceDetector) -> None:
    live = sorted((track for track in tracks if i - track.last <= KEPT_FRAMES), key=lambda track: -track.face.area)[:FOLLOWED]
    for track in live:
        near = [face for face in detector.detect(rgb, track.face.box) if iou(face.box, track.face.box) > SAME_FACE]
        if near:
            track.seen[i] = max(near, key=lambda face: iou(face.box, track.face.box))
    seen = [track for track in live if i in track.seen]
    if seen and i % SCAN_FRAMES or not seen and i % SEARCH_FRAMES:
        return
    found = detector.detect(rgb)
    if not found and not seen:
        found = detector.find(rgb)  # small faces, and tilted ones
    for face in found:
        if any(iou(face.box, track.seen[i].box) > SAME_FACE for track in tracks if i in track.seen):
            continue
        back = [track for track in live if i not in track.seen and iou(face.box, track.face.box) > SAME_FACE]
        if back:
            back[0].seen[i] = face
        else:
            tracks.append(_Track({i: face}))
