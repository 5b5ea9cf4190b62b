"""What the other end of a WebRTC connection gets, as aiortc decodes it. For the tests and benchmarks of plugins; needs nothing but numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PEER_RATE = 48_000
LOUD = 300  # of 32768


def small_luma(frame: Any) -> NDArray[np.uint8]:
    """Each fourth line and column of a video frame."""
    plane = frame.planes[0]
    luma = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[: frame.height, : frame.width]
    return luma[::4, ::4].copy()


def left(frame: Any) -> NDArray[np.int16]:
    """The first channel of an audio frame."""
    samples: NDArray[np.int16] = frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0].copy()
    return samples


def hold_no_sound(peer: Any) -> None:
    """aiortc's receiver holds four packets of sound back, and none of pictures; a browser aligns the two by their sender's clocks."""
    peer.getReceivers()[0]._RTCRtpReceiver__jitter_buffer._prefetch = 0


def last_loud(sound: Sequence[tuple[float, NDArray[np.int16]]]) -> float:
    """When the last sample came that is heard, of pieces and the time of the last sample of each; 0 of silence."""
    for came, samples in reversed(sound):
        loud = np.flatnonzero(np.abs(samples.astype(int)) > LOUD)
        if len(loud):
            return came - (len(samples) - 1 - int(loud[-1])) / PEER_RATE
    return 0.0


def found(wanted: NDArray[np.int16], in_sound: NDArray[np.int16]) -> tuple[int, float]:
    """Where `wanted` begins in a sound of the same rate, and how well the two correlate there."""
    n = 1 << int(np.ceil(np.log2(len(in_sound) + len(wanted))))
    spectrum = np.fft.rfft(in_sound.astype(float), n) * np.conj(np.fft.rfft(wanted.astype(float), n))
    at = int(np.fft.irfft(spectrum, n)[: max(1, len(in_sound) - len(wanted) + 1)].argmax())
    there = in_sound[at : at + len(wanted)]
    if not there.any() or not wanted.any():
        return at, 0.0
    return at, float(np.corrcoef(there.astype(float), wanted[: len(there)].astype(float))[0, 1])


def at_48_khz(pcm: bytes) -> NDArray[np.int16]:
    """From 24 kHz."""
    mono = np.frombuffer(pcm, "<i2").astype(float)
    samples: NDArray[np.int16] = np.interp(np.arange(2 * len(mono)) / 2, np.arange(len(mono)), mono).round().astype(np.int16)
    return samples
