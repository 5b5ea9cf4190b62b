"""Speech as samples: what came of it, what the service has of it to draw, and what was handed on and heard."""

from __future__ import annotations

SAMPLE_BYTES = 2


class Sound:
    """16-bit little-endian samples that somebody says, as they come. Positions count samples of one channel from its beginning.

    drawn: so much of it went to the service. sent: so much went on to be heard. through: it goes on without lips. since: from when on it waits
    for its pictures. came_at: when its first samples came. Times are of the event loop's clock.
    """

    def __init__(self, rate: int, now: float = 0.0, channels: int = 1) -> None:
        """rate: in Hz."""
        self.rate = rate
        self.since = self.came_at = now
        self.ended = self.through = False
        self.drawn = self.sent = 0
        self._step = SAMPLE_BYTES * channels
        self._pcm = bytearray()
        self._heard: tuple[float, int] | None = None  # when, and which sample

    @property
    def samples(self) -> int:
        """That came so far. Of one that came in part the rest is waited for."""
        return len(self._pcm) // self._step

    @property
    def ms(self) -> float:
        """Length of what came."""
        return self.samples / self.rate * 1_000

    @property
    def played_out(self) -> bool:
        """All that came of it went on."""
        return self.sent == self.samples

    def write(self, pcm: bytes) -> None:
        """Cut anywhere, also within a sample."""
        self._pcm += pcm

    def undrawn(self, most: int) -> bytes:
        """What the service does not have yet, no more than `most` samples."""
        before, self.drawn = self.drawn, min(self.samples, self.drawn + most)
        return self._between(before, self.drawn)

    def take(self, upto: int) -> bytes:
        """What is heard next, to a position. Empty when that went on before."""
        before, self.sent = self.sent, max(self.sent, min(upto, self.samples))
        return self._between(before, self.sent)

    def hear(self, now: float, sample: int) -> None:
        """Sample `sample` is heard at `now`, and those behind it that were sent, after it."""
        self._heard = now, sample

    def heard(self, now: float) -> int:
        """Samples that were heard, never more than were sent."""
        if self._heard is None:
            return 0
        at, sample = self._heard
        return max(0, min(self.sent, sample + round((now - at) * self.rate)))

    def over(self, now: float) -> bool:
        """All of it was heard."""
        return self.ended and self.played_out and self.heard(now) == self.samples

    def _between(self, first: int, last: int) -> bytes:
        return bytes(self._pcm[self._step * first : self._step * last])
