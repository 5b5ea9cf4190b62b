from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from museserve.media.compositing import paste, planes
from museserve.messages import Box
from musetalk.avatars.builtin import shipped_portrait

BOX = Box(12, 20, 36, 28)


def random_i420(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height * 3 // 2, width), dtype=np.uint8)


def test_planes_are_where_opencv_puts_them() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (60, 84, 3), dtype=np.uint8)  # 60 / 4 is odd: chroma rows share a row of the frame
    frame = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), np.uint8)
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


def test_a_weight_scales_the_mask() -> None:
    frame, crop = random_i420(64, 96, 8), random_i420(BOX.h, BOX.w, 9)
    mask = np.random.default_rng(10).integers(0, 256, (BOX.h, BOX.w), dtype=np.uint8)
    for given in (mask, None):
        half, scaled, untouched = frame.copy(), frame.copy(), frame.copy()
        paste(half, crop, BOX, given, weight=128)
        paste(scaled, crop, BOX, np.round((mask if given is not None else np.full_like(mask, 255)) * (128 / 255)).astype(np.uint8))
        paste(untouched, crop, BOX, given, weight=0)
        assert np.abs(half.astype(int) - scaled).max() <= 1
        assert np.array_equal(untouched, frame)


# --- faces at a size of their own -----------------------------------------------------------------------------------


def i420(rgb: np.ndarray) -> np.ndarray:
    """BT.601, limited range, chroma as the mean of 2 x 2 pixels."""
    r, g, b = (rgb[..., i].astype(float) for i in range(3))
    y = 16 + (65.738 * r + 129.057 * g + 25.064 * b) / 256
    u = 128 + (-37.945 * r - 74.494 * g + 112.439 * b) / 256
    v = 128 + (112.439 * r - 94.154 * g - 18.285 * b) / 256
    height, width = rgb.shape[:2]
    halves = [c.reshape(height // 2, 2, width // 2, 2).mean((1, 3)) for c in (u, v)]
    return np.concatenate([np.round(c).ravel() for c in (y, *halves)]).astype(np.uint8).reshape(height * 3 // 2, width)


def published(frame: np.ndarray, face: np.ndarray, box: tuple[int, int, int, int], mask: np.ndarray) -> np.ndarray:
    """The recipe for RGB pictures: the face resized, pasted, and the whole laid over the frame with an 8-bit alpha by Pillow."""
    x0, y0, x1, y1 = box
    above = Image.fromarray(frame)
    above.paste(Image.fromarray(cv2.resize(face, (x1 - x0, y1 - y0))), (x0, y0))
    body = Image.fromarray(frame)
    body.paste(above, (0, 0), Image.fromarray(mask))
    return np.asarray(body)


def scene(box: tuple[int, int, int, int], size: int = 512) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A portrait, a changed face of 256 x 256 and a soft mask of the whole frame that ends inside the box."""
    portrait = cv2.resize(shipped_portrait("interviewer_woman").portrait, (size, size), interpolation=cv2.INTER_AREA)
    x0, y0, x1, y1 = box
    face = cv2.resize(portrait[y0:y1, x0:x1], (256, 256), interpolation=cv2.INTER_LANCZOS4)
    face = np.clip(cv2.GaussianBlur(face, (0, 0), 2).astype(int) * (1.1, 0.95, 0.9) + (10, 0, -15), 0, 255).astype(np.uint8)
    mask: np.ndarray = np.zeros((size, size), np.uint8)
    cv2.ellipse(mask, ((x0 + x1) // 2, (y0 + 2 * y1) // 3), ((x1 - x0) // 3, (y1 - y0) // 4), 0, 0, 360, 255, -1)
    mask = cv2.GaussianBlur(mask, (19, 19), 0)
    outside = np.ones_like(mask)
    outside[y0:y1, x0:x1] = 0
    mask[outside == 1] = 0
    return portrait, face, mask


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean(np.square(a.astype(float) - b)), 1e-9)))


FACES = [(166, 160, 346, 400), (167, 161, 346, 401), (166, 161, 345, 398), (167, 160, 344, 399), (120, 100, 400, 420)]


@pytest.mark.parametrize("face_box", FACES)
def test_a_face_is_blended_as_published(face_box: tuple[int, int, int, int]) -> None:
    portrait, face, mask = scene(face_box)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]) // 2 * 2, int(rows[0]) // 2 * 2
    box = Box(x, y, (int(columns[-1]) - x) // 2 * 2 + 2, (int(rows[-1]) - y) // 2 * 2 + 2)
    background = i420(portrait)
    frame = background.copy()
    paste(frame, i420(face), box, mask[box.y : box.y + box.h, box.x : box.x + box.w], face_box)
    expected = i420(published(portrait, face, face_box, mask))
    blended = mask > 0
    halves = mask.reshape(256, 2, 256, 2).max((1, 3)) > 0
    for where, ours, theirs, before in zip((blended, halves, halves), planes(frame), planes(expected), planes(background), strict=True):
        assert psnr(ours[where], theirs[where]) > 50
        assert psnr(before[where], theirs[where]) < 40  # the face did change
        assert np.array_equal(ours[~where], before[~where])


@pytest.mark.parametrize("face_box", FACES)
def test_luma_is_exact_at_any_whole_box(face_box: tuple[int, int, int, int]) -> None:
    x0, y0, x1, y1 = face_box
    frame, crop = random_i420(512, 512, 11), random_i420(256, 256, 12)
    box = Box(x0 // 2 * 2 + 4, y0 // 2 * 2 + 60, (x1 - x0) // 2 * 2 - 8, (y1 - y0) // 2 * 2 - 70)
    paste(frame, crop, box, np.full((box.h, box.w), 255, np.uint8), face_box)
    resized = cv2.resize(planes(crop)[0], (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    inner = resized[box.y - y0 : box.y - y0 + box.h, box.x - x0 : box.x - x0 + box.w]
    assert np.array_equal(planes(frame)[0][box.y : box.y + box.h, box.x : box.x + box.w], inner)


@pytest.mark.parametrize("corner", [(100, 100), (101, 100), (100, 101), (101, 101)])
def test_chroma_lies_where_luma_does(corner: tuple[int, int]) -> None:
    """A ramp of colour is the same ramp after pasting, to a small part of a level, wherever the box begins."""
    x0, y0 = corner
    ramp = np.arange(256) * 0.9 + 10
    crop = np.zeros((384, 256), np.uint8)
    y, u, v = planes(crop)
    y[:] = ramp[None].round()
    u[:] = ramp.reshape(128, 2).mean(1)[None].round()
    v[:] = ramp.reshape(128, 2).mean(1)[:, None].round()
    frame = np.zeros((768, 512), np.uint8)
    box = Box(110, 110, 180, 180)
    paste(frame, crop, box, np.full((180, 180), 255, np.uint8), (x0, y0, x0 + 200, y0 + 200))
    luma, across, down = (plane[55:145, 55:145] if i else plane[110:290, 110:290] for i, plane in enumerate(planes(frame)))
    halves = luma.reshape(90, 2, 90, 2).mean((1, 3))
    assert np.abs(halves - across).max() <= 1.6 and abs(np.mean(halves - across)) < 0.3
    position = ((np.arange(55, 145) * 2 + 1 - y0) * 256 / 200 - 0.5) * 0.9 + 10
    assert np.abs(down - position[:, None]).max() <= 1.6 and abs(np.mean(down - position[:, None])) < 0.3


def test_a_mask_that_reaches_beyond_the_face_box_takes_its_edge() -> None:
    """Rounding the box of all masks to even pixels may add a line in which nothing shows."""
    frame, crop = random_i420(64, 96, 13), random_i420(256, 256, 14)
    before = frame.copy()
    mask = np.zeros((BOX.h, BOX.w), np.uint8)
    mask[1:-1, 1:-1] = 255
    paste(frame, crop, BOX, mask, (BOX.x + 1, BOX.y + 1, BOX.x + BOX.w - 1, BOX.y + BOX.h - 1))
    after = planes(frame)[0]
    changed = np.argwhere(after != planes(before)[0])
    assert changed.min(0).tolist() == [BOX.y + 1, BOX.x + 1] and changed.max(0).tolist() == [BOX.y + BOX.h - 2, BOX.x + BOX.w - 2]


def test_a_face_without_a_mask_or_area_is_refused() -> None:
    frame = random_i420(64, 96, 15)
    with pytest.raises(ValueError, match="needs a mask"):
        paste(frame, random_i420(256, 256, 0), BOX, None, (10, 10, 50, 50))
    with pytest.raises(ValueError, match="an area"):
        paste(frame, random_i420(256, 256, 0), BOX, np.zeros((BOX.h, BOX.w), np.uint8), (50, 10, 50, 50))
