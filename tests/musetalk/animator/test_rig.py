"""Rigs of the two shipped avatars: measured from the portrait, stored and rebuilt."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from museserve.errors import ImageError
from musetalk.animator.render import idle_frame, render_crop
from musetalk.animator.rig import Rig
from musetalk.avatars.builtin import BUILTIN, BUILTIN_DIR, shipped_portrait
from musetalk.speech_cues.controls import CONTROLS, N_CONTROLS

NAMES = BUILTIN


def portrait(name: str) -> tuple[np.ndarray, np.ndarray]:
    shipped = shipped_portrait(name)
    return shipped.portrait, shipped.landmarks


def row(**controls: float) -> np.ndarray:
    values = np.zeros(N_CONTROLS, np.float32)
    for name, value in controls.items():
        values[CONTROLS.index(name)] = value
    return values


@pytest.fixture(scope="module", params=NAMES)
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig.build(*portrait(request.param))


@pytest.mark.parametrize("name", NAMES)
def test_shipped_avatar_is_complete(name: str) -> None:
    about = json.loads((BUILTIN_DIR / name / "avatar.json").read_text())
    picture, landmarks = portrait(name)
    assert about["id"] == name and about["gender"] in ("female", "male") and about["licence"] == "CC0-1.0"
    assert picture.shape == (1024, 1024, 3)
    assert landmarks.shape == (478, 3) and landmarks.dtype == np.float32
    assert landmarks[:, :2].min() > 0 and landmarks[:, :2].max() < 1024


def test_the_face_has_human_measures(rig: Rig) -> None:
    face = rig.anatomy
    assert 1.0 < face.scale < 1.6  # pixels per mm at 512
    assert 20 < face.half_width < 32
    assert 40 < face.chin < 60
    assert not rig.line.is_open


def test_the_lip_line_is_the_dark_line(rig: Rig) -> None:
    x = np.linspace(-0.8, 0.8, 33) * rig.anatomy.half_width
    line = rig.line.mid(x)

    def brightness(offset_mm: float) -> np.ndarray:
        at = (rig.anatomy.to_pixels(np.stack([x, line + offset_mm], -1)) + 0.5) * 2 - 0.5
        columns, rows = at.T[:, None].astype(np.float32)
        return cv2.remap(rig.luma, columns, rows, cv2.INTER_LINEAR)[0].astype(float)

    darker = (brightness(0.0) + 4 < brightness(-1.6)) & (brightness(0.0) + 4 < brightness(1.6))
    assert darker.mean() > 0.9


def test_the_box_is_even_and_inside(rig: Rig) -> None:
    box = rig.box
    assert all(value % 2 == 0 for value in (box.x, box.y, box.w, box.h))
    assert box.x >= 0 and box.y >= 0 and box.x + box.w <= rig.size and box.y + box.h <= rig.size
    mouth_and_brows = rig.landmarks[[61, 291, 152, 105, 334]]
    assert (mouth_and_brows > [box.x, box.y]).all() and (mouth_and_brows < [box.x + box.w, box.y + box.h]).all()


def test_the_same_pictures_after_storing(rig: Rig) -> None:
    stored = {name: value.copy() for name, value in rig.to_arrays().items()}
    for value in stored.values():
        value.setflags(write=False)  # as they come out of a memory map
    again = Rig.from_arrays(stored)
    speech = row(jaw=0.5, wide=0.3, nod=0.8, gaze_x=0.4)
    assert again.box == rig.box
    assert np.array_equal(idle_frame(again, 31), idle_frame(rig, 31))
    assert np.array_equal(render_crop(again, 31, speech), render_crop(rig, 31, speech))


@pytest.mark.parametrize("size", [512, 720, 1024])
def test_sizes(size: int) -> None:
    rig = Rig.build(*portrait(NAMES[0]), size)
    assert idle_frame(rig, 0).shape == (size * 3 // 2, size)
    crop = render_crop(rig, 0, row(jaw=0.5))
    assert crop.shape == (rig.box.h * 3 // 2, rig.box.w)
    assert crop.std() > 10


def test_bad_input_is_refused() -> None:
    picture, landmarks = portrait(NAMES[0])
    with pytest.raises(ImageError, match="square"):
        Rig.build(picture[:500], landmarks)
    with pytest.raises(ImageError, match="478"):
        Rig.build(picture, landmarks[:468])
    with pytest.raises(ImageError, match="upright"):
        Rig.build(np.ascontiguousarray(picture[::-1]), landmarks * [1, -1, 1] + np.array([0, 1024, 0]))
    with pytest.raises(ImageError, match="too small"):
        Rig.build(picture, landmarks * np.float32(0.05))
    with pytest.raises(ImageError, match="even"):
        Rig.build(picture, landmarks, 511)
