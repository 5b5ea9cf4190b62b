"""The sound of one segment, as it comes from the agent and as it is heard."""

from __future__ import annotations

import numpy as np
from livekit import rtc

SAMPLE_BYTES = 2


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


class Segment:
    """What the agent says in one go, until its `AudioSegmentEnd`. Positions count samples from its beginning.

    drawn: so much of it went to the service, sent: to the player. through: it is played without lips. since: from when on it waits for its pictures.
    """

    def __init__(self, rate: int, now: float) -> None:
        self.rate = rate
        self.since = self.came_at = now
        self.ended = self.through = False
        self.drawn = self.sent = 0
        self._pcm = bytearray()
        self._mono = ToMono(rate)
        self._heard: tuple[float, int] | None = None  # when, and which sample

    @property
    def samples(self) -> int:
        return len(self._pcm) // SAMPLE_BYTES

    @property
    def played_out(self) -> bool:
        """All that came of it went to the player."""
        return self.sent == self.samples

    def push(self, frame: rtc.AudioFrame) -> None:
        """Raises ValueError."""
        self._pcm += self._mono.push(frame)

    def end(self) -> None:
        self.ended = True
        self._pcm += self._mono.finish()

    def undrawn(self, most: int) -> bytes:
        """What the service does not have yet, no more than `most` samples."""
        upto = min(self.samples, self.drawn + most)
        pcm = bytes(self._pcm[SAMPLE_BYTES * self.drawn : SAMPLE_BYTES * upto])
        self.drawn = upto
        return pcm

    def take(self, upto: int) -> bytes:
        """What is played next, to a position. Empty when it was played."""
        upto = min(upto, self.samples)
        pcm = bytes(self._pcm[SAMPLE_BYTES * self.sent : SAMPLE_BYTES * upto])
        self.sent = max(self.sent, upto)
        return pcm

    def hear(self, now: float, sample: int) -> None:
        """Sample `sample` is heard now, and those behind it that were sent, after it."""
        self._heard = now, sample

    def heard(self, now: float) -> int:
        """Samples that were heard."""
        if self._heard is None:
            return 0
        at, sample = self._heard
        return max(0, min(self.sent, sample + round((now - at) * self.rate)))

    def over(self, now: float) -> bool:
        """All of it was heard."""
        return self.ended and self.played_out and self.heard(now) == self.samples
