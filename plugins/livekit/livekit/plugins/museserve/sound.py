"""The sound of one segment, as it comes from the agent and as it is heard."""

from __future__ import annotations

import numpy as np
from livekit import rtc
from museserve_client.sound import Sound


class ToMono:
    """Frames of any rate and number of channels -> 16-bit mono at `rate`, in a stream. One for each segment."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._from: tuple[int, int] | None = None
        self._resampler: rtc.AudioResampler | None = None

    def push(self, frame: rtc.AudioFrame) -> bytes:
        """What can be said for certain so far. Raises ValueError when the frames of one segment differ."""
        kind = (frame.sample_rate, frame.num_channels)
        if self._from is None:
            self._from = kind
            if frame.sample_rate != self._rate:
                self._resampler = rtc.AudioResampler(frame.sample_rate, self._rate, quality=rtc.AudioResamplerQuality.HIGH)
        if kind != self._from:
            raise ValueError(f"a segment began at {self._from[0]} Hz with {self._from[1]} channels and goes on at {kind[0]} Hz with {kind[1]}")
        samples = bytes(frame.data.cast("B"))
        if frame.num_channels > 1:
            channels = np.frombuffer(samples, "<i2").reshape(-1, frame.num_channels)
            samples = channels.mean(axis=1).round().astype("<i2").tobytes()
        return samples if self._resampler is None else _joined(self._resampler.push(bytearray(samples)))

    def finish(self) -> bytes:
        """The rest."""
        return b"" if self._resampler is None else _joined(self._resampler.flush())


def _joined(frames: list[rtc.AudioFrame]) -> bytes:
    return b"".join(bytes(frame.data.cast("B")) for frame in frames)


class Segment(Sound):
    """What the agent says in one go, until its `AudioSegmentEnd`."""

    def __init__(self, rate: int, now: float) -> None:
        super().__init__(rate, now)
        self._mono = ToMono(rate)

    def push(self, frame: rtc.AudioFrame) -> None:
        """Raises ValueError."""
        self.write(self._mono.push(frame))

    def end(self) -> None:
        self.ended = True
        self.write(self._mono.finish())
