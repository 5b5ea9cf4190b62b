"""The idle loop of an avatar, encoded once."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
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
class IdleLoop:
    """init: the same bytes that speech of this size and config begins with. segments: one fragment of 8 silent frames each, all at
    decode time 0; whoever plays them adds the time. Each begins with a key frame, so that it may follow anything. steady: the same
    pictures for whoever saw the segment before, without a key frame, which would show as a pulse: the first follows the last.
    mp4: the loop as a finished file, both tracks equally long.

    shown: I420 uint8 like the background, its frames as the loop shows them (of a frame that comes twice, the first time): speech that is drawn
    on them follows the loop with no jump. crf: the quantiser, which speech must have as well.
    """

    init: bytes
    segments: tuple[bytes, ...]
    steady: tuple[bytes, ...]
    mp4: bytes
    shown: ByteArray
    crf: int


def encode_idle(background: ByteArray, config: MediaConfig, order: NDArray[np.integer[Any]] | None = None) -> IdleLoop:
    """Encode in one steady run of the encoder that speech uses too, so that either can follow the other at any segment.

    Args:
        background: I420 uint8 (n, h * 3 // 2, w). order: int (m,), the frames in the loop's sequence; None = each once.
        config: its `crf` is raised for pictures that would take too many bytes.
    Raises:
        ValueError: the loop is not a whole number of segments.
    """
    order = np.arange(len(background)) if order is None else order
    if len(order) == 0 or len(order) % SEGMENT_FRAMES:
        raise ValueError(f"an idle loop is a whole number of segments of {SEGMENT_FRAMES} frames, got {len(order)} frames")
    most = MOST_BYTES * len(order) / FPS * background[0].size / 1.5
    while True:
        loop = _encode(background, config, order)
        if sum(map(len, loop.segments)) <= most or config.crf + COARSER > COARSEST:
            return loop
        config = config.model_copy(update={"crf": config.crf + COARSER})


def _encode(background: ByteArray, config: MediaConfig, order: NDArray[np.integer[Any]]) -> IdleLoop:
    n = len(order) // SEGMENT_FRAMES
    # Twice: what follows the last segment is the first.
    init, running = _fragments([background[number] for number in (*order, *order)], config, 2 * len(order))
    shown = background.copy()
    done = set[int]()
    for number, picture in zip(map(int, order), islice(_decoded(init, running), len(order), None), strict=True):
        if number not in done:
            done.add(number)
            shown[number] = picture
    steady = running[n:]
    # Drawn after what is seen, so that whoever comes from elsewhere sees nearly the same.
    _, segments = _fragments([shown[number] for number in order], config, SEGMENT_FRAMES)
    whole = io.BytesIO()
    to_mp4([init, *(moved(segment, i * SEGMENT_FRAMES) for i, segment in enumerate([segments[0], *steady[1:]]))], whole)
    return IdleLoop(init, tuple(segments), tuple(steady), whole.getvalue(), shown, config.crf)


def _fragments(pictures: list[ByteArray], config: MediaConfig, key_frames: int) -> tuple[bytes, list[bytes]]:
    """The init segment, and the segments in silence, each at decode time 0."""
    n, (height, width) = len(pictures), pictures[0].shape
    with FragmentEncoder(width, height * 2 // 3, config, key_frames=key_frames) as encoder:
        encoder.push_audio(np.zeros(n * SPEECH_SAMPLES_PER_FRAME, np.float32))
        encoder.finish_audio(n)
        fragments = [moved(encoder.encode(pictures[at : at + SEGMENT_FRAMES]), -at) for at in range(0, n, SEGMENT_FRAMES)]
        return encoder.init_segment, fragments


def _decoded(init: bytes, fragments: list[bytes]) -> Iterator[ByteArray]:
    """The pictures, I420, as they are seen."""
    film = b"".join([init, *(moved(fragment, i * SEGMENT_FRAMES) for i, fragment in enumerate(fragments))])
    with av.open(io.BytesIO(film), "r") as container:
        container.streams.video[0].thread_count = 1
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format="yuv420p"), np.uint8)
