"""The sound of one TTS context, as it comes and as it is heard, and the frames that have their places in it."""

from __future__ import annotations

from collections import deque

import numpy as np
from museserve_client.sound import Sound
from museserve_client.utterance import PCM_RATES
from pipecat.audio.utils import create_stream_resampler
from pipecat.frames.frames import Frame, TTSAudioRawFrame, TTSStoppedFrame


class Speech(Sound):
    """Two forms of one sound: mono at `rate`, which the service draws, and as the TTS gave it, `out`, which goes on down the pipeline."""

    def __init__(self, first: TTSAudioRawFrame, now: float) -> None:
        super().__init__(_rate_for(first.sample_rate), now)
        self.out = Sound(first.sample_rate, now, first.num_channels)
        self.context = first.context_id
        self.interruptible = first.interruptible
        self.cleared = False
        self._first = first
        # Its speaker may pause: that is no end of the sound.
        self._resampler = None if self.rate == self.out.rate else create_stream_resampler(clear_after_secs=None)
        self._began_at: float | None = None
        self._held: deque[tuple[int, Frame]] = deque()  # by their places in `out`
        self._timed: list[Frame] = []  # until it is known when it is heard

    @property
    def played_out(self) -> bool:
        """All that came of it went on."""
        return self.out.played_out

    def fits(self, frame: TTSAudioRawFrame) -> bool:
        first = self._first
        return not self.ended and (frame.context_id, frame.sample_rate, frame.num_channels) == (
            first.context_id,
            first.sample_rate,
            first.num_channels,
        )

    # --- what comes -----------------------------------------------------------------------------------------------

    async def push(self, frame: TTSAudioRawFrame) -> None:
        self.out.write(frame.audio)
        mono = frame.audio
        if frame.num_channels > 1:
            mono = np.frombuffer(mono, "<i2").reshape(-1, frame.num_channels).mean(axis=1).round().astype("<i2").tobytes()
        if self._resampler is not None:
            mono = await self._resampler.resample(mono, self.out.rate, self.rate)
        self.write(mono)

    async def end(self) -> None:
        if not self.ended:
            self.ended = self.out.ended = True
            if self._resampler is not None:
                self.write(await self._resampler.flush())

    def hold(self, frame: Frame) -> None:
        """It stands behind all that came so far."""
        if frame.pts:
            self._timed.append(frame)
        else:
            self._held.append((self.out.samples, frame))

    # --- what goes on ---------------------------------------------------------------------------------------------

    def place(self, sample: int) -> int:
        """Of a sample of `rate` in `out`."""
        out = self.out
        return out.samples if self.ended and sample >= self.samples else min(out.samples, -(-sample * out.rate // self.rate))

    def step(self, upto: int) -> TTSAudioRawFrame | None:
        """What goes on next, to a position in `out`. None when that went on."""
        first, pcm = self._first, self.out.take(upto)
        if not pcm:
            return None
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
            if (self.heard(now) if isinstance(frame, TTSStoppedFrame) else self.out.sent) < place:
                break
            frames.append(self._held.popleft()[1])
        return frames

    def uninterruptible(self) -> list[Frame]:
        """Frames that outlive it when it is interrupted."""
        frames = [frame for _, frame in self._held if not frame.interruptible]
        return frames + [frame for frame in self._timed if not frame.interruptible]

    def hear(self, now: float, sample: int) -> None:
        """Sample `sample` of `out` is heard at `now`, and those behind it that went on, after it."""
        self.out.hear(now, sample)
        if self._began_at is None:
            self._began_at = now

    def heard(self, now: float) -> int:
        """Samples of `out` that were heard."""
        return self.out.heard(now)

    def over(self, now: float) -> bool:
        """All of it was heard, and all that stands in it went on."""
        return self.out.over(now) and not self._held and not self._timed


def _rate_for(rate: int) -> int:
    """The service's rate that keeps all of a sound, or the highest."""
    return next((one for one in PCM_RATES if one >= rate), PCM_RATES[-1])


def _later(frame: Frame, by_ns: int) -> Frame:
    frame.pts = (frame.pts or 0) + by_ns
    return frame
