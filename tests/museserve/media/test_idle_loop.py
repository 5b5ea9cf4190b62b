from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import pytest

from museserve.media.encode import FragmentEncoder, init_segment
from museserve.media.fragments import moved
from museserve.media.idle_loop import IdleLoop, Lap, encode_idle
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


def off(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference, levels."""
    return float(np.abs(a.astype(int) - b).mean())


def plain(frames: np.ndarray) -> np.ndarray:
    """As they are seen with a key frame in each segment and no care."""
    n = len(frames)
    with FragmentEncoder(128, 128, CONFIG, key_frames=8) as encoder:
        encoder.push_audio(np.zeros(n * 960, np.float32))
        encoder.finish_audio(n)
        return pictures(encoder.init_segment + b"".join(encoder.encode(frames[at : at + 8]) for at in range(0, n, 8)))


def around(loop: IdleLoop, entry: int) -> np.ndarray:
    """What a decoder gives once around, from a segment with a key frame on, in the loop's order."""
    n = len(loop.segments)
    order = [(entry + i) % n for i in range(n)]
    played = [loop.segments[entry], *(loop.steady[number] for number in order[1:])]
    return np.roll(pictures(loop.init + b"".join(moved(segment, 8 * i) for i, segment in enumerate(played))), 8 * entry, axis=0)


@pytest.mark.parametrize("entry", [0, 2])
def test_what_is_shown_is_what_a_decoder_gives_wherever_it_begins(entry: int) -> None:
    loop = encode_idle(swaying(32), CONFIG)
    assert loop.crf == CONFIG.crf
    assert off(around(loop, entry), loop.shown) < 0.5
    assert off(pictures(loop.mp4), loop.shown) < 0.5


def test_borders_of_segments_jump_no_more_than_other_pictures_and_the_picture_stays() -> None:
    frames = swaying(64)
    loop, careless = encode_idle(frames, CONFIG), plain(frames)
    seen = around(loop, 0)
    assert border_jumps(seen)[1:].mean() < 0.7 * border_jumps(careless)[1:].mean()
    assert border_jumps(seen)[1:].mean() < 1.3 * border_jumps(np.roll(seen, 4, axis=0)).mean()
    assert off(loop.shown, frames) < off(careless, frames) + 0.4


def test_speech_that_begins_with_the_shown_pictures_jumps_no_more_than_a_key_frame_must() -> None:
    frames = swaying(64)
    loop = encode_idle(frames, CONFIG)
    jumps = []
    for phase in (3, 13, 21, 30, 44, 55):
        with FragmentEncoder(128, 128, CONFIG) as encoder:
            encoder.push_audio(np.zeros(9_600, np.float32))
            first = pictures(encoder.init_segment + encoder.encode(loop.shown[phase : phase + 2]))[0]
        jumps.append(np.abs(first[:128].astype(int) - loop.shown[phase - 1][:128]).mean())
    assert np.mean(jumps) <= border_jumps(plain(frames)).mean()


def test_a_frame_that_comes_twice_is_as_it_was_shown_first() -> None:
    frames, order = swaying(13), np.concatenate([np.arange(13), np.arange(11, 0, -1)])
    loop = encode_idle(frames, CONFIG, order)
    assert loop.shown.shape == frames.shape
    assert off(pictures(loop.mp4)[:13], loop.shown) < 0.5


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
    assert len(loop.steady) == 4
    for segment in (*loop.segments, *loop.steady):
        (info,) = parse_fragments(segment)
        assert [track.decode_time for track in info.tracks] == [0, 0]
        assert [len(track.sizes) for track in info.tracks] == [8, 15]
        assert info.tracks[0].sync == (segment in loop.segments, *[False] * 7)
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


def test_a_gesture_follows_the_loop_and_the_loop_follows_it() -> None:
    frames = swaying(64)
    spans = {"listening": ((2, 2), (6, 1)), "thinking": ((1, 3),)}
    nods = {}
    for first, n in (span for its in spans.values() for span in its):
        for number in range(8 * first, 8 * (first + n)):  # by some pixels, and back
            down = round(4 * np.sin(np.pi * (number - 8 * first + 0.5) / (8 * n)) - 0.4)
            nods[first, number] = cv2.warpAffine(frames[number], np.array([[1.0, 0, 0], [0, 1, down]]), (128, 192), borderMode=cv2.BORDER_REFLECT)

    def drawn(its: tuple[tuple[int, int], ...], number: int) -> np.ndarray:
        return next(nods[first, number] for first, n in its if 8 * first <= number < 8 * (first + n))

    loop = encode_idle(frames, CONFIG, laps={state: Lap(its, partial(drawn, its)) for state, its in spans.items()})
    without = encode_idle(frames, CONFIG)
    assert (loop.segments, loop.steady, loop.mp4) == (without.segments, without.steady, without.mp4)
    assert {state: tuple((one.first, len(one.segments)) for one in made) for state, made in loop.gestures.items()} == spans
    for made in loop.gestures.values():
        for gesture in made:
            end = gesture.first + len(gesture.segments)
            played = [loop.segments[0], *loop.steady[1 : gesture.first], *gesture.segments, *loop.steady[end:]]
            assert not any(parse_fragments(segment)[0].tracks[0].sync[0] for segment in gesture.segments)
            seen = pictures(loop.init + b"".join(moved(segment, 8 * i) for i, segment in enumerate(played)))
            first, last = 8 * gesture.first, 8 * end
            assert off(seen[first:last], np.stack([nods[gesture.first, number] for number in range(first, last)])) < off(loop.shown, frames) + 0.5, (
                "the gesture is as good as the loop"
            )
            assert off(seen[last:], loop.shown[last:]) < 1.0, "and the loop behind it nearly what it is without"
