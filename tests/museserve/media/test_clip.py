"""Clips of every make come out as the same upright frames at 25 a second, or are refused with what was seen."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from configs.models import ClipConfig
from museserve.errors import ClipError
from museserve.media.clip import ClipInfo, is_clip, read_clip
from tests.museserve.media.films import film, marked, number, sound_only

LIMITS = ClipConfig()


def read(data: bytes, **limits: Any) -> tuple[list[np.ndarray], ClipInfo]:
    frames = []
    reading = read_clip(data, LIMITS.model_copy(update=limits))
    while True:
        try:
            frames.append(next(reading))
        except StopIteration as end:
            return frames, end.value


def refused(data: bytes, *says: str, **limits: Any) -> None:
    with pytest.raises(ClipError) as error:
        read(data, **limits)
    for part in says:
        assert part in str(error.value), error.value


@pytest.fixture(scope="module")
def plain() -> bytes:
    return film(map(marked, range(50)), sound_s=2.0)


def test_a_clip_at_25_comes_out_frame_by_frame(plain: bytes) -> None:
    frames, info = read(plain)
    assert [number(f) for f in frames] == list(range(50))
    assert (info.width, info.height, info.rotation, info.codec, info.fps) == (192, 128, 0, "h264", 25.0)
    assert info.n_frames == 50 and not info.variable and info.damaged == 0 and frames[0].shape == (128, 192, 3)
    again, _ = read(plain)
    assert all(np.array_equal(a, b) for a, b in zip(frames, again, strict=True))


@pytest.mark.parametrize("fps", [10, 24, 29.97, 30, 50, 60])
def test_other_rates_are_resampled_to_the_nearest_frame(fps: float) -> None:
    frames, info = read(film((marked(i) for i in range(round(2 * fps))), fps=fps))
    assert abs(len(frames) - 50) <= 1
    wanted = [k / 25 * fps for k in range(len(frames))]
    assert all(abs(number(f) - at) <= 0.51 for f, at in zip(frames[:-1], wanted, strict=False))
    assert info.fps == pytest.approx(fps, rel=0.002) and not info.variable


def test_a_variable_rate_keeps_its_time() -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.integers(15, 90, 60)).tolist()
    frames, info = read(film(map(marked, range(60)), times_ms=times))
    assert info.variable
    for k, frame in enumerate(frames):
        shown = times[number(frame)] - times[0]
        assert abs(shown - 40 * k) == min(abs(t - times[0] - 40 * k) for t in times)


def test_a_frame_that_stays_is_repeated() -> None:
    frames, _ = read(film(map(marked, range(30)), times_ms=[40 * i if i < 10 else 40 * i + 1_000 for i in range(30)]))
    numbers = [number(f) for f in frames]
    assert numbers.count(9) + numbers.count(10) == 27 and len(frames) in (55, 56)


@pytest.mark.parametrize(("turned", "corner"), [(0, (0, -1)), (90, (-1, -1)), (180, (-1, 0)), (270, (0, 0))])
def test_rotation_in_the_metadata_is_done(turned: int, corner: tuple[int, int]) -> None:
    frames, info = read(film(map(marked, range(30)), turned=turned))
    assert info.rotation == turned
    assert frames[0].shape == ((192, 128, 3) if turned % 180 else (128, 192, 3)) == (info.height, info.width, 3)
    assert frames[0][corner][0] > 150 > frames[0][corner][1]


def test_pixels_that_are_not_square_are_stretched() -> None:
    frames, info = read(film(map(marked, range(30)), aspect=Fraction(4, 3)))
    assert frames[0].shape == (128, 256, 3) and info.source == (192, 128)


def test_4k_is_scaled_down_as_it_is_decoded() -> None:
    picture = np.kron(marked(0), np.ones((18, 20, 1), np.uint8))[:2160]
    data = film([picture] * 10)
    frames, info = read(data, min_s=0.4)
    assert info.source == (3840, 2160) and (info.width, info.height) == (1920, 1080)
    assert frames[0].shape == (1080, 1920, 3)
    refused(data, "3840 x 2160", "2,000,000", max_pixels=2_000_000)


def test_memory_does_not_grow_with_the_clip() -> None:
    data = film(marked(i, 640, 480) for i in range(250))
    tracemalloc.start()
    for _ in read_clip(data, LIMITS):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 640 * 480 * 3  # of 250 frames


@pytest.mark.parametrize(
    ("kind", "codec"), [("webm", "libvpx-vp9"), ("matroska", "mpeg4"), ("mov", "libx264"), ("avi", "mjpeg"), ("mpegts", "libx264")]
)
def test_other_containers(kind: str, codec: str) -> None:
    data = film(map(marked, range(30)), kind=kind, codec=codec)
    assert is_clip(data)
    frames, _ = read(data)
    assert 29 <= len(frames) <= 31 and number(frames[12]) in (11, 12, 13)


def test_no_video_stream() -> None:
    refused(sound_only(), "no video stream", "audio")


def test_one_frame_and_too_few() -> None:
    refused(film([marked(0)]), "1 frame", "1 s", "image")
    refused(film(map(marked, range(12))), "12 frames (0.48 s)")


def test_ten_minutes_are_refused_by_the_header() -> None:
    data = film((marked(i % 1000) for i in range(600)), fps=1, crf=40)
    refused(data, "600.0 s", "20 s")


def test_a_length_that_no_header_tells_is_found_out() -> None:
    data = film((marked(i % 1000) for i in range(40)), fps=1, kind="matroska", options={"live": "1"})
    refused(data, "longer than 20 s")


@pytest.mark.parametrize(
    "data", [b"\0" * 4000, b"ftyp", b"\x89PNG\r\n\x1a\n" + b"x" * 500, b"RIFF....WAVE" + b"\0" * 100, b"#EXTM3U\nhttp://127.0.0.1/x"]
)
def test_what_is_no_clip(data: bytes) -> None:
    refused(data, "mp4")


def test_empty() -> None:
    refused(b"", "0 bytes")


def test_cut_and_damaged(plain: bytes) -> None:
    refused(plain[: len(plain) // 2], "beginning or end is missing")
    fast = film(map(marked, range(50)), options={"movflags": "faststart"})
    refused(fast[: len(fast) * 3 // 5], "cut short")
    broken = bytearray(fast)
    start = bytes(broken).index(b"mdat") + 600
    noise = np.random.default_rng(0).integers(0, 255, len(broken) - start - 200, np.uint8).tobytes()
    broken[start : start + len(noise)] = noise
    with pytest.raises(ClipError, match="damaged|no frame|cut short"):
        read(bytes(broken))


def test_tiny_frames() -> None:
    refused(film(marked(i, 128, 96) for i in range(30)), "128 x 96", "128 x 128")


def test_pictures_are_not_clips(plain: bytes) -> None:
    assert is_clip(plain)
    assert not is_clip(b"\x89PNG\r\n\x1a\n") and not is_clip(b"\xff\xd8\xff") and not is_clip(b"") and not is_clip(b"\0\0\0\x1cftypheic")
