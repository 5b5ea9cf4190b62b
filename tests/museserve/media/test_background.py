from __future__ import annotations

import numpy as np
import pytest

from museserve.media.background import Background, fade_weights
from museserve.media.compositing import paste, planes
from museserve.messages import AvatarRef, Box

BOX = Box(8, 12, 20, 16)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_a_loop_shows_its_frames_in_order_and_for_ever() -> None:
    frames = noise(4, 96, 64)
    plain = Background(AvatarRef("a", "1"), frames, BOX)
    assert [plain.number(i) for i in range(6)] == [0, 1, 2, 3, 0, 1]
    forth_and_back = Background(AvatarRef("a", "1"), frames, BOX, order=np.array([0, 1, 2, 3, 2, 1]))
    assert len(forth_and_back) == 6
    assert [forth_and_back.number(i) for i in range(8)] == [0, 1, 2, 3, 2, 1, 0, 1]


def test_the_background_itself_is_not_copied() -> None:
    background = Background(AvatarRef("a", "1"), noise(4, 96, 64), BOX)
    assert np.shares_memory(background.picture(2), background.frames)
    before = background.frames.copy()
    assert not np.shares_memory(background.picture(2, noise(24, 20)), background.frames)
    assert np.array_equal(background.frames, before)


@pytest.mark.parametrize("kind", ["no mask", "one mask", "a mask a frame", "faces"])
def test_crops_lie_as_the_avatar_says(kind: str) -> None:
    frames = noise(3, 96, 64)
    masks = noise(3, BOX.h, BOX.w, seed=1)
    faces = np.array([[4, 2, 44, 46], [5, 3, 45, 47], [6, 4, 46, 48]], np.int32)
    mask = {"no mask": None, "one mask": masks[0]}.get(kind, masks)
    background = Background(AvatarRef("a", "1"), frames, BOX, mask, faces if kind == "faces" else None)
    crop = noise(48, 32, seed=2) if kind == "faces" else noise(24, 20, seed=2)
    for number in range(3):
        expected = frames[number].copy()
        here = None if mask is None else masks[0] if kind == "one mask" else masks[number]
        paste(expected, crop, BOX, here, tuple(faces[number].tolist()) if kind == "faces" else None)
        assert np.array_equal(background.picture(number, crop), expected)
    half = planes(background.picture(0, crop, 128))[0].astype(int)
    full, none = planes(background.picture(0, crop))[0].astype(int), planes(frames[0])[0].astype(int)
    assert np.abs(half - (full * 128 + none * 127) / 255).max() <= 1.6


def test_speech_comes_and_goes_over_three_frames() -> None:
    speaking = [False] * 4 + [True] * 10 + [False] * 3
    assert fade_weights(speaking, 0, 17, 3) == [0] * 4 + [64, 128, 191] + [255] * 4 + [191, 128, 64] + [0] * 3


def test_short_runs_do_not_reach_full_strength_and_ends_count_as_silence() -> None:
    assert fade_weights([True] * 5, 0, 5, 3) == [64, 128, 191, 128, 64]
    assert fade_weights([False, True, False], 0, 3, 3) == [0, 64, 0]


def test_weights_do_not_depend_on_how_the_frames_were_cut() -> None:
    speaking = (np.random.default_rng(3).random(60) < 0.85).tolist()
    whole = fade_weights(speaking, 0, 60, 3)
    for at in range(0, 56, 4):
        seen = speaking[max(0, at - 3) : at + 7]
        assert fade_weights(seen, min(at, 3), 4, 3) == whole[at : at + 4]
