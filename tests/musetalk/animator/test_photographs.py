"""What portraits bring along that is not a plain face: spectacles, coloured light, a smile with teeth, a beard."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from museserve.messages import ByteArray, FloatArray
from musetalk.animator.anatomy import measure
from musetalk.animator.eyelids import LEVELS
from musetalk.animator.idle import IdleMotion
from musetalk.animator.interior import tooth_color
from musetalk.animator.render import fit_row, i420_planes, idle_frame, moved, render_crop
from musetalk.animator.rig import Rig
from musetalk.avatars.builtin import BUILTIN, shipped_portrait
from musetalk.faces.framing import frame_portrait
from musetalk.faces.mediapipe import find_faces
from tests.musetalk.animator.test_rig import row
from tests.musetalk.photographs import rim_mask, with_beard, with_spectacles
from tests.musetalk.pictures import photo

SIZE = 512


def framed(picture: ByteArray) -> tuple[ByteArray, FloatArray]:
    """As an upload is: cut to a square, landmarks found in it."""
    portrait = frame_portrait(picture, find_faces(picture)[0], 2 * SIZE).portrait
    return portrait, find_faces(portrait)[0].landmarks


def lids_at(rig: Rig, level: float) -> ByteArray:
    """Luma of the face with its lids at `level`, its head and its eyes straight."""
    still = np.zeros_like(rig.motion.weights), np.full_like(rig.motion.lids, level), np.zeros_like(rig.motion.gaze)
    return idle_frame(replace(rig, motion=IdleMotion(*still)), 0)[:SIZE]


@pytest.mark.parametrize("name", BUILTIN)
@pytest.mark.parametrize("sizes", [{}, {"rim_mm": 1.2, "lens_mm": (23.0, 16.5)}])
def test_lids_close_behind_rims(name: str, sizes: dict[str, Any]) -> None:
    shipped = shipped_portrait(name)
    worn = with_spectacles(shipped.portrait, shipped.landmarks, shade=0.0, **sizes)
    cover = cv2.resize(rim_mask(shipped.landmarks, worn.shape[:2], **sizes), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    rims, glass = cover > 0.9, cv2.dilate(cover, np.ones((5, 5))) == 0
    bare = Rig.build(shipped.portrait, shipped.landmarks, SIZE)

    def apart(spectacles: bool) -> tuple[float, float]:
        """Grey levels by which shut eyes differ from those of the face without spectacles, beside the rims; by which a blink changes rims."""
        rig = Rig.build(worn, shipped.landmarks, SIZE, spectacles=spectacles)
        assert len(rig.eyes[0].lid) == LEVELS
        shut = lids_at(rig, 1.0)
        beside = cv2.absdiff(shut, lids_at(bare, 1.0))[glass]
        return float(np.sort(beside)[-150:].mean()), float(np.percentile(cv2.absdiff(shut, lids_at(rig, 0.0))[rims], 95))

    beside, on_rims = apart(spectacles=True)
    assert beside < 12 and on_rims <= 10
    assert apart(spectacles=False)[0] > 1.8 * beside  # they would be drawn out over the lids


def test_eyes_stay_open_where_a_rim_cannot_be_traced() -> None:
    shipped = shipped_portrait(BUILTIN[0])
    for worn in (shipped.portrait, with_spectacles(shipped.portrait, shipped.landmarks, below=False)):
        rig = Rig.build(worn, shipped.landmarks, SIZE, spectacles=True)
        assert [len(eye.lid) for eye in rig.eyes] == [1, 1]
        np.testing.assert_array_equal(lids_at(rig, 0.0), lids_at(rig, 1.0))
        assert not Rig.traces_rims(worn, shipped.landmarks, SIZE)
        again = Rig.from_arrays(rig.to_arrays())
        np.testing.assert_array_equal(idle_frame(again, 7), idle_frame(rig, 7))
    assert len(Rig.build(shipped.portrait, shipped.landmarks, SIZE).eyes[0].lid) == LEVELS


@pytest.mark.parametrize("tint", [(1.0, 1.0, 1.0), (1.0, 0.86, 0.66), (0.78, 0.9, 1.0)])
@pytest.mark.parametrize("name", BUILTIN)
def test_teeth_take_the_light_of_the_photograph(name: str, tint: tuple[float, float, float]) -> None:
    shipped = shipped_portrait(name)
    lit = np.rint(shipped.portrait * np.array(tint)).astype(np.uint8)

    def teeth(portrait: ByteArray) -> FloatArray:
        """RGB of the brightest pixels between open lips."""
        rig = Rig.build(portrait, shipped.landmarks, SIZE)
        crop = cv2.cvtColor(render_crop(rig, 0, row(jaw=0.3, lower_drop=0.3, upper_raise=0.5)), cv2.COLOR_YUV2RGB_I420)
        (x0, _), (x1, _) = rig.landmarks[[81, 311]] - [rig.box.x, 0]
        y = int(rig.landmarks[13, 1]) - rig.box.y
        inside = crop[y - 4 : y + 8, int(x0) : int(x1)].reshape(-1, 3).astype(np.float32)
        return inside[inside.min(1) >= np.percentile(inside.min(1), 85)].mean(0)

    color, plain = teeth(lit), teeth(shipped.portrait)
    skin = shipped.portrait[420:600, 460:560].reshape(-1, 3).mean(0) * tint
    assert color[2] / color[0] > skin[2] / skin[0]  # whiter than skin
    assert color[2] / color[0] < 0.97 * max(1.0, tint[2] / tint[0])  # but never bluish in a light that is not
    if tint[2] != 1.0 or tint[0] != 1.0:
        assert (color[2] / color[0] < plain[2] / plain[0]) == (tint[2] < tint[0])


def test_teeth_without_eyes_to_judge_the_light_by() -> None:
    skin = np.array([210, 165, 140], np.float32)
    color = tooth_color(skin, None)
    assert color[0] > color[1] > color[2] and color[2] / color[0] > skin[2] / skin[0]
    np.testing.assert_allclose(tooth_color(skin, np.full(3, 128, np.float32)), color)  # a grey white of the eye tells of no colour


def test_who_talks_does_not_go_on_smiling() -> None:
    rig = Rig.build(*framed(photo("astronaut.jpg")), SIZE)
    assert rig.line.is_open
    idle = np.zeros(rig.motion.weights.shape[1], np.float32)

    def mouth(**controls: float) -> tuple[float, float]:
        """Width, and how far the corners lie above the middle of the lower lip's edge at rest, pixels."""
        weights = np.concatenate([idle, fit_row(rig, row(**controls)).weights])
        upper, lower = moved(rig.upper_contour, weights), moved(rig.lower_contour, weights)
        corners = [int(np.argmin(np.abs(rig.contour_s - s))) for s in (-1, 1)]
        middle = (upper[len(upper) // 2, 1] + lower[len(lower) // 2, 1]) / 2
        return float(np.diff(upper[corners, 0])[0]), float(middle - upper[corners, 1].mean())

    width, lifted = mouth()
    for controls in ({"jaw": 0.5}, {"jaw": 0.2, "lower_drop": 0.3, "wide": 0.4}, {"jaw": 0.3, "round": 0.6}):
        talking_width, talking_lift = mouth(seal=1.0, **controls)
        assert talking_width < 0.93 * width
        assert talking_lift - 15 * 0.5 * controls["jaw"] * rig.anatomy.scale < 0.75 * lifted


def test_photographed_teeth_keep_their_colour() -> None:
    portrait, landmarks = framed(photo("astronaut.jpg"))
    rig = Rig.build(portrait, landmarks, SIZE)
    still = replace(rig, motion=IdleMotion(np.zeros_like(rig.motion.weights), np.zeros_like(rig.motion.lids), np.zeros_like(rig.motion.gaze)))

    def teeth(**controls: float) -> FloatArray:
        """Y, U, V of what is light between the lips' middles."""
        luma, u, v = i420_planes(render_crop(still, 0, row(**controls)))
        weights = np.concatenate([still.motion.weights[0], fit_row(still, row(**controls)).weights])
        upper, lower = (moved(contour, weights) for contour in (still.upper_contour, still.lower_contour))
        middle = len(upper) // 2
        (x, top), (_, bottom) = upper[middle] - [rig.box.x, rig.box.y], lower[middle] - [rig.box.x, rig.box.y]
        part = slice(int(top) + 1, int(min(bottom, top + 7 * rig.anatomy.scale))), slice(int(x) - 9, int(x) + 9)
        light = luma[part] >= np.percentile(luma[part], 60)
        chroma = (np.kron(plane, np.ones((2, 2), np.uint8))[part][light].mean() for plane in (u, v))
        return np.array([luma[part][light].mean(), *chroma], np.float32)

    rest = teeth()
    shapes = ({"jaw": 0.3}, {"jaw": 0.6}, {"jaw": 0.25, "lower_drop": 0.4, "wide": 0.5}, {"jaw": 0.35, "round": 0.4})
    for controls in shapes:
        said = teeth(seal=1.0, **controls)
        assert abs(said[0] - rest[0]) < 20 and np.abs(said[1:] - rest[1:]).max() < 6, controls


def test_folds_of_a_smile_are_smooth_in_speech() -> None:
    rig = Rig.build(*framed(photo("astronaut.jpg")), SIZE)
    assert len(rig.folds) == 2

    def depth(seal: float) -> float:
        """How much darker the fold is than the skin on either side, levels."""
        luma = i420_planes(render_crop(rig, 0, row(seal=seal, jaw=0.3))).luma.astype(np.float32)
        wide, fine = (cv2.GaussianBlur(luma, (0, 0), mm * rig.anatomy.scale) for mm in (5.0, 0.6))
        depths = []
        for wing, cheek in ((129, 216), (358, 436)):
            (x0, y0), (x1, y1) = (rig.landmarks[[wing, cheek]] - [rig.box.x, rig.box.y]).astype(int)
            part = slice(min(y0, y1) + 2, max(y0, y1) + 8), slice(min(x0, x1) - 4, max(x0, x1) + 4)
            depths.append(float(np.percentile((wide - fine)[part], 95)))
        return sum(depths) / 2

    assert depth(1.0) < 0.75 * depth(0.0)
    for name in BUILTIN:
        shipped = shipped_portrait(name)
        assert Rig.build(shipped.portrait, shipped.landmarks, SIZE).folds == ()


def test_a_beard_moves_with_the_jaw_and_stays_a_beard() -> None:
    shipped = shipped_portrait("interviewer_man")
    bearded = with_beard(shipped.portrait, shipped.landmarks)
    rig = Rig.build(bearded, shipped.landmarks, SIZE)
    assert not rig.line.is_open
    points = np.asarray(shipped.landmarks, np.float64)[:, :2] / 2 - 0.5
    plain = Rig.build(shipped.portrait, shipped.landmarks, SIZE)
    across = np.linspace(-0.8, 0.8, 21) * measure(points, SIZE).half_width
    assert np.abs(rig.line.mid(across) - plain.line.mid(across)).max() < 1.0  # mm: hair is not taken for the lip line
    chin = (int(rig.landmarks[199, 0]) - rig.box.x, int(rig.landmarks[199, 1]) - rig.box.y)
    part = np.s_[chin[1] - 12 : chin[1] + 12, chin[0] - 30 : chin[0] + 30]
    shut, wide = (render_crop(rig, 0, row(jaw=jaw, nod=0.001))[part].astype(np.float32) for jaw in (0.0, 0.6))
    assert wide.std() > 0.7 * shut.std() and np.abs(wide - shut).mean() > 4
