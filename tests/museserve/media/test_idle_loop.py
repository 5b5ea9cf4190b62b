from __future__ import annotations

import cv2
import numpy as np
import pytest

from museserve.media.encode import FragmentEncoder, init_segment
from museserve.media.idle_loop import encode_idle
from tests.decoded import pictures
from tests.museserve.media.clips import CONFIG, SIDE, numbered, placed, watch
from tests.museserve.media.isobmff import parse_fragments


def swaying(n: int, size: int = 128, noise: float = 0.0) -> np.ndarray:
    """I420 (n, size * 3 // 2, size): soft texture that sways by less than a pixel, once in n frames."""
    rng = np.random.default_rng(5)
    scene = cv2.GaussianBlur(rng.normal(0, 60, (size, size)).astype(np.float32), (0, 0), 6) * 3 + 120
    frames = np.full((n, size * 3 // 2, size), 128, np.uint8)
    for i in range(n):
        moved = cv2.warpAffine(scene, np.array([[1, 0, 0.8 * np.sin(2 * np.pi * i / n)], [0, 1, 0]]), (size, size), borderMode=cv2.BORDER_REFLECT)
        frames[i, :size] = (moved + rng.normal(0, noise, moved.shape)).clip(0, 255)
    return frames


def border_jumps(shown: np.ndarray) -> np.ndarray:
    """How much the picture changes at each border of a loop's segments, the last among them: mean difference of luma, levels."""
    luma = shown[:, : shown.shape[2]].astype(int)
    return np.abs(luma[::8] - np.roll(luma, 1, axis=0)[::8]).mean(axis=(1, 2))


def test_what_is_shown_is_what_a_decoder_gives() -> None:
    loop = encode_idle(swaying(32), CONFIG)
    assert loop.crf == CONFIG.crf
    assert np.array_equal(pictures(loop.mp4), loop.shown)
    assert np.array_equal(pictures(loop.init + loop.segments[2]), loop.shown[16:24])


def test_borders_of_segments_jump_less_than_in_plain_encoding_and_the_picture_stays() -> None:
    frames = swaying(64)
    with FragmentEncoder(128, 128, CONFIG) as encoder:
        encoder.push_audio(np.zeros(64 * 960, np.float32))
        encoder.finish_audio(64)
        plain = pictures(encoder.init_segment + b"".join(encoder.encode(frames[at : at + 8]) for at in range(0, 64, 8)))
    shown = encode_idle(frames, CONFIG).shown
    assert border_jumps(shown).mean() < 0.7 * border_jumps(plain).mean()
    assert np.abs(shown.astype(int) - frames).mean() < np.abs(plain.astype(int) - frames).mean() + 0.15


def test_speech_that_begins_with_the_shown_pictures_does_not_jump() -> None:
    loop = encode_idle(swaying(64), CONFIG)
    jumps = []
    for phase in (3, 13, 21, 30, 44, 55):
        with FragmentEncoder(128, 128, CONFIG) as encoder:
            encoder.push_audio(np.zeros(9_600, np.float32))
            first = pictures(encoder.init_segment + encoder.encode(loop.shown[phase : phase + 2]))[0]
        jumps.append(np.abs(first[:128].astype(int) - loop.shown[phase - 1][:128]).mean())
    assert np.mean(jumps) <= border_jumps(loop.shown).mean()


def test_a_frame_that_comes_twice_is_as_it_was_shown_first() -> None:
    frames, order = swaying(13), np.concatenate([np.arange(13), np.arange(11, 0, -1)])
    loop = encode_idle(frames, CONFIG, order)
    assert loop.shown.shape == frames.shape
    assert np.array_equal(pictures(loop.mp4)[:13], loop.shown)


def test_noise_is_encoded_more_coarsely_instead_of_in_any_number_of_bytes() -> None:
    loop = encode_idle(swaying(16, noise=6), CONFIG)
    assert loop.crf > CONFIG.crf
    assert loop.init == init_segment(128, 128, CONFIG.model_copy(update={"crf": loop.crf}))
    pictures = sum(sum(info.tracks[0].sizes) for segment in loop.segments for info in parse_fragments(segment))
    assert pictures * 25 / 16 <= 128 * 128


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
