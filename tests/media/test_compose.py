from __future__ import annotations

import cv2
import numpy as np
import pytest

from contracts import Box
from media.compose import paste, planes

BOX = Box(12, 20, 36, 28)


def random_i420(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height * 3 // 2, width), dtype=np.uint8)


def test_planes_are_where_opencv_puts_them() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (60, 84, 3), dtype=np.uint8)  # 60 / 4 is odd: chroma rows share a row of the frame
    frame = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)
    y, u, v = planes(frame)
    assert y.shape == (60, 84) and u.shape == v.shape == (30, 42)
    flat = frame.ravel()
    assert np.array_equal(np.concatenate([y.ravel(), u.ravel(), v.ravel()]), flat)
    u[:] = 7
    assert np.count_nonzero(frame.ravel()[60 * 84 : 60 * 84 * 5 // 4] == 7) == 30 * 42


def test_a_crop_replaces_its_box_and_nothing_else() -> None:
    frame, crop = random_i420(64, 96, 1), random_i420(BOX.h, BOX.w, 2)
    before = frame.copy()
    paste(frame, crop, BOX)
    for scale, after, old, new in zip((1, 2, 2), planes(frame), planes(before), planes(crop), strict=True):
        y, x, h, w = BOX.y // scale, BOX.x // scale, BOX.h // scale, BOX.w // scale
        assert np.array_equal(after[y : y + h, x : x + w], new)
        outside = np.ones(after.shape, bool)
        outside[y : y + h, x : x + w] = False
        assert np.array_equal(after[outside], old[outside])


def test_a_mask_blends_to_the_nearest_level_and_keeps_both_ends_exact() -> None:
    frame, crop = random_i420(64, 96, 3), random_i420(BOX.h, BOX.w, 4)
    before = frame.copy()
    mask = np.zeros((BOX.h, BOX.w), np.uint8)
    mask[4:24, 4:32] = 255
    mask[10:20, 10:26] = np.random.default_rng(5).integers(0, 256, (10, 16))
    paste(frame, crop, BOX, mask)
    half = cv2.resize(mask, (BOX.w // 2, BOX.h // 2), interpolation=cv2.INTER_AREA)
    for scale, after, old, new, alpha in zip((1, 2, 2), planes(frame), planes(before), planes(crop), (mask, half, half), strict=True):
        y, x, h, w = BOX.y // scale, BOX.x // scale, BOX.h // scale, BOX.w // scale
        old, got = old[y : y + h, x : x + w], after[y : y + h, x : x + w]
        exact = (old * (255.0 - alpha) + new * alpha.astype(float)) / 255
        assert np.abs(got - exact).max() <= 0.5 + 1e-9
        assert np.array_equal(got[alpha == 0], old[alpha == 0]) and np.array_equal(got[alpha == 255], new[alpha == 255])


@pytest.mark.parametrize(
    ("box", "crop", "mask", "says"),
    [
        (Box(70, 20, 36, 28), (42, 36), None, "inside 96x64"),
        (Box(-2, 20, 36, 28), (42, 36), None, "inside 96x64"),
        (Box(13, 20, 36, 28), (42, 36), None, "even box"),
        (BOX, (42, 34), None, "the crop is"),
        (BOX, (42, 36), (14, 18), "the mask is"),
    ],
)
def test_what_does_not_fit_is_refused(box: Box, crop: tuple[int, int], mask: tuple[int, int] | None, says: str) -> None:
    frame = random_i420(64, 96, 6)
    before = frame.copy()
    with pytest.raises(ValueError, match=says):
        paste(frame, np.zeros(crop, np.uint8), box, None if mask is None else np.zeros(mask, np.uint8))
    assert np.array_equal(frame, before)


def test_a_frame_that_would_be_copied_is_refused() -> None:
    frame = random_i420(64, 96, 7)
    with pytest.raises(ValueError, match="contiguous"):
        planes(frame[:, ::2])
    with pytest.raises(ValueError, match="I420"):
        planes(np.zeros((64, 96), np.uint8))
