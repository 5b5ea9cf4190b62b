from __future__ import annotations

import numpy as np
import pytest

from museserve.media.resample import Doubler


def doubled(pcm: np.ndarray, cuts: list[int]) -> np.ndarray:
    doubler = Doubler()
    parts = [doubler.push(part) for part in np.split(pcm, cuts)]
    return np.concatenate([*parts, doubler.finish()])


def test_every_input_sample_stands_unchanged_at_twice_its_place() -> None:
    pcm = np.random.default_rng(1).uniform(-1, 1, 5_000).astype(np.float32)
    out = doubled(pcm, [])
    assert out.dtype == np.float32 and len(out) == 10_000
    assert np.array_equal(out[::2], pcm)


def test_pieces_of_any_length_give_the_same_samples() -> None:
    rng = np.random.default_rng(2)
    pcm = rng.uniform(-1, 1, 5_000).astype(np.float32)
    cuts = sorted(rng.integers(0, 5_000, 40).tolist())
    np.testing.assert_allclose(doubled(pcm, cuts), doubled(pcm, []), atol=1e-6)


@pytest.mark.parametrize("n", [0, 1, 31, 32, 63])
def test_the_shortest_speech_comes_out_twice_as_long(n: int) -> None:
    assert len(doubled(np.ones(n, np.float32), [])) == 2 * n


@pytest.mark.parametrize("hz", [100, 1_000, 5_000, 10_000])
def test_a_tone_stays_a_clean_tone(hz: int) -> None:
    pcm = np.sin(2 * np.pi * hz * np.arange(24_000) / 24_000).astype(np.float32)
    expected = np.sin(2 * np.pi * hz * np.arange(48_000) / 48_000)
    error = (doubled(pcm, []) - expected)[1_000:-1_000]
    assert 20 * np.log10(np.sqrt(np.mean(error**2)) / np.sqrt(0.5)) < -70
