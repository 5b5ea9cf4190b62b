"""Clips of a high dynamic range come out in the colours that they were filmed in, also where FFmpeg is another."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from configs.models import ClipConfig
from museserve.media import hdr
from museserve.media.clip import ClipInfo, read_clip
from museserve.messages import ByteArray
from tests.museserve.media.films import film, hdr_film

LIMITS = ClipConfig(min_s=0.4)
COLOURS = np.array(  # skin, dark and light, and what clothes and walls have
    [
        [236, 188, 160],
        [141, 85, 62],
        [92, 54, 40],
        [30, 30, 30],
        [118, 118, 118],
        [170, 40, 35],
        [40, 110, 60],
        [45, 60, 140],
        [190, 170, 60],
        [8, 8, 8],
    ],
    np.uint8,
)


def chart() -> ByteArray:
    """Blocks of 32 x 64 pixels, five a row."""
    return np.kron(COLOURS.reshape(2, 5, 3), np.ones((64, 32, 1), np.uint8))


def read(data: bytes) -> tuple[list[ByteArray], ClipInfo]:
    frames, reading = list[ByteArray](), read_clip(data, LIMITS)
    while True:
        try:
            frames.append(next(reading))
        except StopIteration as end:
            return frames, end.value


def blocks(rgb: ByteArray) -> np.ndarray:
    """The middle of each, (10, 3)."""
    return np.array([rgb[64 * (i // 5) + 16 : 64 * (i // 5) + 48, 32 * (i % 5) + 8 : 32 * (i % 5) + 24].mean(axis=(0, 1)) for i in range(10)])


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("kind", ["PQ", "HLG"])
def test_a_clip_comes_out_in_its_colours(kind: hdr.Kind, codec: str) -> None:
    frames, info = read(hdr_film([chart()] * 12, kind, codec=codec))
    assert info.hdr == kind and len(frames) == 12
    for frame in (frames[0], frames[11]):
        wrong = np.abs(blocks(frame) - COLOURS)
        assert wrong[COLOURS.max(axis=1) < 180].max() < 5, "of middle brightness all is as it was"
        assert wrong.max() < 16, "and only what is bright is dimmed"


@pytest.mark.parametrize("kind", ["PQ", "HLG"])
def test_lights_four_times_as_bright_as_paper_keep_their_steps(kind: hdr.Kind) -> None:
    ramp = np.repeat(np.repeat(np.linspace(90, 255, 16).astype(np.uint8)[None, :, None], 128, 0), 16, 1)
    (frame, *_), _ = read(hdr_film([np.repeat(ramp, 3, 2)] * 12, kind, peak=4.0))
    levels = frame[64, 8::16].astype(int)
    assert (np.diff(levels.mean(axis=1))[:10] > 0.5).all() and levels[10].max() < 255, "nothing is burnt out but the brightest"
    assert levels[-1].min() >= 250
    assert np.ptp(levels, axis=1).max() <= 4, "grey stays grey"


def test_turned_and_scaled_down() -> None:
    picture = np.kron(chart(), np.ones((14, 14, 1), np.uint8))
    frames, info = read(hdr_film([picture] * 12, "HLG"))
    assert (info.width, info.height, info.source) == (1350, 1080, (2240, 1792))
    small = np.asarray(cv2.resize(frames[3], (160, 128), interpolation=cv2.INTER_AREA), np.uint8)
    assert np.abs(blocks(small) - COLOURS)[COLOURS.max(axis=1) < 180].max() < 5


def test_an_ordinary_clip_is_not_touched() -> None:
    _, info = read(film([chart()] * 12))
    assert info.hdr == ""


def test_known_points_of_the_standards() -> None:
    def nits(signal: float, kind: hdr.Kind) -> float:
        grey = np.full((1, 3), signal)
        return float((hdr.from_pq(grey) if kind == "PQ" else hdr.from_hlg(grey))[0, 0])

    # BT.2408, table 1: reference white is 58 % PQ and 75 % HLG, 18 % grey card 38 % of both.
    assert nits(0.58, "PQ") == pytest.approx(203, rel=0.01) and nits(0.75, "HLG") == pytest.approx(203, rel=0.01)
    assert nits(0.38, "PQ") == pytest.approx(26, rel=0.03) and nits(0.38, "HLG") == pytest.approx(26, rel=0.03)
    assert nits(0.7518, "PQ") == pytest.approx(1_000, rel=0.002) and nits(1.0, "HLG") == pytest.approx(1_000, rel=1e-3)
    assert hdr.rolled_off(np.array([50.0, 1_000.0, 4_000.0])) == pytest.approx([50.0, 203.0, 203.0], rel=1e-3)
    assert np.diff(hdr.rolled_off(np.geomspace(0.01, 1_000, 500))).min() > 0
    everything = np.random.default_rng(0).random((5_000, 3))
    for kind in ("PQ", "HLG"):
        ordinary = hdr.to_ordinary(everything, kind)
        assert ordinary.min() >= 0 and ordinary.max() <= 1 and np.isfinite(ordinary).all()
