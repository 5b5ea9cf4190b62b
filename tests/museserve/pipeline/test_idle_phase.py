from __future__ import annotations

from museserve.pipeline.idle_phase import grid_of, idle_frame
from museserve.timebase import SEGMENT_FRAMES

LOOP = 64


def test_speech_joins_at_any_frame_and_is_on_the_grid_from_its_second_segment() -> None:
    for phase in range(LOOP):
        shown = [idle_frame(phase, f, LOOP) for f in range(40)]
        assert shown[0] == phase
        assert grid_of(phase, LOOP) % SEGMENT_FRAMES == 0
        assert shown[SEGMENT_FRAMES:] == [(grid_of(phase, LOOP) + f) % LOOP for f in range(SEGMENT_FRAMES, 40)]
        steps = {(b - a) % LOOP for a, b in zip(shown, shown[1:], strict=False)}
        assert steps <= {0, 1, 2}, phase
        assert steps == {1} or phase % SEGMENT_FRAMES


def test_the_grid_is_never_farther_than_half_a_segment() -> None:
    assert [(grid_of(phase, LOOP) - phase) % LOOP for phase in range(8)] == [0, LOOP - 1, LOOP - 2, LOOP - 3, 4, 3, 2, 1]
