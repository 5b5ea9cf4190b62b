from __future__ import annotations

import numpy as np
import pytest

from media.encode import init_segment
from media.idle import encode_idle
from media.inspect import parse_fragments
from tests.media.clips import CONFIG, SIDE, numbered, placed, watch


def test_segments_begin_at_zero_and_can_be_placed_anywhere() -> None:
    loop = encode_idle(numbered(0, 32), CONFIG)
    assert loop.init == init_segment(SIDE, SIDE, CONFIG)
    assert len(loop.segments) == 4
    for segment in loop.segments:
        (info,) = parse_fragments(segment)
        assert [track.decode_time for track in info.tracks] == [0, 0]
        assert [len(track.sizes) for track in info.tracks] == [8, 15]
        assert info.tracks[0].sync == (True, *[False] * 7)
    order = [0, 1, 2, 3, 0, 2, 2, 1]  # round, and by jumps
    shown, pcm, _ = watch(loop.init + b"".join(placed([loop.segments[n]], k)[0] for k, n in enumerate(order)))
    assert shown == [(8 * k + i, 8 * n + i) for k, n in enumerate(order) for i in range(8)]
    assert len(pcm) == 8 * 15_360 and not pcm.any()


def test_the_file_is_the_loop_once_with_tracks_of_equal_length() -> None:
    shown, pcm, first = watch(encode_idle(numbered(0, 16), CONFIG).mp4)
    assert shown == [(i, i) for i in range(16)]
    assert first == 0 and len(pcm) == 2 * 15_360


@pytest.mark.parametrize("n", [0, 7, 12])
def test_a_loop_is_a_whole_number_of_segments(n: int) -> None:
    with pytest.raises(ValueError, match="whole number of segments"):
        encode_idle(np.zeros((n, 96, 64), np.uint8), CONFIG)
