"""A finished film as measurable curves: when its frames are shown, how much they differ, where the face is, what is heard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.lips.faces import FaceReader, FaceTrack

Curve = NDArray[np.float64]

SOUND_RATE = 16_000


@dataclass(frozen=True)
class Film:
    """times: (n,) seconds at which frames are first shown. changes: (n,) mean absolute luma difference to the frame before, in grey
    levels of half the size; the first is infinite. faces: one entry a frame. pcm: float32 (m,) at `SOUND_RATE`, its first sample heard
    at `sound_start_s`.
    """

    times: Curve
    changes: Curve
    faces: FaceTrack
    pcm: NDArray[np.float32]
    sound_start_s: float

    @property
    def frame_s(self) -> float:
        return float(np.median(np.diff(self.times)))

    @property
    def duration_s(self) -> float:
        """Of the pictures."""
        return float(self.times[-1] - self.times[0]) + self.frame_s

    @property
    def sound_s(self) -> float:
        return len(self.pcm) / SOUND_RATE

    def between(self, start_s: float, end_s: float) -> Film:
        """The part from `start_s` to `end_s`, on the same clock."""
        shown = (self.times >= start_s) & (self.times < end_s)
        first, last = (min(max(round((t - self.sound_start_s) * SOUND_RATE), 0), len(self.pcm)) for t in (start_s, end_s))
        start = self.sound_start_s + first / SOUND_RATE
        return Film(self.times[shown], self.changes[shown], self.faces.take(shown), self.pcm[first:last], start)


def read_film(path: Path, reader: FaceReader, look: Callable[[float], bool] = lambda second: True) -> Film:
    """Decode a film once. Faces are searched in the frames for which `look(seconds)` holds; the others count as not looked at.

    Raises:
        ValueError: the file has no pictures or no sound.
    """
    times, changes, faces = [], [], []
    before: NDArray[np.int16] | None = None
    with av.open(str(path)) as container:
        if not container.streams.video or not container.streams.audio:
            raise ValueError(
                f"{path.name} has {len(container.streams.video)} video and {len(container.streams.audio)} audio streams, one of each is needed"
            )
        for frame in container.decode(video=0):
            second = float(frame.time or 0.0)
            luma = frame.to_ndarray(format="gray")
            small = cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.int16)
            changes.append(float(np.abs(small - before).mean()) if before is not None else np.inf)
            times.append(second)
            faces.append(reader.read(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)) if look(second) else None)
            before = small
    pcm, start = _sound(path)
    return Film(np.array(times), np.array(changes), FaceTrack.of(faces), pcm, start)


def _sound(path: Path) -> tuple[NDArray[np.float32], float]:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SOUND_RATE)
    parts: list[NDArray[np.float32]] = []
    start = None
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            if start is None:
                start = float(frame.time or 0.0)
            frame.pts = None  # the resampler is to join, not to time
            parts += [np.asarray(piece.to_ndarray().reshape(-1), np.float32) for piece in resampler.resample(frame)]
        parts += [np.asarray(piece.to_ndarray().reshape(-1), np.float32) for piece in resampler.resample(None)]
    return np.concatenate(parts), start or 0.0
