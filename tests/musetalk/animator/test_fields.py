"""The displacement fields: no seam beside the mouth, lips that meet, nothing moves where nothing should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from musetalk.animator.fields import SPEECH_FIELDS, FaceFields
from musetalk.animator.rig import Rig
from tests.musetalk.animator.test_rig import NAMES, portrait

JAW, LIP_CLOSE = SPEECH_FIELDS.index("jaw"), SPEECH_FIELDS.index("lip_close")


@pytest.fixture(scope="module", params=NAMES)
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig.build(*portrait(request.param))


@pytest.fixture(scope="module")
def fields(rig: Rig) -> FaceFields:
    return FaceFields(rig.anatomy, rig.line)


def lip_points(rig: Rig, low: float, high: float) -> np.ndarray:
    """Points of the lip line and its rays, `low`..`high` half widths from the middle, on both sides."""
    side = np.linspace(low, high, 40) * rig.anatomy.half_width
    x = np.concatenate([-side[::-1], side])
    return np.stack([x, rig.line.mid(x)], -1)


def test_layers_agree_on_the_rays(rig: Rig, fields: FaceFields) -> None:
    rays = lip_points(rig, 1.0, 2.6)
    mismatch = fields.speech(rays, "upper") - fields.speech(rays, "lower")
    assert np.abs(rig.anatomy.vectors(mismatch)).max() <= 0.3
    idle = fields.idle(rays, "upper") - fields.idle(rays, "lower")
    assert np.abs(rig.anatomy.vectors(idle)).max() <= 0.3


def test_closing_undoes_the_jaw_between_the_lips(rig: Rig, fields: FaceFields) -> None:
    lips = lip_points(rig, 0.0, 0.99)
    upper, lower = fields.speech(lips, "upper"), fields.speech(lips, "lower")
    opened = lower[JAW] - upper[JAW]
    assert opened[:, 1].max() > 10  # mm: the jaw alone opens the mouth wide
    closed = opened + lower[LIP_CLOSE] - upper[LIP_CLOSE]
    assert np.abs(closed).max() < 0.05
    chin = np.array([[0.0, rig.anatomy.chin]])
    assert (fields.speech(chin, "lower")[JAW] + fields.speech(chin, "lower")[LIP_CLOSE])[0, 1] > 9  # and the chin stays low


def test_a_longer_jaw_opens_further(rig: Rig) -> None:
    opened = {}
    for chin in (42.0, 46.5, 52.0, 90.0):
        face = replace(rig.anatomy, chin=chin)
        opened[chin] = FaceFields(face, rig.line).speech(np.array([[0.0, chin]]), "lower")[JAW][0, 1]
        assert opened[chin] == pytest.approx(face.jaw_mm, abs=0.1)
    assert opened[42.0] < opened[46.5] == pytest.approx(15.0, abs=0.1)
    assert opened[52.0] > 1.1 * opened[46.5]
    assert opened[90.0] < 1.2 * opened[46.5]  # landmarks of a beard or a collar


def test_corners_go_down_and_in_when_the_jaw_opens(rig: Rig, fields: FaceFields) -> None:
    corners = lip_points(rig, 0.97, 0.97)[[0, -1]]
    right, left = fields.speech(corners, "upper")[JAW]
    assert right[0] > 1.5 and left[0] < -1.5
    assert 2.0 < right[1] < 0.4 * rig.anatomy.jaw_mm and 2.0 < left[1] < 0.4 * rig.anatomy.jaw_mm


def test_upper_lip_and_nose_stay_when_the_jaw_opens(rig: Rig, fields: FaceFields) -> None:
    above = np.array([[0.0, -5.0], [0.0, -30.0], [0.0, -70.0]])
    assert np.abs(fields.speech(above, "upper")[JAW]).max() < 0.3


def test_lower_layer_is_still_at_its_box(rig: Rig, fields: FaceFields) -> None:
    face = rig.anatomy
    side = 1.15 * face.jaw_half
    y = np.linspace(0, face.chin + 48, 40)
    border = np.concatenate(
        [np.stack([np.full_like(y, x), y], -1) for x in (-side, side)] + [np.stack([np.linspace(-side, side, 40), np.full(40, face.chin + 48)], -1)]
    )
    shift = fields.speech(border, "lower") - fields.speech(border, "upper")
    assert np.abs(face.vectors(shift)).max() < 0.1


def test_speech_ends_inside_its_box(rig: Rig) -> None:
    region, box = rig.box_region, rig.box
    speech = rig.upper[-len(SPEECH_FIELDS) :].reshape(len(SPEECH_FIELDS), region.ny, region.nx, 2)
    inside = np.zeros((region.ny, region.nx), bool)
    inside[3:-3, 3:-3] = True
    assert box.w < rig.size and box.h < rig.size
    assert np.abs(speech[:, ~inside]).max() < 0.02
