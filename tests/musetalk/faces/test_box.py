"""The published rule by its worked numbers, and steady paths."""

from __future__ import annotations

import json

import numpy as np
import pytest

from musetalk.avatars.builtin import BUILTIN, shipped_portrait
from musetalk.faces.box import BoxRule, bridge, ibug_box, is_usable, jitter, mesh_box, smooth_path, whole_pixels
from tests.musetalk.pictures import DATA


def face(nose=300, chin=420, left=200, right=360):
    """68 points with these extremes; brows above the nose, as in every face."""
    points = np.full((68, 2), (280.0, 280.0))
    points[0], points[16], points[8], points[29] = (left, 250), (right, 250), (280, chin), (280, nose)
    points[17:27] = (280, 210)
    return points


def test_the_worked_example():
    box = ibug_box(face())
    assert box.tolist() == [200, 180, 360, 420]
    assert whole_pixels(box, BoxRule("v1.0"), 640, 480) == (200, 180, 360, 420)
    assert whole_pixels(box, BoxRule("v1.5"), 640, 480) == (200, 180, 360, 430)


def test_the_middle_of_the_box_is_the_nose_bridge_and_moves_with_the_shift():
    x0, y0, x1, y1 = ibug_box(face(nose=310, chin=411))
    assert (y0 + y1) / 2 == 310
    x0, y0, x1, y1 = ibug_box(face(), shift=7)
    assert (y0, y1) == (420 - 2 * (420 - 307), 420)


def test_a_box_does_not_begin_above_the_frame():
    assert ibug_box(face(nose=100, chin=260))[1] == 0


def test_the_margin_is_in_proportion_or_absolute_and_ends_with_the_frame():
    small = ibug_box(face() / 2)
    assert whole_pixels(small, BoxRule(), 640, 480)[3] == 215  # half of the example's 430
    assert whole_pixels(small, BoxRule(scaled=False), 640, 480)[3] == 220
    assert whole_pixels(ibug_box(face()), BoxRule(), 640, 425) == (200, 180, 360, 425)
    assert whole_pixels(ibug_box(face()), BoxRule(), 350, 480)[2] == 350


def test_boxes_are_truncated():
    assert whole_pixels(np.array([200.9, 180.9, 360.9, 420.9]), BoxRule("v1.0"), 640, 480) == (200, 180, 360, 420)


def test_an_impossible_box_is_not_used():
    assert is_usable(ibug_box(face()))
    assert not is_usable(np.array([-1.0, 0, 10, 10])) and not is_usable(np.array([5.0, 9, 9, 9])) and not is_usable(np.array([9.0, 1, 9, 9]))


def test_the_mesh_follows_the_same_rule():
    mesh = np.zeros((478, 3))
    mesh[:] = (280, 280, 0)
    mesh[[234, 127, 93, 132], 0], mesh[[454, 356, 323, 361], 0] = 200, 360
    mesh[[195, 5], 1], mesh[152, 1] = 300, 420
    assert mesh_box(mesh) == pytest.approx([200, 180, 360, 420])


@pytest.mark.parametrize("avatar", BUILTIN)
def test_the_mesh_gives_the_box_of_the_68_points(avatar):
    """On the shipped portraits, against iBUG points by another landmarker; in parts of the box's width and height.

    The two do not agree on how high a nose begins: by 1.7 % on the woman's.
    """
    points = np.array(json.loads((DATA / "ibug_points.json").read_text())[avatar])
    ours, theirs = mesh_box(shipped_portrait(avatar).landmarks), ibug_box(points)
    assert np.abs(ours - theirs)[[0, 2]].max() < 0.02 * (theirs[2] - theirs[0])
    assert np.abs(ours - theirs)[3] < 0.012 * (theirs[3] - theirs[1])
    assert abs((ours[1] + ours[3]) - (theirs[1] + theirs[3])) / 2 < 0.02 * (theirs[3] - theirs[1])


def path(n=120, loop=True, noise=0.0, bins=0.0, seed=0):
    t = np.arange(n)
    turn = 2 * np.pi * t / (n if loop else 100)
    middle = 12 * np.sin(turn)[:, None] + 5 * np.cos(2 * turn)[:, None]
    boxes = np.array([200, 180, 360, 420.0]) + middle * (1, 0.5, 1, 0.5)
    boxes = boxes + np.random.default_rng(seed).normal(0, noise, boxes.shape)
    return np.floor(boxes / bins) * bins + bins / 2 if bins else boxes


@pytest.mark.parametrize("loop", [True, False])
def test_a_smoothed_path_stays_on_the_motion_and_stops_shaking(loop):
    true, seen = path(loop=loop), path(loop=loop, noise=0.6, bins=2.78)
    smoothed = smooth_path(seen, loop=loop)
    assert jitter(smoothed) < 0.12 * jitter(seen)
    assert np.abs(smoothed - true).mean() < 0.5 * np.abs(seen - true).mean()
    # No lag: a delayed path would fit best against a shifted original.
    errors = [np.abs(smoothed[20:-20] - np.roll(true, shift, 0)[20:-20]).mean() for shift in (-1, 0, 1)]
    assert np.argmin(errors) == 1


def test_a_looped_path_has_no_seam():
    smoothed = smooth_path(path(noise=0.6, bins=2.78), loop=True)
    round_twice = np.concatenate([smoothed, smoothed])
    assert np.abs(np.diff(round_twice, axis=0))[len(smoothed) - 2 : len(smoothed) + 1].max() < 1.5


def test_a_lone_outlier_leaves_no_trace():
    seen = path()
    seen[50] += 80
    assert np.abs(smooth_path(seen, loop=True) - smooth_path(path(), loop=True)).max() < 0.6


def test_a_clip_of_one_frame_is_itself():
    assert smooth_path(path(1), loop=False) == pytest.approx(path(1))


def test_gaps_are_bridged_on_a_line():
    boxes = np.linspace(0, 99, 100)[:, None] + np.array([0, 10, 50, 90.0])
    seen = boxes.copy()
    seen[:3] = seen[40:46] = seen[70:95] = np.nan
    filled = bridge(seen)
    assert np.allclose(filled[3:], boxes[3:]) and np.allclose(filled[:3], boxes[3])
