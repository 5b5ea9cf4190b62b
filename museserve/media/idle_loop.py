"""The idle loop of an avatar, encoded once."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from configs.models import MediaConfig
from museserve.media.encode import FragmentEncoder, set_up_video
from museserve.media.fragments import moved
from museserve.media.mp4 import to_mp4
from museserve.media.static_blocks import keep_static
from museserve.messages import ByteArray
from museserve.timebase import FPS, SEGMENT_FRAMES, SPEECH_SAMPLES_PER_FRAME

RUN_IN = 4 * SEGMENT_FRAMES  # frames before the loop's first, from which it takes what stands still
MOST_BYTES = 1.0  # a second for each pixel of the picture, key frames in each segment; a portrait has a third of it, a noisy clip would have many times as much
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
    shown = background.copy()
    pictures = list(_steady(shown, config, order))
    init, segments = _fragments(pictures, config, SEGMENT_FRAMES)
    # Twice: what follows the last segment is the first.
    _, running = _fragments(pictures * 2, config, 2 * len(order))
    steady = running[len(pictures) :]
    whole = io.BytesIO()
    to_mp4([init, *(moved(segment, i * SEGMENT_FRAMES) for i, segment in enumerate([segments[0], *steady[1:]]))], whole)
    return IdleLoop(init, tuple(segments), tuple(steady), whole.getvalue(), shown, config.crf)


def _fragments(pictures: list[list[ByteArray]], config: MediaConfig, key_frames: int) -> tuple[bytes, list[bytes]]:
    """The init segment, and the segments in silence, each at decode time 0."""
    n, (height, width) = len(pictures) * SEGMENT_FRAMES, pictures[0][0].shape
    with FragmentEncoder(width, height * 2 // 3, config, key_frames=key_frames) as encoder:
        encoder.push_audio(np.zeros(n * SPEECH_SAMPLES_PER_FRAME, np.float32))
        encoder.finish_audio(n)
        return encoder.init_segment, [moved(encoder.encode(segment), -i * SEGMENT_FRAMES) for i, segment in enumerate(pictures)]


def _steady(shown: ByteArray, config: MediaConfig, order: NDArray[np.integer[Any]]) -> Iterator[list[ByteArray]]:
    """The pictures of each segment, each holding what it can of what was seen before it. shown: the background; becomes what is seen of it."""
    screen = _Screen(shown.shape[2], shown.shape[1] * 2 // 3, config)
    for number in order[-min(RUN_IN, len(order)) :]:
        screen.show(shown[number])
    done: set[int] = set()
    for at in range(0, len(order), SEGMENT_FRAMES):
        pictures = []
        for number in map(int, order[at : at + SEGMENT_FRAMES]):
            picture, seen = screen.show(shown[number])
            pictures.append(picture)
            if number not in done:
                done.add(number)
                shown[number] = seen
        yield pictures


class _Screen:
    """What a viewer sees of encoded pictures."""

    def __init__(self, width: int, height: int, config: MediaConfig) -> None:
        self._encoder = av.CodecContext.create("libx264", "w")
        set_up_video(self._encoder, width, height, config, 2**16)  # none but the first
        self._decoder = av.CodecContext.create("h264", "r")
        self._decoder.thread_count = 1  # each picture comes out of the call that its packet goes into
        self._frames = 0
        self._seen: ByteArray | None = None

    def show(self, picture: ByteArray) -> tuple[ByteArray, ByteArray]:
        """The picture as it is to be encoded, and as it is seen then."""
        if self._seen is not None:
            picture = keep_static(picture, self._seen)
        frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(picture), format="yuv420p")
        frame.pts, frame.time_base = self._frames, Fraction(1, FPS)
        self._frames += 1
        (decoded,) = (shown for packet in self._encoder.encode(frame) for shown in self._decoder.decode(packet))
        self._seen = np.asarray(decoded.to_ndarray(format="yuv420p"), np.uint8)
        return picture, self._seen
