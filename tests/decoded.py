"""What a player would show and play of a film, decoded with FFmpeg."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import av
import numpy as np

from museserve.messages import ByteArray, FloatArray
from museserve.timebase import FPS


def frames(film: bytes) -> list[av.VideoFrame]:
    """Its pictures with their times."""
    with av.open(io.BytesIO(film), "r") as container:
        return list(container.decode(video=0))


def pictures(film: bytes) -> ByteArray:
    """I420 uint8 (n, h * 3 // 2, w)."""
    return np.stack([np.asarray(frame.to_ndarray(format="yuv420p"), np.uint8) for frame in frames(film)])


def numbers(shown: Iterable[av.VideoFrame]) -> list[int]:
    """Where each lies in time, in frames at `FPS`."""
    found = []
    for frame in shown:
        assert frame.time is not None
        found.append(round(frame.time * FPS))
    return found


def sound(film: bytes) -> FloatArray:
    """The first channel, float32 (n,) at the film's rate."""
    with av.open(io.BytesIO(film), "r") as container:
        return np.concatenate([np.asarray(frame.to_ndarray()[0], np.float32) for frame in container.decode(audio=0)])


def length_s(stream: Any) -> Fraction:
    """Seconds of a stream of a container, exactly as it is written there."""
    return Fraction(stream.duration * stream.time_base)
