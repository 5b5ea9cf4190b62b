"""Where the face box lies on each frame of an avatar: landmarks by DWPose, else by MediaPipe, missing ones bridged, the path steadied."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from museserve.errors import ClipError
from museserve.messages import ByteArray, FloatArray
from musetalk.faces.box import Boxes, BoxRule, Points, bridge, ibug_box, is_usable, jitter, mesh_box, smooth_path, whole_pixels
from musetalk.faces.dwpose import DWPose
from musetalk.faces.mask import FaceBox
from musetalk.faces.mediapipe import iou

SAME_FACE = 0.3  # IoU of DWPose's box with MediaPipe's, below which it found somebody else
LOST = 0.5  # part of the frames in which DWPose must agree, or MediaPipe's landmarks are used for all


@dataclass(frozen=True)
class BoxTrack:
    """boxes: to cut and to paste, whole pixels. points: landmarks of each frame, (478, 2) or (68, 2), the nearest known ones where none were seen.

    jitter_before, jitter_after: `box.jitter` of the boxes by the published rule, which smooths nothing, and of these; pixels.
    """

    boxes: list[FaceBox]
    points: list[Points]
    landmarks: str
    bridged: int
    jitter_before: float
    jitter_after: float


def track_boxes(
    frames: Iterable[ByteArray],
    mesh: FloatArray,
    size: int,
    rule: BoxRule,
    *,
    loop: bool,
    dwpose: DWPose | None = None,
    tick: Callable[[int], None] = lambda n: None,
) -> BoxTrack:
    """The face box on each frame of an avatar.

    Args:
        frames: RGB uint8 (size, size, 3). mesh: MediaPipe's landmarks (n, 478, >= 2), NaN where no face was seen.
        loop: the frame after the last is the first; otherwise the frames are played forth and back. tick: told of each frame.
    Raises:
        ClipError: no box that can be used.
    """
    mesh_boxes = np.stack([mesh_box(points, rule.shift) for points in mesh])
    chosen, raw, points, name = mesh_boxes, mesh_boxes, list(mesh[:, :, :2]), "MediaPipe"
    if dwpose is not None:
        found = _by_dwpose(frames, mesh_boxes, rule, dwpose, tick)
        if np.mean(~np.isnan(found[0][:, 0])) >= LOST:
            (chosen, raw, points), name = found, "DWPose"
    known = ~np.isnan(chosen[:, 0])
    if not known.any():
        raise ClipError("no frame has a face box that can be used: the face begins left of the picture, or has no height")
    smoothed = smooth_path(bridge(chosen), loop=loop)
    nearest = np.abs(np.arange(len(known))[:, None] - np.flatnonzero(known)[None]).argmin(1)
    boxes = [whole_pixels(box, rule, size, size) for box in smoothed]
    published = [whole_pixels(box, rule, size, size) for box in bridge(raw)]
    return BoxTrack(
        boxes,
        [points[int(np.flatnonzero(known)[i])] for i in nearest],
        name,
        int((~known).sum()),
        round(jitter(np.array(published)), 3),
        round(jitter(np.array(boxes)), 3),
    )


def _by_dwpose(
    frames: Iterable[ByteArray], mesh_boxes: Boxes, rule: BoxRule, dwpose: DWPose, tick: Callable[[int], None]
) -> tuple[Boxes, Boxes, list[Points]]:
    """Boxes from exact points and from points cut to whole pixels as published, NaN where DWPose saw somebody else or nobody; and the points."""
    exact = np.full_like(mesh_boxes, np.nan)
    cut = exact.copy()
    points: list[Points] = []
    for i, (found, _) in enumerate(dwpose.faces(frames)):
        points.append(found)
        box = ibug_box(found, rule.shift)
        seen = mesh_boxes[i]
        if is_usable(box) and not np.isnan(seen[0]) and iou(tuple(box), tuple(seen)) > SAME_FACE:
            exact[i], cut[i] = box, ibug_box(found.astype(np.int32), rule.shift)
        tick(i + 1)
    return exact, cut, points
