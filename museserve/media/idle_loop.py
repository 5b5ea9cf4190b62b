"""The idle loop of an avatar, encoded once."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from configs.models import MediaConfig
from museserve.media.encode import FragmentEncoder
from museserve.media.fragments import moved
from museserve.media.mp4 import to_mp4
from museserve.messages import ByteArray
from museserve.timebase import FPS, SEGMENT_FRAMES, SPEECH_SAMPLES_PER_FRAME

# A second for each pixel of the picture, with a key frame in each segment; a portrait has a third of it, a noisy clip would have many times as much.
MOST_BYTES = 1.0
COARSER, COARSEST = 3, 40  # steps of the quantiser, and its end


@dataclass(frozen=True)
class Gesture:
    """Segments that may be shown in place of the loop's own from its segment `first` on, by whoever saw the one before; what follows them is the
    loop's `steady`. They have no key frame."""

    first: int
    segments: tuple[bytes, ...]


@dataclass(frozen=True)
class Lap:
    """The loop with gestures in it, yet to be drawn.

    spans: first segment, and how many; draw: a frame of them, I420 uint8 (h * 3 // 2, w), by its number.
    """

    spans: tuple[tuple[int, int], ...]
    draw: Callable[[int], ByteArray]


@dataclass(frozen=True)
class IdleLoop:
    """init: the same bytes that speech of this size and config begins with. segments: one fragment of 8 silent frames each, all at
    decode time 0; whoever plays them adds the time. Each begins with a key frame, so that it may follow anything. steady: the same
    pictures for whoever saw the segment before, without a key frame, which would show as a pulse: the first follows the last.
    mp4: the loop as a finished file, both tracks equally long.

    shown: I420 uint8 like the background, its frames as the loop shows them (of a frame that comes twice, the first time): speech that is drawn
    on them follows the loop with no jump. crf: the quantiser, which speech must have as well.
    gestures: of a state, such as "listening", in the order of the loop; none lies over its first segment.
    """

    init: bytes
    segments: tuple[bytes, ...]
    steady: tuple[bytes, ...]
    mp4: bytes
    shown: ByteArray
    crf: int
    gestures: Mapping[str, tuple[Gesture, ...]] = field(default_factory=dict)


def encode_idle(
    background: ByteArray, config: MediaConfig, order: NDArray[np.integer[Any]] | None = None, laps: Mapping[str, Lap] | None = None
) -> IdleLoop:
    """Encode in one steady run of the encoder that speech uses too, so that either can follow the other at any segment.

    Args:
        background: I420 uint8 (n, h * 3 // 2, w). order: int (m,), the frames in the loop's sequence; None = each once.
        config: its `crf` is raised for pictures that would take too many bytes.
        laps: of states, each drawn as it is encoded.
    Raises:
        ValueError: the loop is not a whole number of segments.
    """
    order = np.arange(len(background)) if order is None else order
    if len(order) == 0 or len(order) % SEGMENT_FRAMES:
        raise ValueError(f"an idle loop is a whole number of segments of {SEGMENT_FRAMES} frames, got {len(order)} frames")
    most = MOST_BYTES * len(order) / FPS * background[0].size / 1.5
    while True:
        loop = _encode(background, config, order, laps or {})
        if sum(map(len, loop.segments)) <= most or config.crf + COARSER > COARSEST:
            return loop
        config = config.model_copy(update={"crf": config.crf + COARSER})


def _encode(background: ByteArray, config: MediaConfig, order: NDArray[np.integer[Any]], laps: Mapping[str, Lap]) -> IdleLoop:
    n = len(order) // SEGMENT_FRAMES
    own = [[background[number] for number in order[at : at + SEGMENT_FRAMES]] for at in range(0, len(order), SEGMENT_FRAMES)]
    # Twice: what follows the last segment is the first. Then once with the gestures of each state: what comes before one of them is nearly the same.
    pictures = chain(own, own, *(_lap(own, lap) for lap in laps.values()))
    init, running = _fragments(pictures, (2 + len(laps)) * n, config, (2 + len(laps)) * len(order))
    shown = background.copy()
    done = set[int]()
    for number, picture in zip(map(int, order), islice(_decoded(init, running[: 2 * n]), len(order), None), strict=True):
        if number not in done:
            done.add(number)
            shown[number] = picture
    steady = running[n : 2 * n]
    gestures = {
        state: tuple(Gesture(first, tuple(running[(2 + number) * n + first :][:long])) for first, long in lap.spans)
        for number, (state, lap) in enumerate(laps.items())
    }
    # Drawn after what is seen, so that whoever comes from elsewhere sees nearly the same.
    again = ([shown[number] for number in order[at : at + SEGMENT_FRAMES]] for at in range(0, len(order), SEGMENT_FRAMES))
    _, segments = _fragments(again, n, config, SEGMENT_FRAMES)
    whole = io.BytesIO()
    to_mp4([init, *(moved(segment, i * SEGMENT_FRAMES) for i, segment in enumerate([segments[0], *steady[1:]]))], whole)
    return IdleLoop(init, tuple(segments), tuple(steady), whole.getvalue(), shown, config.crf, gestures)


def _lap(own: list[list[ByteArray]], lap: Lap) -> Iterator[list[ByteArray]]:
    """The pictures of a lap, segment by segment."""
    drawn = {number for first, n in lap.spans for number in range(first, first + n)}
    for number, pictures in enumerate(own):
        at = number * SEGMENT_FRAMES
        yield [lap.draw(frame) for frame in range(at, at + SEGMENT_FRAMES)] if number in drawn else pictures


def _fragments(segments: Iterable[list[ByteArray]], n: int, config: MediaConfig, key_frames: int) -> tuple[bytes, list[bytes]]:
    """The init segment, and n segments in silence, each at decode time 0."""
    pictures = iter(segments)
    first = next(pictures)
    (height, width), frames = first[0].shape, n * SEGMENT_FRAMES
    with FragmentEncoder(width, height * 2 // 3, config, key_frames=key_frames) as encoder:
        encoder.push_audio(np.zeros(frames * SPEECH_SAMPLES_PER_FRAME, np.float32))
        encoder.finish_audio(frames)
        fragments = [moved(encoder.encode(drawn), -at * SEGMENT_FRAMES) for at, drawn in enumerate(chain([first], pictures))]
        return encoder.init_segment, fragments


def _decoded(init: bytes, fragments: list[bytes]) -> Iterator[ByteArray]:
    """The pictures, I420, as they are seen."""
    film = b"".join([init, *(moved(fragment, i * SEGMENT_FRAMES) for i, fragment in enumerate(fragments))])
    with av.open(io.BytesIO(film), "r") as container:
        container.streams.video[0].thread_count = 1
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format="yuv420p"), np.uint8)
