"""One utterance, from speech chunks to fragments: order, pacing, look-ahead, composition, encoding. No Ray: the calls to the engines are given.

    chunks --> SpeechBuffer --listen--> rows --render--> crops --paste--> frames --encode--> fragments

Four tasks run side by side and hand over through the utterance's own state, so that speech is synthesised, heard, drawn and encoded at once,
each at most a bounded step ahead of the next. Closing the generator cancels all of them, and through the given callables what they wait for.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from configs.models import MuxConfig
from museserve.errors import AudioError
from museserve.media.background import Background, fade_weights
from museserve.media.encode import FragmentEncoder, in_rendition
from museserve.media.label import Label
from museserve.media.static_blocks import keep_static
from museserve.messages import PROVIDER, ByteArray, Fragment, FragmentHead, RenderRequest, SpeechChunk
from museserve.pipeline.engines import LipSync
from museserve.pipeline.idle_phase import idle_frame
from museserve.pipeline.speech_buffer import SpeechBuffer
from museserve.runtime.deadline_executor import DeadlineExecutor
from museserve.timebase import FPS, SEGMENT_FRAMES, SPEECH_RATE, frames_for

T = TypeVar("T")

FIRST_LEAD_S = 3 * SEGMENT_FRAMES / FPS
LEAD_GROWTH = 0.25  # seconds of lead gained a second
COMFORTABLE_S = 1.0  # in hand, from which on more than one segment is drawn by one call: fewer calls, but a longer wait for the others
DRAWN_IN_S = 0.3  # what was heard becomes a picture
UNPACED_DUE_S = 10.0  # of a file: whoever watches goes first
SPOKEN_AHEAD = 60 * FPS  # frames spoken and not yet drawn at which the voice waits: bounds memory, not speed
TIGHT_PART = 0.35  # of the lead that a stream may have by then: who has less is drawn hardly faster than watched
JUDGED_FROM_S = 1.0  # played; before, nobody has had the time to get ahead
HEARD_AHEAD = 2 * FPS  # the same for listening while somebody watches: what he sees in ten seconds must not take the cores from what is due now


@dataclass
class Timings:
    """Where the time went. Milliseconds from the request to ...; sums over the utterance for the rest."""

    started: float = field(default_factory=time.perf_counter)
    first_ms: dict[str, float] = field(default_factory=dict)
    render_ms: float = 0.0
    render_calls: int = 0
    wait_ms: float = 0.0
    encode_ms: float = 0.0
    frames: int = 0
    speaking_frames: int = 0
    underruns: int = 0

    def mark(self, stage: str) -> None:
        """Note the first time that `stage` is reached."""
        self.first_ms.setdefault(stage, (time.perf_counter() - self.started) * 1e3)


@dataclass(frozen=True)
class UtterancePlan:
    """How one utterance is filmed.

    paced: keep at most `MuxConfig.lead_s` ahead of a viewer who plays in real time. phase: the idle frame that the
    first picture is drawn on.
    max_s: longest speech; longer raises AudioError. first_frame: as in `VideoRequest`. label: is drawn on every picture.
    recorded: the speech is a recording, so all of it is there. live: it may come no faster than it is heard, so a whole segment of it is waited
    for before the first picture is sent; that one is drawn meanwhile. rendition: as in `VideoRequest`.
    """

    name: str = ""
    paced: bool = True
    phase: int = 0
    max_s: float = 900.0
    first_frame: int = 0
    label: Label | None = None
    recorded: bool = False
    live: bool = False
    rendition: int = 0


@dataclass(frozen=True)
class _Piece:
    """Frames from `first` on that are being drawn. weights: 0..255, how much of each crop shows.

    crops: None where the background is the picture.
    """

    first: int
    weights: list[int]
    crops: asyncio.Task[list[ByteArray | None]]


_Pieces = asyncio.Queue[_Piece | None]  # None: no more come


class UtterancePipeline:
    """Films one utterance. `fragments()` may be iterated once.

    Args:
        background: the avatar's frames and box for the engine.
        chunks: the speech, in order; the last has `final` set.
        executor: where frames are composed and encoded, those that are needed first before all others.
        timings: begun with the request.
        encoded: told of each fragment how many frames it has, and when composing it began (`time.perf_counter`).
        tight: told when a fragment left so little in hand that this machine, not a provider's voice, hardly keeps up.
    """

    def __init__(
        self,
        background: Background,
        chunks: AsyncIterator[SpeechChunk],
        lipsync: LipSync,
        config: MuxConfig,
        executor: DeadlineExecutor,
        plan: UtterancePlan,
        timings: Timings | None = None,
        encoded: Callable[[int, float], None] | None = None,
        tight: Callable[[], None] | None = None,
    ) -> None:
        self._encoded, self._tell_tight = encoded, tight
        self._background, self._chunks, self._lipsync = background, chunks, lipsync
        self._config, self._executor, self._plan = config, executor, plan
        self._max_samples = round(plan.max_s * SPEECH_RATE)
        height, width = background.frames.shape[1] * 2 // 3, background.frames.shape[2]
        self._encoder = FragmentEncoder(width, height, in_rendition(config.media, background.crf, plan.rendition), plan.first_frame)
        self._fade = lipsync.info.fade_frames
        # Whether somebody spoke before decides how much of the first crops shows.
        heard_from = max(0, plan.first_frame - self._fade)
        info = lipsync.info
        piece_s = info.piece_s if plan.recorded else 0.0
        self._buffer = SpeechBuffer(
            info.context_s, info.lookahead_s, heard_from, piece_s=piece_s, hurried=plan.paced, live=plan.live, phase=plan.phase
        )
        self._spoke: deque[bool] = deque(maxlen=self._fade)  # of the frames drawn last
        self._rows: dict[int, NDArray[Any] | None] = {}  # None where nobody speaks; taken out when drawn
        self._heard = heard_from
        self._wanted = plan.first_frame  # frames that must be heard before the next piece can be drawn
        self._total: int | None = None
        self._changed = asyncio.Condition()
        self._encoding = asyncio.Lock()  # sound comes in while pictures are encoded; the encoder takes one call at a time
        self._words_sent = 0
        self._held_s = 0.0  # for which fragments were not taken
        self._unspoken_s = 0.0  # for which pictures waited for speech
        self._work: list[asyncio.Task[None]] = []  # receives, hears, draws; ends with the utterance
        self.timings = timings or Timings()
        self.notice = ""
        self.speech_engine = ""

    @property
    def total_frames(self) -> int | None:
        """Frames of the whole utterance; None until its last speech is here."""
        return self._buffer.total_frames

    async def fragments(self) -> AsyncGenerator[Fragment, None]:
        """Fragments in order; the first carries the init segment. Where the plan begins at or beyond the end, an empty one.

        Raises what the speech source, `listen` or `render` raise.
        """
        slots, pieces = asyncio.Semaphore(self._config.segments_in_flight), _Pieces()
        work = (self._receive(), self._hear(), self._draw(slots, pieces))
        self._work = [asyncio.create_task(part) for part in work]
        try:
            async for fragment in self._encode(slots, pieces):
                yield fragment
        finally:
            drawing = [piece.crops for piece in _drained(pieces) if piece is not None]
            for task in (*self._work, *drawing):
                task.cancel()
            await asyncio.gather(*self._work, *drawing, return_exceptions=True)
            self._encoder.close()
            aclose = getattr(self._chunks, "aclose", None)
            if aclose is not None:
                await aclose()

    async def _receive(self) -> None:
        """Speech in: its sound to the encoder, all of it to the buffer."""
        async for chunk in self._chunks:
            self.timings.mark("tts")
            self.speech_engine = chunk.engine or self.speech_engine
            self.notice = chunk.notice or self.notice
            self._buffer.append(chunk)
            if self._buffer.samples > self._max_samples:
                raise AudioError(f"the speech is longer than {self._max_samples / SPEECH_RATE:g} s, the longest utterance accepted")
            async with self._changed:
                self._changed.notify_all()
            async with self._encoding:
                due_s = self._due_s(self._encoder.frames_encoded)
                await self._executor.run(due_s, partial(self._encoder.push_audio, chunk.pcm))
                if self._buffer.total_frames is not None:
                    await self._executor.run(due_s, partial(self._encoder.finish_audio, self._buffer.total_frames))
            async with self._changed:
                self._changed.notify_all()
                await self._changed.wait_for(lambda: frames_for(self._buffer.samples) < self._wanted + SPOKEN_AHEAD)
            if self._buffer.final:
                return
        raise AudioError("the speech ended before its last piece")

    async def _hear(self) -> None:
        """Conditioning rows out of what was received, as they come to be needed."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._plan.paced or self._heard < self._wanted + HEARD_AHEAD)
                while (stretch := self._buffer.take()) is None and not self._buffer.final:
                    waited = time.perf_counter()
                    await self._changed.wait()
                    if self._heard < self._wanted:
                        self._unspoken_s += time.perf_counter() - waited
                if stretch is None:
                    self._total = self._buffer.total_frames
                    self._changed.notify_all()
                    return
            heard = await self._lipsync.listen(replace(stretch, due_s=self._due_s(stretch.first_frame) - DRAWN_IN_S))
            self.timings.mark("listen")
            async with self._changed:
                for frame, (row, speaking) in enumerate(zip(heard.rows, heard.is_speaking, strict=True), heard.first_frame):
                    if frame >= self._plan.first_frame:
                        self._rows[frame] = row if speaking else None
                    else:
                        self._spoke.append(bool(speaking))
                self._heard = heard.first_frame + len(heard.rows)
                self._changed.notify_all()

    async def _draw(self, slots: asyncio.Semaphore, pieces: _Pieces) -> None:
        """Ask for pictures piece by piece, never more than the allowed number ahead of the encoder."""
        first = self._plan.first_frame
        sizes = deque(self._config.first_pieces)
        while True:
            n = sizes.popleft() if sizes else SEGMENT_FRAMES
            async with self._changed:
                self._wanted = first + n + self._fade
                self._changed.notify_all()
                await self._changed.wait_for(lambda: self._heard >= self._wanted or self._total is not None)
            if self._total is not None and first >= self._total:
                break
            await self._pace(first)
            await slots.acquire()
            if n == SEGMENT_FRAMES and self._due_s(first) > COMFORTABLE_S:
                n *= max(1, min(self._config.segments_a_call, (self._heard - first - self._fade) // SEGMENT_FRAMES))
            async with self._changed:
                weights = self._weights(first, n)
                rows = [self._rows.pop(first + i, None) for i in range(n)]
                self._changed.notify_all()
            pieces.put_nowait(_Piece(first, weights, asyncio.create_task(self._crops(first, rows))))
            first += n
        pieces.put_nowait(None)

    def _weights(self, first: int, n: int) -> list[int]:
        """How much of each crop shows: where a run of speech begins or ends, the background's own closed mouth shows through."""
        if not self._fade:
            return [255] * n
        speaking = [self._rows.get(first + i) is not None for i in range(n + self._fade)]
        weights = fade_weights([*self._spoke, *speaking], len(self._spoke), n, self._fade)
        self._spoke.extend(speaking[:n])
        return weights

    async def _crops(self, first: int, rows: list[NDArray[Any] | None]) -> list[ByteArray | None]:
        """The drawn crop of each frame from `first` on; None where the background itself is the picture."""
        crops: list[ByteArray | None] = [None] * len(rows)
        spoken = {i: row for i, row in enumerate(rows) if row is not None}
        if spoken:
            numbers = tuple(self._number(first + i) for i in spoken)
            called = time.perf_counter()
            request = RenderRequest(
                self._background.avatar,
                numbers,
                np.stack(list(spoken.values())),
                self._plan.name,
                first == self._plan.first_frame,
                self._due_s(first),
            )
            rendered = await self._lipsync.render(request)
            self.timings.wait_ms += (time.perf_counter() - called) * 1e3
            self.timings.render_ms += rendered.render_ms
            self.timings.render_calls += 1
            self.timings.speaking_frames += len(spoken)
            for i, crop in zip(spoken, rendered.crops, strict=True):
                crops[i] = crop
        return crops

    async def _encode(self, slots: asyncio.Semaphore, pieces: _Pieces) -> AsyncGenerator[Fragment, None]:
        while (piece := await _unless_failed(pieces.get(), self._work)) is not None:
            crops = await _unless_failed(piece.crops, self._work)
            slots.release()
            self.timings.mark("render")
            for at in range(0, len(crops), SEGMENT_FRAMES):
                part = slice(at, at + SEGMENT_FRAMES)
                fragment = await self._fragment(piece.first + at, crops[part], piece.weights[part])
                if self._tell_tight is not None and self._tight(fragment):
                    self._tell_tight()
                given = time.perf_counter()
                yield fragment
                self._held_s += time.perf_counter() - given
                self._watch(fragment.first_frame)
        total = self.total_frames
        if total is not None and total <= self._plan.first_frame:
            yield self._sent(self._encoder.init_segment, total, 0)

    async def _sound_for(self, frames: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._encoder.frames_ready() >= frames)

    async def _heard_upto(self, frame: int) -> None:
        """Until all before `frame` is heard, or all that there is."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._heard >= frame or self._total is not None)

    async def _fragment(self, first: int, crops: list[ByteArray | None], weights: list[int]) -> Fragment:
        n = len(crops)
        if self._encoder.frames_ready() < n:  # the sound that belongs to these pictures, and 43 ms more, must be in the encoder
            await _unless_failed(self._sound_for(n), self._work[:1])
        began = time.perf_counter()
        async with self._encoding:
            # A viewer who has run dry sees something else meanwhile: what comes then must be shown without what was before it.
            key = self._encoder.key_next or (self._late(first) and first % SEGMENT_FRAMES == 0)
            encode = partial(self._compose_and_encode, first, crops, weights, key)
            data = await self._executor.run(self._due_s(first), encode)
        self.timings.encode_ms += (time.perf_counter() - began) * 1e3
        self.timings.frames += n
        self.timings.mark("encode")
        if self._encoded is not None:
            self._encoded(n, began)
        if self._plan.live and first == self._plan.first_frame:
            await _unless_failed(self._heard_upto(first + SEGMENT_FRAMES + self._fade), self._work)
        return self._sent(self._encoder.init_segment + data if first == self._plan.first_frame else data, first, n, key)

    def _sent(self, data: bytes, first: int, n: int, key: bool = False) -> Fragment:
        words = tuple(self._buffer.words[self._words_sent :])
        self._words_sent += len(words)
        head = None
        if "first_fragment" not in self.timings.first_ms:
            self.timings.mark("first_fragment")
            timings_ms = {stage: round(ms, 1) for stage, ms in self.timings.first_ms.items()}
            head = FragmentHead(self._encoder.codecs, timings_ms, self.speech_engine, self.notice)
        return Fragment(data, first, n, words, self.total_frames, head, key)

    def _number(self, frame: int) -> int:
        """The background frame under frame `frame` of the utterance."""
        return self._background.number(idle_frame(self._plan.phase, frame, len(self._background)))

    def _compose_and_encode(self, first: int, crops: list[ByteArray | None], weights: list[int], key: bool) -> bytes:
        drawn = enumerate(zip(crops, weights, strict=True))
        frames = [self._background.picture(self._number(first + i), crop, weight) for i, (crop, weight) in drawn]
        # It follows the idle loop, and is followed by it. What is held from the first picture of the last segment on is there when the loop goes on.
        total = self._buffer.total_frames
        if first == 0:
            frames[0] = keep_static(frames[0], self._background.frames[self._number(-1)])
        elif total is not None and first == max(total - SEGMENT_FRAMES, self._config.first_pieces[0]):
            frames[0] = keep_static(frames[0], self._background.frames[self._number(total)])
        if self._plan.label is not None:
            # Where nobody speaks a picture is the background itself, which is not to be written on.
            frames = [frame if frame.flags.writeable and frame.base is None else frame.copy() for frame in frames]
            for frame in frames:
                self._plan.label.draw(frame)
        return self._encoder.encode(frames, key)

    async def _pace(self, first: int) -> None:
        """Wait until frame `first` is at most the lead ahead of a viewer who started at the first fragment.

        The lead grows with time: if every new stream raced to its full lead, it would take the cores from those that have none.
        """
        if self._plan.paced and "first_fragment" in self.timings.first_ms:
            in_hand_s, sent_s = self._due_s(first), (first - self._plan.first_frame) / FPS
            played_s = sent_s - in_hand_s
            wait_s = max(
                (sent_s - FIRST_LEAD_S) / (1 + LEAD_GROWTH) - played_s,  # until the growing lead allows it
                in_hand_s - self._config.lead_s,
            )
            if wait_s > 0:
                await asyncio.sleep(wait_s)

    def _watch(self, first: int) -> None:
        """Count an underrun when a piece was ready only after a viewer needed it."""
        if self._late(first):
            self.timings.underruns += 1

    def _tight(self, fragment: Fragment) -> bool:
        """Whether this stream has much less in hand than it may have, because this machine is slow: neither who reads it, nor who speaks."""
        in_hand_s = self._due_s(fragment.first_frame) + self._held_s
        played_s = (fragment.first_frame - self._plan.first_frame) / FPS - in_hand_s
        if not self._plan.paced or self._plan.live or played_s < JUDGED_FROM_S:
            return False
        if self.speech_engine == PROVIDER:
            in_hand_s += self._unspoken_s
        return in_hand_s < TIGHT_PART * min(self._config.lead_s, FIRST_LEAD_S + LEAD_GROWTH * played_s)

    def _late(self, first: int) -> bool:
        return self._plan.paced and first > self._plan.first_frame and self._due_s(first) < -1e-3

    def _due_s(self, first: int) -> float:
        """Seconds until frame `first` is needed by a viewer who started at the first fragment."""
        if not self._plan.paced:
            return UNPACED_DUE_S
        start_ms = self.timings.first_ms.get("first_fragment")
        due_s = (first - self._plan.first_frame) / FPS
        return due_s - (0.0 if start_ms is None else time.perf_counter() - self.timings.started - start_ms / 1e3)


async def _unless_failed(wanted: Awaitable[T], watched: Sequence[asyncio.Task[None]]) -> T:
    """Await `wanted`; if a watched task fails first, raise its error instead."""
    task = asyncio.ensure_future(wanted)
    try:
        while not task.done():
            alive = [t for t in watched if not t.done()]
            for failed in (t for t in watched if t.done() and not t.cancelled()):
                failed.result()
            await asyncio.wait({task, *alive}, return_when=asyncio.FIRST_COMPLETED)
        return task.result()
    finally:
        task.cancel()


def _drained(queue: asyncio.Queue[T]) -> Iterator[T]:
    while not queue.empty():
        yield queue.get_nowait()
