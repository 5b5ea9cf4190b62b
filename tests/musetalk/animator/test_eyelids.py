"""Lids that close: dark slits, corners that stay or go along, lashes that end up below the shut edge."""

from __future__ import annotations

import numpy as np
import pytest

from musetalk.animator.rig import Rig
from tests.musetalk.animator.test_photographs import lids_at
from tests.musetalk.animator.test_rig import NAMES, portrait

INNER, OUTER = (133, 362), (33, 263)


@pytest.fixture(scope="module", params=NAMES)
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig.build(*portrait(request.param))


def around(rig: Rig, picture: np.ndarray, mm: np.ndarray, half_mm: float) -> np.ndarray:
    """The square of the picture around a point of the face."""
    x, y = np.round(rig.anatomy.to_pixels(mm)).astype(int)
    half = round(half_mm * rig.anatomy.scale)
    return picture[y - half : y + half + 1, x - half : x + half + 1].astype(np.float32)


@pytest.mark.parametrize("side", [0, 1])
def test_nearly_shut_eyes_show_no_white(rig: Rig, side: int) -> None:
    eye = rig.eyes[side]
    light = [np.sort((eye.ball * (share / 255.0)).ravel())[-20:].mean() for share in eye.share]  # of the eyeball, through the lids
    assert light[0] > 120 and max(light[8:]) < 50


@pytest.mark.parametrize("side", [0, 1])
def test_the_inner_corner_stays_and_the_outer_one_goes_down(rig: Rig, side: int) -> None:
    shut, open_eyes = lids_at(rig, 1.0), lids_at(rig, 0.0)
    inner, outer = rig.anatomy.at(INNER[side], OUTER[side])
    away = np.sign(outer[0] - inner[0]) * np.array([1.0, 0.0])
    nose = inner - 5.0 * away
    assert np.abs(around(rig, shut, nose, 1.5) - around(rig, open_eyes, nose, 1.5)).mean() < 2.0

    def dark_row(picture: np.ndarray) -> float:
        square = around(rig, picture, outer + 1.0 * away, 3.5)
        weight = np.maximum(np.median(square) - square, 0.0)
        return float((weight.sum(1) * np.arange(len(square))).sum() / weight.sum())

    assert 0.3 < (dark_row(shut) - dark_row(open_eyes)) / rig.anatomy.scale < 5.0
