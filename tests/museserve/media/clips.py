"""Pictures with a number that survives compression, and sound with landmarks, to see where each frame and sample ends up."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import av
import numpy as np

from configs.models import MediaConfig
from museserve.media.encode import FragmentEncoder
from museserve.messages import ByteArray, FloatArray
from museserve.timebase import SEGMENT_FRAMES
from tests import decoded
from tests.museserve.media.isobmff import parse_fragments, rebase

SIDE = 64
BLOCK = 16  # pixels of one bit: a macroblock
CONFIG = MediaConfig()
PIECES = (2, 2, 2, 2)


def numbered(first: int, n: int) -> ByteArray:
    """I420 (n, 96, 64): 16 black or white macroblocks spell the frame's number."""
    frames = np.full((n, SIDE * 3 // 2, SIDE), 128, np.uint8)
    for i in range(n):
        bits = (first + i) >> np.arange(16) & 1
        frames[i, :SIDE] = np.kron(bits.reshape(4, 4), np.ones((BLOCK, BLOCK), int)) * 160 + 40
    return frames


def number(frame: av.VideoFrame) -> int:
    luma = frame.to_ndarray(format="gray")[:SIDE, :SIDE].reshape(4, BLOCK, 4, BLOCK).mean(axis=(1, 3))
    return int(((luma.reshape(-1) > 110).astype(int) << np.arange(16)).sum())


def film(
    pcm: FloatArray,
    first_number: int = 0,
    pieces: Sequence[int] = PIECES,
    n_frames: int | None = None,
    chunk: int = 4_800,
    first_frame: int = 0,
) -> list[bytes]:
    """An utterance from an encoder of its own, with numbered pictures, speech pushed in chunks as it would arrive."""
    n_frames = -(-len(pcm) // 960) if n_frames is None else n_frames
    sizes = list(pieces)
    fragments = []
    with FragmentEncoder(SIDE, SIDE, CONFIG, first_frame) as encoder:

        def encode_ready(everything: bool) -> None:
            while (ready := encoder.frames_ready()) > 0:
                n = sizes[0] if sizes else SEGMENT_FRAMES
                if ready < n:
                    assert not everything
                    return
                fragments.append(encoder.encode(numbered(first_number + encoder.frames_encoded, n)))
                del sizes[:1]

        for start in range(0, len(pcm), chunk):
            encoder.push_audio(pcm[start : start + chunk])
            encode_ready(False)
        encoder.finish_audio(n_frames)
        encode_ready(True)
    return fragments


def placed(fragments: Iterable[bytes], segment: int) -> list[bytes]:
    """The same fragments, `segment` segments later."""
    moved = []
    for data in fragments:
        times = {}
        for info in parse_fragments(data):
            times = {track.track: track.decode_time + segment * (4_096, 15_360)[track.track - 1] for track in info.tracks}
        moved.append(rebase(data, times))
    return moved


def watch(data: bytes) -> tuple[list[tuple[int, int]], FloatArray, int]:
    """What a player shows and plays: (pts in frames, number) of each picture; the samples; the first sample's pts."""
    pictures = decoded.frames(data)
    shown = list(zip(decoded.numbers(pictures), map(number, pictures), strict=True))
    with av.open(io.BytesIO(data), "r") as container:
        frames: list[Any] = list(container.decode(audio=0))
    assert all(b.pts == a.pts + a.samples for a, b in zip(frames, frames[1:], strict=False)), "a gap or an overlap between AAC frames"
    return shown, np.concatenate([frame.to_ndarray()[0] for frame in frames]), frames[0].pts


def clicks(n: int, at: Sequence[int]) -> FloatArray:
    pcm = np.zeros(n, np.float32)
    pcm[list(at)] = 0.8
    return pcm


def peaks(pcm: FloatArray, above: float = 0.2) -> list[int]:
    """Where the clicks are: local maxima at least 20 ms apart."""
    found: list[int] = []
    loud = np.flatnonzero(np.abs(pcm) > above)
    for group in np.split(loud, np.flatnonzero(np.diff(loud) > 960) + 1):
        if len(group):
            found.append(int(group[np.argmax(np.abs(pcm[group]))]))
    return found
