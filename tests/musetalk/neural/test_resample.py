"""24 kHz to 16 kHz: nothing is moved, what fits is kept, what does not is gone."""

from __future__ import annotations

import numpy as np
import pytest

from musetalk.neural.resample import to_whisper_rate

MIDDLE = slice(400, -400)


def tone(hertz: float, rate: int, n: int) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(n) / rate + 0.3).astype(np.float32)


@pytest.mark.parametrize("hertz", [50, 440, 3_000, 7_000])
def test_tones_that_fit_are_the_same_tones_at_the_same_time(hertz: float) -> None:
    out = to_whisper_rate(tone(hertz, 24_000, 24_000))
    assert out.dtype == np.float32 and len(out) == 16_000
    assert np.abs(out - tone(hertz, 16_000, 16_000))[MIDDLE].max() < 1e-3


@pytest.mark.parametrize("hertz", [8_400, 9_000, 11_500])
def test_tones_that_do_not_fit_are_gone(hertz: float) -> None:
    assert np.abs(to_whisper_rate(tone(hertz, 24_000, 24_000))[MIDDLE]).max() < 1e-3


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 480, 481, 10_001])
def test_lengths(n: int) -> None:
    assert len(to_whisper_rate(np.zeros(n, np.float32))) == -(-n * 2 // 3)


def test_a_click_stays_where_it_is() -> None:
    pcm = np.zeros(3_000, np.float32)
    pcm[1_500] = 1.0
    assert np.abs(to_whisper_rate(pcm)).argmax() == 1_000


def test_a_part_sounds_as_it_does_in_the_whole() -> None:
    pcm = np.random.default_rng(0).standard_normal(24_000).astype(np.float32)
    whole, part = to_whisper_rate(pcm), to_whisper_rate(pcm[4_800:19_200])
    np.testing.assert_allclose(part[100:-100], whole[3_300:12_700], atol=1e-5)
