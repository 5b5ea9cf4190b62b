"""Sound that a client sends while it is made. It is spoken in parts: one ends where the client pauses, so that all it sent is heard by then."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from museserve.timebase import FPS

Rate = Literal[16_000, 24_000, 48_000]
BYTES_A_SAMPLE = 2
PIECE_S = 1.0  # of sound in one call: who takes it resamples it where others' pictures wait
PAUSE_S = 0.3  # nothing came for so long
UNDRAWN_S = 0.8  # of a part that goes on, what an engine cannot draw yet: it looks ahead, and draws whole segments


class SoundPart:
    """Samples that are spoken in one go.

    start: samples of the whole sound before it. first_frame: of the utterance, where it is spoken. closed: nothing more comes.
    """

    def __init__(self, rate: int, start: int) -> None:
        self.rate, self.start = rate, start
        self.first_frame = 0
        self.closed = False
        self._pcm = bytearray()
        self._came_at = time.monotonic()
        self._changed = asyncio.Event()

    @property
    def samples(self) -> int:
        return len(self._pcm) // BYTES_A_SAMPLE

    def add(self, pcm: bytes | bytearray) -> None:
        self._pcm += pcm
        self._came_at = time.monotonic()
        self._changed.set()

    def close(self) -> None:
        self.closed = True
        self._changed.set()

    async def after(self, sample: int) -> tuple[bytes, bool]:
        """What follows a sample of the part, once there is something, up to `PIECE_S`; and whether nothing follows that. For one caller at a time."""
        while self.samples <= sample and not self.closed:
            self._changed.clear()
            await self._changed.wait()
        end = min(self.samples, sample + round(PIECE_S * self.rate))
        return bytes(self._pcm[sample * BYTES_A_SAMPLE : end * BYTES_A_SAMPLE]), self.closed and end == self.samples

    def pause_in_s(self, frames: int) -> float:
        """When it is paused, if nothing comes until then. frames: of the utterance, that are drawn."""
        undrawn_s = self.samples / self.rate - (frames - self.first_frame) / FPS
        return max(PAUSE_S - (time.monotonic() - self._came_at), undrawn_s - UNDRAWN_S)

    def ms_at(self, frame: int) -> int:
        """Where in the whole sound a frame of the utterance is; the end of the part for those after it, which are silent."""
        samples = min(max(0, frame - self.first_frame) * self.rate // FPS, self.samples)
        return round((self.start + samples) * 1_000 / self.rate)


class SentSound:
    """All of it. `add` and `end` as it comes, `take` parts as they are spoken.

    skip_ms: so much of its beginning was spoken in an earlier session.
    """

    def __init__(self, rate: int, skip_ms: int = 0) -> None:
        self.rate = rate
        self.bytes = 0
        self.ended = False
        self._start = round(skip_ms * rate / 1_000)
        self._skip = self._start * BYTES_A_SAMPLE
        self._odd = bytearray()  # half a sample
        self._open: SoundPart | None = None
        self._untaken: SoundPart | None = None
        self._parts: list[SoundPart] = []

    @property
    def seconds(self) -> float:
        return self.bytes / BYTES_A_SAMPLE / self.rate

    @property
    def ms(self) -> int:
        return round(self.seconds * 1_000)

    @property
    def done(self) -> bool:
        """Whether `take` will never give anything more."""
        return self.ended and self._untaken is None

    def add(self, data: bytes) -> None:
        """Little-endian int16, cut anywhere."""
        self.bytes += len(data)
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._odd += data[skipped:]
        whole = len(self._odd) - len(self._odd) % BYTES_A_SAMPLE
        if not whole:
            return
        if self._open is None:
            self._open = self._untaken = SoundPart(self.rate, self._start)
        self._open.add(self._odd[:whole])
        self._start += whole // BYTES_A_SAMPLE
        del self._odd[:whole]

    def take(self) -> SoundPart | None:
        """The next part, which may still grow."""
        part, self._untaken = self._untaken, None
        if part is not None:
            self._parts.append(part)
        return part

    def pause(self) -> None:
        """Close the part that grows: what comes then is another."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def end(self) -> None:
        self.ended = True
        self.pause()

    def ms_at(self, frame: int) -> int:
        """Where in the sound a frame of the utterance is."""
        spoken = [part for part in self._parts if part.first_frame <= frame]
        return spoken[-1].ms_at(frame) if spoken else 0
