"""Playing at 25 frames a second what arrives, and judging it: when it came, whether it goes on without a gap, and whose it is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import av

from benchmarks.load.marks import LEAST_S, colour_of, listen, pictures_of, sound_of
from museserve.runtime.cpu import lower_priority
from museserve.timebase import AAC_FRAME, FPS, OUTPUT_RATE, SEGMENT_FRAMES, VIDEO_TIMESCALE
from tests.museserve.media.isobmff import parse_fragments

TICKS = VIDEO_TIMESCALE // FPS
VIDEO, AUDIO = 1, 2  # numbers of the tracks
KEPT_PICTURES = 3  # of a film that are looked at: spread over it
MOST_APART_S = 2 * AAC_FRAME / OUTPUT_RATE  # of the tracks' ends inside a segment; at its end they are equal


@dataclass
class Played:
    """One utterance as its client had it. Times in seconds on the clock of `time.perf_counter`.

    end: whole, cut (it broke off without a word), refused (no room: `code` says so, and when to come back), failed
    (an error with a type), interrupted (as the client asked), untyped (an error without a type).
    late: how late each underrun was; order: what is wrong with the fragments' times; sound, picture: what is wrong with the marks.
    """

    client: str
    kind: str
    key: str
    avatar: str = ""
    asked: float = 0.0
    first_s: float | None = None
    began: float | None = None
    frames: int = 0
    least_in_hand_s: float | None = None
    largest_gap_s: float = 0.0
    late: list[float] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    sound: str = ""
    picture: str = ""
    words: str = ""
    judged: list[str] = field(default_factory=list)
    delayed: int = 0
    end: str = ""
    status: int = 0
    code: str = ""
    said: str = ""
    over: float = 0.0

    @property
    def plays_until(self) -> float:
        """When its last picture has been shown."""
        return 0.0 if self.began is None else self.began + sum(self.late) + self.frames / FPS

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Judge:
    """Takes the fragments of one utterance as they come.

    `free_at`: when the screen is free for it; whoever speaks without a pause shows the next utterance after the one before.
    """

    def __init__(self, played: Played, init: bytes = b"", free_at: float = 0.0) -> None:
        self.played, self._init, self._free_at = played, init, free_at
        self._ends = {VIDEO: 0, AUDIO: 0}
        self._data: list[bytes] = []
        self._last: float | None = None

    def init(self, data: bytes) -> None:
        self._init = data

    def fragment(self, data: bytes, at: float, first_frame: int | None = None, n_frames: int | None = None) -> None:
        """One moof + mdat. first_frame, n_frames: as its header says, where it has one."""
        played = self.played
        try:
            (info,) = parse_fragments(data)
        except (ValueError, IndexError, ArithmeticError) as error:
            played.order.append(f"not one fragment: {error}")
            return
        tracks = {track.track: track for track in info.tracks}
        if set(tracks) != {VIDEO, AUDIO}:
            played.order.append(f"tracks {sorted(tracks)}")
            return
        begins = tracks[VIDEO].decode_time // TICKS
        frames = tracks[VIDEO].duration // TICKS
        for number, track in tracks.items():
            if track.decode_time != self._ends[number]:
                played.order.append(f"track {number} goes on at {track.decode_time}, after {self._ends[number]}")
            self._ends[number] = track.decode_time + track.duration
        if first_frame is not None and (first_frame, n_frames) != (begins, frames):
            played.order.append(f"the header says frames {first_frame}+{n_frames}, the fragment {begins}+{frames}")
        apart = self._ends[AUDIO] / OUTPUT_RATE - self._ends[VIDEO] / VIDEO_TIMESCALE
        if abs(apart) > (MOST_APART_S if (begins + frames) % SEGMENT_FRAMES else 1e-6):
            played.order.append(f"sound ends {apart * 1e3:.1f} ms after the pictures at frame {begins + frames}")
        self._data.append(data)
        self._play(begins, frames, at)

    def _play(self, begins: int, frames: int, at: float) -> None:
        played = self.played
        if self._last is not None:
            played.largest_gap_s = max(played.largest_gap_s, at - self._last)
        self._last = at
        if played.first_s is None:
            played.first_s = at - played.asked
        played.frames = max(played.frames, begins + frames)
        if begins < SEGMENT_FRAMES:
            if played.frames >= SEGMENT_FRAMES:  # the first segment is complete
                played.began = max(at, self._free_at)
            return
        if played.began is None:
            return
        in_hand = played.began + sum(played.late) + begins / FPS - at
        played.least_in_hand_s = in_hand if played.least_in_hand_s is None else min(played.least_in_hand_s, in_hand)
        if in_hand < 0:
            played.late.append(-in_hand)

    def marks(self, sound_s: float, colour: str, known: Mapping[str, float]) -> None:
        """Decode and compare with what was asked for; slow, so never where fragments are received.

        sound_s: of the recording under `played.key`, 0 when it was a text. colour: of the avatar, empty when it has none.
        known: keys of all recordings with their seconds. An utterance that broke off is compared as far as it came.
        """
        played = self.played
        if not self._data:
            return
        try:
            length = min(sound_s, played.frames / FPS)
            if length >= LEAST_S:  # what broke off earlier has no mark yet
                found = listen(sound_of(self._init + b"".join(self._data)), played.key, length, known)
                played.judged.append("sound")
                if not found.own:
                    played.sound = f"right {found.right:.2f}, pure {found.pure:.2f}" + (f", it is that of {found.of}" if found.of else "")
            if colour:
                every = max(1, played.frames // KEPT_PICTURES)
                seen = {colour_of(picture) for picture in pictures_of(self._init + b"".join(self._data), every)}
                played.judged.append("picture")
                if seen != {colour}:
                    played.picture = f"{' and '.join(sorted(name or 'no mark' for name in seen))} instead of {colour}"
        except (av.FFmpegError, ValueError, IndexError) as error:
            played.sound = played.sound or f"cannot be decoded: {error}"
        finally:
            self._data.clear()


class Bench:
    """Where marks are compared: one thread of low priority, so that receiving is never late because of it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "marks", lower_priority)
        self._waiting: list[Any] = []

    def compare(self, judge: Judge, sound_s: float, colour: str, known: Mapping[str, float]) -> None:
        self._waiting = [each for each in self._waiting if not each.done()]
        self._waiting.append(self._pool.submit(judge.marks, sound_s, colour, known))

    def finish(self, seconds: float = 120.0) -> None:
        """Until all is compared. Raises TimeoutError."""
        end = time.monotonic() + seconds
        for each in self._waiting:
            each.result(max(0.1, end - time.monotonic()))
        self._pool.shutdown()
