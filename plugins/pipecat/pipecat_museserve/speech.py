"""The sound of one TTS context, as it comes and as it is heard, and the frames that have their places in it."""

from __future__ import annotations

from collections import deque

import numpy as np
from museserve_client.utterance import PCM_RATES
from pipecat.audio.utils import create_stream_resampler
from pipecat.frames.frames import Frame, TTSAudioRawFrame, TTSStoppedFrame

SAMPLE_BYTES = 2


class Speech:
    """Two forms of one sound: as the TTS gave it, which comes out again, and mono at `rate`, which the service draws.

    samples, drawn: of the second one, that came, and that went to the service. total, handed: of the first one, that came, and that went on down the
    pipeline. through: it goes on without lips. since: from when on it waits for its pictures. Times are of the event loop's clock.
    """

    def __init__(self, first: TTSAudioRawFrame, now: float) -> None:
        self.context = first.context_id
        self.interruptible = first.interruptible
        self.rate = _rate_for(first.sample_rate)
        self.out_rate = first.sample_rate
        self.since = self.came_at = now
        self.ended = self.through = self.cleared = False
        self.drawn = self.handed = 0
        self._first = first
        self._step_bytes = SAMPLE_BYTES * first.num_channels
        self._pcm, self._mono = bytearray(), bytearray()
        # Its speaker may pause: that is no end of the sound.
        self._resampler = None if self.rate == self.out_rate else create_stream_resampler(clear_after_secs=None)
        self._heard: tuple[float, int] | None = None  # when, and which sample
        self._began_at: float | None = None
        self._held: deque[tuple[int, Frame]] = deque()  # by their places in `total`
        self._timed: list[Frame] = []  # until it is known when it is heard

    @property
    def samples(self) -> int:
        return len(self._mono) // SAMPLE_BYTES

    @property
    def total(self) -> int:
        return len(self._pcm) // self._step_bytes

    @property
    def played_out(self) -> bool:
        """All that came of it went on."""
        return self.handed == self.total

    def fits(self, frame: TTSAudioRawFrame) -> bool:
        first = self._first
        return not self.ended and (frame.context_id, frame.sample_rate, frame.num_channels) == (
            first.context_id,
            first.sample_rate,
            first.num_channels,
        )

    # --- what comes -----------------------------------------------------------------------------------------------

    async def write(self, frame: TTSAudioRawFrame) -> None:
        self._pcm += frame.audio
        mono = frame.audio
        if frame.num_channels > 1:
            mono = np.frombuffer(mono, "<i2").reshape(-1, frame.num_channels).mean(axis=1).round().astype("<i2").tobytes()
        if self._resampler is not None:
            mono = await self._resampler.resample(mono, self.out_rate, self.rate)
        self._mono += mono

    async def end(self) -> None:
        if not self.ended:
            self.ended = True
            if self._resampler is not None:
                self._mono += await self._resampler.flush()

    def hold(self, frame: Frame) -> None:
        """It stands behind all that came so far."""
        if frame.pts:
            self._timed.append(frame)
        else:
            self._held.append((self.total, frame))

    def undrawn(self, most: int) -> bytes:
        """What the service does not have yet, no more than `most` samples."""
        upto = min(self.samples, self.drawn + most)
        mono = bytes(self._mono[SAMPLE_BYTES * self.drawn : SAMPLE_BYTES * upto])
        self.drawn = upto
        return mono

    # --- what goes on ---------------------------------------------------------------------------------------------

    def place(self, sample: int) -> int:
        """Of a sample of `rate` in what goes on."""
        return self.total if self.ended and sample >= self.samples else min(self.total, -(-sample * self.out_rate // self.rate))

    def take(self, upto: int) -> TTSAudioRawFrame | None:
        """What goes on next, to a position. None when that went on."""
        first, upto = self._first, min(upto, self.total)
        if upto <= self.handed:
            return None
        pcm = bytes(self._pcm[self._step_bytes * self.handed : self._step_bytes * upto])
        self.handed = upto
        frame = TTSAudioRawFrame(pcm, first.sample_rate, first.num_channels, context_id=first.context_id)
        frame.transport_destination, frame.interruptible = first.transport_destination, self.interruptible
        return frame

    def released(self, now: float) -> list[Frame]:
        """Frames whose place has come, in order. A `TTSStoppedFrame` waits until all before it was heard."""
        frames: list[Frame] = []
        if self._began_at is not None and self._timed:
            later_ns = max(0, round((self._began_at - self.came_at) * 1e9))
            frames += [_later(frame, later_ns) for frame in self._timed]
            self._timed.clear()
        while self._held:
            place, frame = self._held[0]
            if (self.heard(now) if isinstance(frame, TTSStoppedFrame) else self.handed) < place:
                break
            frames.append(self._held.popleft()[1])
        return frames

    def uninterruptible(self) -> list[Frame]:
        """Frames that outlive it when it is interrupted."""
        frames = [frame for _, frame in self._held if not frame.interruptible]
        return frames + [frame for frame in self._timed if not frame.interruptible]

    def hear(self, now: float, sample: int) -> None:
        """Sample `sample` of what goes on is heard at `now`, and those behind it that went on, after it."""
        self._heard = now, sample
        if self._began_at is None:
            self._began_at = now

    def heard(self, now: float) -> int:
        """Samples of what went on that were heard."""
        if self._heard is None:
            return 0
        at, sample = self._heard
        return max(0, min(self.handed, sample + round((now - at) * self.out_rate)))

    def over(self, now: float) -> bool:
        """All of it was heard, and all that stands in it went on."""
        return self.ended and self.played_out and self.heard(now) == self.total and not self._held and not self._timed


def _rate_for(rate: int) -> int:
    """The service's rate that keeps all of a sound, or the highest."""
    return next((one for one in PCM_RATES if one >= rate), PCM_RATES[-1])


def _later(frame: Frame, by_ns: int) -> Frame:
    frame.pts = (frame.pts or 0) + by_ns
    return frame
