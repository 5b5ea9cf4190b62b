from __future__ import annotations

import numpy as np
import pytest

from museserve.media.compositing import planes
from museserve.media.static_blocks import keep_static


def grey(level: int = 100, size: int = 64) -> np.ndarray:
    return np.full((size * 3 // 2, size), level, np.uint8)


@pytest.mark.parametrize("plane", [0, 1, 2])
@pytest.mark.parametrize(("off", "held"), [(1, True), (2, False), (-1, True)])
def test_what_is_a_level_off_is_held_and_what_is_farther_off_is_not(plane: int, off: int, held: bool) -> None:
    before, now = grey(), grey()
    planes(now)[plane][:] += np.uint8(off % 256)
    expected = before if held else now
    assert np.array_equal(keep_static(now, before), expected)
    assert np.array_equal(planes(now)[plane][0], np.full(len(planes(now)[plane][0]), 100 + off)), "its argument is left alone"


def test_one_far_sample_changes_its_block_and_no_other() -> None:
    before, now = grey(), grey()
    luma = planes(now)[0]
    luma[:] = 101
    luma[20, 30] = 104  # in the block of rows 16..23 and columns 24..31
    expected = grey()
    planes(expected)[0][16:24, 24:32] = luma[16:24, 24:32]
    assert np.array_equal(keep_static(now, before), expected)


def test_sides_need_not_be_whole_blocks() -> None:
    before, now = np.full((27, 18), 100, np.uint8), np.full((27, 18), 101, np.uint8)
    assert np.array_equal(keep_static(now, before), before)
    assert np.array_equal(keep_static(now + np.uint8(4), before), now + 4)


def test_the_picture_may_be_read_only() -> None:
    now = grey(101)
    now.flags.writeable = False
    assert np.array_equal(keep_static(now, grey()), grey())
