"""What is shown of a face, for who plays it in Python: the idle loop, and the pictures of what is said as they come. Needs the extra `pictures`."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Generic, TypeVar

from museserve_client.client import Client
from museserve_client.errors import MuseserveError
from museserve_client.messages import Finished, Part, Ready, Started, Waiting
from museserve_client.pictures import SEGMENT_FRAMES, Decoder, IdleLoop, Picture, Pixels
from museserve_client.sound import Sound
from museserve_client.utterance import Utterance

logger = logging.getLogger(__name__)

FPS = 25
AGAIN_S = 1.0  # from a part of the idle loop that did not come to the next try
ROUNDED_S = 0.002  # the service tells places in the sound in milliseconds
HELD_FRAMES = 24  # decoded ahead; what else came waits as it was sent

S = TypeVar("S", bound=Sound)


class Idle:
    """The idle loop, frame after frame. `next` is the frame that is shown next."""

    def __init__(self, client: Client, ready: Ready, pixels: Pixels = "yuv420p") -> None:
        self.url = ready.idle.url
        self._loop = IdleLoop(client, ready.idle, pixels)
        self._step = SEGMENT_FRAMES if pixels == "h264" else 1  # from one frame that it may go to, to the next
        self._loading: asyncio.Task[None] | None = None
        self._held: dict[int, list[Picture]] = {}  # segments
        self._decoding: dict[int, asyncio.Task[list[Picture]]] = {}
        self._one = asyncio.Lock()
        self.next = 0

    async def open(self) -> None:
        """Raises MuseserveError."""
        await self._loop.open()
        await self._segment(0)
        self._loading = asyncio.create_task(self._load())

    async def _load(self) -> None:
        while True:
            try:
                return await self._loop.load()
            except MuseserveError as error:
                logger.debug("the idle loop is not whole yet: %s", error)
                await asyncio.sleep(AGAIN_S)

    @property
    def init(self) -> bytes:
        return self._loop.init

    @property
    def frames(self) -> int:
        return self._loop.frames

    @property
    def size(self) -> tuple[int, int]:
        return self._loop.size

    def seek(self, frame: int) -> None:
        """Coded pictures go to the nearest key frame."""
        self.next = round(frame / self._step) * self._step % self.frames
        self.prepare(self.next)

    def prepare(self, frame: int) -> None:
        """It will be wanted soon."""
        segment = frame % self.frames // SEGMENT_FRAMES
        if segment not in self._held and segment not in self._decoding and self._loop.has(segment):
            task = self._decoding[segment] = asyncio.create_task(self._decode(segment))
            task.add_done_callback(lambda _: self._decoding.pop(segment, None))

    async def picture(self) -> Picture:
        """The next one. While the loop is not whole, those go round that are there. Raises MuseserveError: it cannot be decoded."""
        segment, i = divmod(self.next, SEGMENT_FRAMES)
        if not self._there(segment):
            segment, self.next = 0, i
        try:
            pictures = await self._segment(segment)
        except MuseserveError:
            if segment == 0:
                raise
            pictures, self.next = await self._segment(0), i
        self.next = (self.next + 1) % self.frames
        if i == SEGMENT_FRAMES // 2:
            self.prepare((segment + 1) * SEGMENT_FRAMES)
        return pictures[i]

    def _there(self, segment: int) -> bool:
        return segment in self._held or segment in self._decoding or self._loop.has(segment)

    async def _segment(self, segment: int) -> list[Picture]:
        if segment not in self._held:
            self.prepare(segment * SEGMENT_FRAMES)
            pictures = await asyncio.shield(self._decoding[segment])
            self._held[segment] = pictures
        return self._held[segment]

    async def _decode(self, segment: int) -> list[Picture]:
        async with self._one:
            pictures = await asyncio.to_thread(self._loop.pictures, segment)
        while len(self._held) > 3:  # the loop decoded is 100 MB
            del self._held[next(iter(self._held))]
        self._held[segment] = pictures
        return pictures

    def close(self) -> None:
        for task in (self._loading, *self._decoding.values()):
            if task is not None:
                task.cancel()


class Take(Generic[S]):
    """Sound of a segment that is drawn in one go, from its sample `start` on. A segment has another one behind every pause of its speaker.

    shown: frames of it that were shown. failed: nothing more comes of it, though it is not whole. dropped: nobody wants it any more.
    """

    def __init__(self, segment: S, start: int, loop_frames: int) -> None:
        self.segment, self.start = segment, start
        self.utterance: Utterance | None = None  # while it is being announced
        self.shown = 0
        self.grid = self.phase = self.run_first = 0
        self.failed = self.dropped = False
        self.frames: int | None = None  # all that come of it, for now or ever
        self.phase_after = 0
        self.final = False
        self._loop_frames = loop_frames
        self._parts: list[Part] = []
        self._sound_end_ms: float | None = None  # of what is drawn, where it is known
        self._pictures: deque[Picture] = deque()
        self._room = asyncio.Event()
        self.decoder: Decoder | None = None

    # --- what comes ---------------------------------------------------------------------------------------------

    def begin(self, started: Started) -> None:
        self.grid, self.phase, self.run_first = started.grid, started.phase, started.first_frame
        self.frames = self._sound_end_ms = None

    def add_part(self, part: Part) -> None:
        self._parts.append(part)

    async def room(self) -> None:
        while len(self._pictures) >= HELD_FRAMES and not self.dropped:
            self._room.clear()
            await self._room.wait()

    def add(self, pictures: list[Picture]) -> None:
        """Those that came before are passed over."""
        last = self._pictures[-1].number if self._pictures else self.shown - 1
        self._pictures.extend(picture for picture in pictures if picture.number > last)

    def close(self, end: Waiting | Finished) -> None:
        self.frames, self.phase_after, self._sound_end_ms = end.frames, end.phase, end.sound_ms
        self.final = isinstance(end, Finished)

    @property
    def received(self) -> int:
        """Frames that came, in whole segments."""
        return self.utterance.whole_frames if self.utterance is not None else 0

    def drop(self) -> None:
        self.dropped = True
        if self.utterance is not None:
            self.utterance.interrupt()
        self._pictures.clear()
        self._room.set()

    def tell_played(self) -> None:
        if self.utterance is not None:
            self.utterance.played(self.shown)

    def write(self, pcm: bytes) -> None:
        if self.utterance is not None:
            self.utterance.write(pcm)

    def end(self) -> None:
        if self.utterance is not None:
            self.utterance.end()

    # --- what is shown ------------------------------------------------------------------------------------------

    @property
    def ready(self) -> int:
        """Pictures in hand."""
        return len(self._pictures)

    @property
    def exhausted(self) -> bool:
        """All that comes, for now or ever, was shown."""
        return not self._pictures and (self.failed or (self.frames is not None and self.shown >= self.frames))

    def show(self) -> Picture | None:
        if not self._pictures:
            return None
        picture = self._pictures.popleft()
        self.shown = picture.number + 1
        self._room.set()
        if self.shown % SEGMENT_FRAMES == 0:
            self.tell_played()
        return picture

    @property
    def idle_frame(self) -> int:
        """Of the loop, that follows what was shown."""
        return self.phase_after if self.exhausted and not self.failed else (self.grid + self.shown) % self._loop_frames

    def sample_at(self, frame: int) -> int:
        """Where a frame that came begins in the segment's sound."""
        for part in reversed(self._parts):
            if part.first_frame <= frame and part.sound_ms is not None:
                return self.start + round(part.sound_ms * self.segment.rate / 1_000) + (frame - part.first_frame) * self.segment.rate // FPS
        return self.start

    def drawn_upto(self) -> int:
        """To which sample there are pictures in hand; silence is drawn behind the end of each part."""
        upto = self.sample_at(self.shown + len(self._pictures))
        ends = [part.sound_ms for part in self._parts if part.first_frame > self.shown - 1 and part.sound_ms is not None][:1]
        if not ends and self._sound_end_ms is not None:
            ends = [self._sound_end_ms]
        upto = min([upto, *(self.start + round(ms * self.segment.rate / 1_000) for ms in ends)])
        samples = self.segment.samples
        return samples if samples - upto < ROUNDED_S * self.segment.rate else upto
