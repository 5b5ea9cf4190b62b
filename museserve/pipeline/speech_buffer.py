"""Speech as it arrives, cut into the stretches that `listen` wants: frames whose context on both sides is known."""

from __future__ import annotations

import numpy as np

from museserve.messages import FloatArray, Phoneme, SpeechChunk, SpeechWindow, Word
from museserve.timebase import SEGMENT_FRAMES, SPEECH_RATE, SPEECH_SAMPLES_PER_FRAME, frames_for, whole_segments

LEVEL_WINDOW = SPEECH_RATE // 40  # 25 ms
FOLLOWED = 160  # windows, 4 s, whose level lips follow
LOWEST = 10 ** (-18 / 20)  # of the whole recording's level: what is quieter is no longer the voice
STRETCH_FRAMES = 8 * SEGMENT_FRAMES
HURRIED_FRAMES = 3 * SEGMENT_FRAMES  # of a recording that somebody waits for, heard before its piece is there: what he has first
LIVE_FRAMES = SEGMENT_FRAMES // 2  # heard by one call, of sound that comes a frame at a time
CLOSING_FRAMES = 6  # what a mouth needs to come to rest after the last sound


class SpeechBuffer:
    """The speech of one utterance so far. `append` chunks in order, `take` stretches until it returns None for good.

    context_s and lookahead_s are the engine's: how much speech before and after a frame `listen` wants to see.
    first_frame: the first of the first stretch; speech is appended from the utterance's beginning all the same.
    piece_s: above 0 for a recording, when the engine wants to see the whole pieces that a stretch lies in.
    hurried: somebody waits for the first pictures, so that the first `HURRIED_FRAMES` do not wait for their piece.
    live: it comes in small pieces, each of which would be a call.
    phase: as in `SpeechWindow`.
    """

    def __init__(
        self,
        context_s: float,
        lookahead_s: float,
        first_frame: int = 0,
        *,
        piece_s: float = 0.0,
        hurried: bool = True,
        live: bool = False,
        phase: int = 0,
    ) -> None:
        self._context = round(context_s * SPEECH_RATE)
        self._lookahead = round(lookahead_s * SPEECH_RATE)
        self._least = LIVE_FRAMES if live else 1
        self._piece, self._hurried = round(piece_s * SPEECH_RATE), hurried
        self._pcm: FloatArray = np.zeros(0, np.float32)
        self._offset = 0  # sample number of _pcm[0]; what no later stretch can need is dropped
        self._phonemes: list[Phoneme] = []
        self._phonemes_dropped = 0
        self._knows_phonemes = False
        self._powers: list[FloatArray] = []
        self._unmeasured: FloatArray = np.zeros(0, np.float32)
        self._first_frame = self._next_frame = first_frame
        self._phase = phase
        self.words: list[Word] = []
        self.final = False

    @property
    def samples(self) -> int:
        """Samples received so far."""
        return self._offset + len(self._pcm)

    @property
    def total_frames(self) -> int | None:
        """Frames of the whole utterance, padded to whole segments; None until the last chunk is here."""
        return whole_segments(frames_for(self.samples) + CLOSING_FRAMES) if self.final else None

    @property
    def level(self) -> float:
        """95th percentile of the 25 ms RMS so far, over windows that are not silent; 0.0 before any."""
        return self._level_of(np.concatenate(self._powers) if self._powers else np.zeros(0, np.float32))

    def _level_until(self, sample: int) -> float:
        """The level around a stretch that reaches to `sample`.

        A voice of ours keeps its level. In a recording somebody turns away, or the phone is put down: there it is that of the last
        seconds, so that lips open as far as they do.
        """
        if self._knows_phonemes or not self._powers:
            return self.level
        powers = np.concatenate(self._powers)
        self._powers = [powers]  # else there are more to join every time
        until = max(sample // LEVEL_WINDOW, FOLLOWED)
        return max(self._level_of(powers[max(0, until - FOLLOWED) : until]), LOWEST * self._level_of(powers))

    @staticmethod
    def _level_of(powers: FloatArray) -> float:
        rms = np.sqrt(powers)
        loud = rms[rms > rms.max(initial=0.0) * 0.01]
        return float(np.percentile(loud, 95)) if len(loud) else 0.0

    def append(self, chunk: SpeechChunk) -> None:
        """Raises ValueError when the chunk does not follow the one before."""
        if self.final or chunk.start != self.samples:
            raise ValueError(f"chunk starts at sample {chunk.start}, expected {self.samples} (final={self.final})")
        self._pcm = np.concatenate([self._pcm, chunk.pcm])
        self._measure(chunk.pcm)
        if chunk.phonemes is not None:
            self._knows_phonemes = True
            self._phonemes.extend(chunk.phonemes)
        self.words.extend(chunk.words)
        self.final = chunk.final
        self._forget()

    def take(self) -> SpeechWindow | None:
        """The next stretch of determined frames with its context. None when there is none yet, or no more.

        The first is one segment long, because a picture waits for it; later ones are at most `STRETCH_FRAMES`. Those of a recording come with
        the whole pieces that they lie in.
        """
        end_frame = self.total_frames if self.final else max(0, self.samples - self._lookahead) // SPEECH_SAMPLES_PER_FRAME
        assert end_frame is not None
        segment = self._first_frame + SEGMENT_FRAMES  # the first: a picture waits for what completes it
        least = min(self._least, segment - self._next_frame) if self._next_frame < segment <= end_frame else self._least
        if end_frame < self._next_frame + (1 if self.final else least):
            return None
        first = self._next_frame
        end_frame = min(end_frame, first + (STRETCH_FRAMES if first > self._first_frame else SEGMENT_FRAMES))
        hurried_until = self._first_frame + (HURRIED_FRAMES if self._piece and self._hurried else 0)
        if first < hurried_until:
            end_frame = min(end_frame, hurried_until)
        start = max(0, first * SPEECH_SAMPLES_PER_FRAME - self._context)
        start -= start % SPEECH_SAMPLES_PER_FRAME
        reach = min(end_frame * SPEECH_SAMPLES_PER_FRAME + self._lookahead, self.samples)
        level = self._level_until(reach)
        whole = self._piece > 0 and first >= hurried_until
        if whole:
            # A frame more on each side, so that pieces sound at their borders as they do in the recording.
            start = max(0, self._piece_start(first) - SPEECH_SAMPLES_PER_FRAME)
            reach = -(-reach // self._piece) * self._piece + SPEECH_SAMPLES_PER_FRAME
            if reach > self.samples and not self.final:
                return None
            reach = min(reach, self.samples)
        near = [number for number, p in enumerate(self._phonemes) if p.end > start and p.start < reach] or [0]
        pcm = self._pcm[max(0, start - self._offset) : max(0, reach - self._offset)]
        speech = SpeechWindow(
            start=start,
            pcm=pcm,
            first_frame=first,
            n_frames=end_frame - first,
            phonemes=tuple(self._phonemes[near[0] : near[-1] + 1]) if self._knows_phonemes else None,
            first_phoneme=self._phonemes_dropped + near[0],
            level=level,
            final=self.final and reach == self.samples,
            whole=whole,
            phase=self._phase,
        )
        self._next_frame = end_frame
        self._forget()
        return speech

    def _measure(self, pcm: FloatArray) -> None:
        fresh = np.concatenate([self._unmeasured, pcm])
        n = len(fresh) // LEVEL_WINDOW
        if n:
            self._powers.append(np.square(fresh[: n * LEVEL_WINDOW].reshape(n, LEVEL_WINDOW)).mean(1))
        self._unmeasured = fresh[n * LEVEL_WINDOW :]

    def _piece_start(self, frame: int) -> int:
        """The first sample of the piece in which lies what is heard around a frame."""
        heard_from = max(0, frame * SPEECH_SAMPLES_PER_FRAME - self._lookahead)
        return heard_from - heard_from % self._piece

    def _forget(self) -> None:
        keep_from = self._next_frame * SPEECH_SAMPLES_PER_FRAME - self._context - SPEECH_SAMPLES_PER_FRAME
        if self._piece:
            keep_from = min(keep_from, self._piece_start(self._next_frame) - SPEECH_SAMPLES_PER_FRAME)
        drop = min(keep_from - self._offset, len(self._pcm))
        # Dropping in blocks, so that a long utterance is not copied at every stretch.
        if drop > 10 * SPEECH_RATE:
            drop -= drop % SPEECH_SAMPLES_PER_FRAME
            self._pcm = self._pcm[drop:].copy()
            self._offset += drop
            kept = [p for p in self._phonemes if p.end > self._offset]
            self._phonemes_dropped += len(self._phonemes) - len(kept)
            self._phonemes = kept
