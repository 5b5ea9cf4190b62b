"""The meter against what BS.1770 says of known signals, and the limiter against the meter."""

from __future__ import annotations

import numpy as np
import pytest

from museserve.messages import FloatArray
from museserve.speech.engines.loudness import AROUND, CEILING_DBTP, limited, measure
from museserve.timebase import SPEECH_RATE

TIME = np.arange(3 * SPEECH_RATE) / SPEECH_RATE


def swelling(hertz: float) -> FloatArray:
    """A tone up to full scale and down to nothing, 20 times a second at the most."""
    steps = np.random.default_rng(0).uniform(0.0, 1.0, 60)
    tone: FloatArray = (np.sin(2 * np.pi * hertz * TIME + 0.7) * np.interp(TIME, np.arange(60) / 20, steps)).astype(np.float32)
    return tone


def test_the_meter_reads_the_standards_tone() -> None:
    """A sine of 997 Hz at full scale in one channel is -3.01 LUFS."""
    found = measure((0.5 * np.sin(2 * np.pi * 997 * TIME)).astype(np.float32))
    assert found.lufs == pytest.approx(-3.01 - 6.02, abs=0.05) and found.true_peak_db == pytest.approx(-6.02, abs=0.05)
    assert measure(np.zeros(100, np.float32)).lufs <= -70
    assert measure(np.full(SPEECH_RATE // 10, 0.0, np.float32)).true_peak_db <= -100


@pytest.mark.parametrize("hertz", [120, 1_000, 3_000, 4_500])
@pytest.mark.parametrize("gain", [1.5, 4.0])
def test_no_peak_passes_the_ceiling(hertz: float, gain: float) -> None:
    sound = swelling(hertz)
    assert measure(sound * np.float32(gain)).true_peak_db > 3
    assert measure(limited(sound, gain)).true_peak_db <= CEILING_DBTP


def test_what_is_below_the_ceiling_is_only_multiplied() -> None:
    sound = 0.2 * swelling(500)
    assert np.array_equal(limited(sound, 2.0), sound * np.float32(2.0))


def test_pieces_with_their_surroundings_join_as_one() -> None:
    sound = swelling(300)
    whole, cut = limited(sound, 3.0), 30_123
    left, right = limited(sound[: cut + AROUND], 3.0)[:cut], limited(sound[cut - AROUND :], 3.0)[AROUND:]
    assert np.abs(np.concatenate([left, right]) - whole).max() < 1e-6


def test_the_gain_moves_slowly() -> None:
    """Within a period of a low voice it is nearly still, so it adds no harsh partials."""
    tone = (0.9 * np.sin(2 * np.pi * 100 * TIME)).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(limited(tone, 3.0)[SPEECH_RATE : 2 * SPEECH_RATE])) / (SPEECH_RATE / 2)
    assert spectrum[100] > 0.8 and spectrum[101:].max() < 1e-3
