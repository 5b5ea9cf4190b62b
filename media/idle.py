"""The idle loop of an avatar, encoded once."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.models import MediaConfig
from contracts import ByteArray
from media.encode import FragmentEncoder
from media.inspect import parse_fragments, rebase
from media.mp4 import to_mp4
from timeline import SEGMENT_FRAMES, SPEECH_SAMPLES_PER_FRAME


@dataclass(frozen=True)
class IdleLoop:
    """init: the same bytes that speech of this size and config begins with. segments: one fragment of 8 silent frames each, all at
    decode time 0; whoever plays them adds the time. mp4: the loop as a finished file, both tracks equally long.
    """

    init: bytes
    segments: tuple[bytes, ...]
    mp4: bytes


def encode_idle(background: ByteArray, config: MediaConfig, order: NDArray[np.integer[Any]] | None = None) -> IdleLoop:
    """Encode in one steady run of the encoder that speech uses too, so that either can follow the other at any segment.

    Args:
        background: I420 uint8 (n, h * 3 // 2, w). order: int (m,), the frames in the loop's sequence; None = each once.
    Raises:
        ValueError: the loop is not a whole number of segments.
    """
    order = np.arange(len(background)) if order is None else order
    n = len(order)
    if n == 0 or n % SEGMENT_FRAMES:
        raise ValueError(f"an idle loop is a whole number of segments of {SEGMENT_FRAMES} frames, got {n} frames")
    with FragmentEncoder(background.shape[2], background.shape[1] * 2 // 3, config) as encoder:
        encoder.push_audio(np.zeros(n * SPEECH_SAMPLES_PER_FRAME, np.float32))
        encoder.finish_audio(n)
        running = [encoder.encode([background[i] for i in order[at : at + SEGMENT_FRAMES]]) for at in range(0, n, SEGMENT_FRAMES)]
        init = encoder.init_segment
    whole = io.BytesIO()
    to_mp4([init, *running], whole)
    return IdleLoop(init, tuple(_at_zero(segment) for segment in running), whole.getvalue())


def _at_zero(segment: bytes) -> bytes:
    return rebase(segment, {track.track: 0 for info in parse_fragments(segment) for track in info.tracks})
