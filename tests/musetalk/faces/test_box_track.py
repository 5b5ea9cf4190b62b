"""Whose landmarks make the boxes, and how much steadier the smoothed path is than the published one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'museserve[neural]'")

from museserve.errors import ClipError  # noqa: E402
from musetalk.faces.bisenet import LOWER_LIP, NOSE, SKIN  # noqa: E402
from musetalk.faces.box import BoxRule, jitter, whole_pixels  # noqa: E402
from musetalk.faces.box_track import track_boxes  # noqa: E402
from musetalk.faces.drawn_classes import drawn_classes, five_points  # noqa: E402
from musetalk.faces.dwpose import DWPose  # noqa: E402
from tests.musetalk.faces.test_box import face  # noqa: E402

SIZE = 512
N = 61
FRAMES = [np.zeros((4, 4, 3), np.uint8)] * N


def moving(n: int = N) -> np.ndarray:
    """68 points that sway slowly."""
    t = np.linspace(0, 2 * np.pi, n)
    return face()[None] + np.stack([12 * np.sin(t), 6 * np.cos(t)], -1)[:, None]


def mesh_like(points: np.ndarray) -> np.ndarray:
    """MediaPipe's 478 landmarks with the box of these 68 points."""
    mesh = np.repeat(points[:, 29:30], 478, axis=1)
    mesh[:, [234, 127, 93, 132], 0], mesh[:, [454, 356, 323, 361], 0] = points[:, 0, None, 0], points[:, 16, None, 0]
    mesh[:, [152, 148, 377], 1] = points[:, 8, None, 1]
    return mesh.astype(np.float32)


class Seen(DWPose):
    """DWPose on a frame of 1280 x 720 that shows these points: quantised to its bins of 2.78 pixels."""

    def __init__(self, points: np.ndarray, bin_px: float = 2.78) -> None:
        self._points = iter(np.floor(points / bin_px + np.random.default_rng(0).normal(0, 0.3, points.shape)) * bin_px)

    def faces(self, frames: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return ((next(self._points), np.ones(68, np.float32)) for _ in frames)


def test_dwpose_makes_the_boxes_and_smoothing_steadies_them() -> None:
    points = moving()
    path = track_boxes(FRAMES, mesh_like(points), SIZE, BoxRule(), loop=False, dwpose=Seen(points))
    assert path.landmarks == "DWPose" and path.bridged == 0 and path.points[0].shape == (68, 2)
    assert path.jitter_before > 2.5 and path.jitter_after < 0.3 * path.jitter_before
    true = np.array([whole_pixels(np.array([p[0, 0], 2 * p[29, 1] - p[8, 1], p[16, 0], p[8, 1]]), BoxRule(), SIZE, SIZE) for p in points])
    assert np.abs(np.array(path.boxes) - true).mean() < 2
    assert path.jitter_after == pytest.approx(jitter(np.array(path.boxes)), abs=1e-3)


def test_a_frame_in_which_dwpose_saw_somebody_else_is_bridged() -> None:
    points = moving()
    seen = points.copy()
    seen[20:23] += 300
    path = track_boxes(FRAMES, mesh_like(points), SIZE, BoxRule(), loop=False, dwpose=Seen(seen))
    assert path.landmarks == "DWPose" and path.bridged == 3
    assert np.abs(np.diff(np.array(path.boxes), axis=0)).max() <= 3
    assert np.abs(path.points[21] - points[21]).max() < 8  # the nearest known ones


def test_somebody_else_throughout_leaves_mediapipe() -> None:
    points = moving()
    path = track_boxes(FRAMES, mesh_like(points), SIZE, BoxRule(), loop=False, dwpose=Seen(points + 300))
    assert path.landmarks == "MediaPipe" and path.points[0].shape == (478, 2)


def test_frames_without_a_face_have_no_box_of_dwpose() -> None:
    points = moving()
    mesh = mesh_like(points)
    mesh[10:14] = np.nan
    assert track_boxes(FRAMES, mesh, SIZE, BoxRule(), loop=False, dwpose=Seen(points)).bridged == 4
    assert track_boxes(FRAMES, mesh, SIZE, BoxRule(), loop=True).bridged == 4
    with pytest.raises(ClipError, match="no frame has a face box"):
        track_boxes(FRAMES, np.full_like(mesh, np.nan), SIZE, BoxRule(), loop=True)


@pytest.mark.parametrize("n_points", [68, 478])
def test_classes_drawn_from_landmarks(n_points: int) -> None:
    from musetalk.avatars.builtin import shipped_portrait
    from tests.musetalk.pictures import DATA

    portrait = shipped_portrait("interviewer_woman")
    points = portrait.landmarks[:, :2]
    if n_points == 68:
        import json

        points = np.array(json.loads((DATA / "ibug_points.json").read_text())["interviewer_woman"])
    five = five_points(points)
    assert five[0, 0] < five[3, 0] + 60 and five[0, 1] < five[2, 1] < five[3, 1] and five[3, 0] < five[4, 0]
    x0, y0, x1, y1 = int(points[:, 0].min()), int(points[:, 1].min()), int(points[:, 0].max()), int(points[:, 1].max())
    classes = drawn_classes(points, (x0, y0, x1, y1), 1.5)
    seen = {value: np.argwhere(classes == value) for value in (SKIN, NOSE, LOWER_LIP)}
    assert all(len(places) > 200 for places in seen.values())
    assert seen[NOSE][:, 0].mean() < seen[LOWER_LIP][:, 0].mean() and abs(seen[NOSE][:, 1].mean() - seen[LOWER_LIP][:, 1].mean()) < 20
    assert 0.1 < (classes > 0).mean() < 0.7
