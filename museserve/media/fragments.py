"""One moof + mdat at a time, from packets that are already encoded.

A muxer that lives as long as the stream closes a fragment only when the next key frame comes in, so everything would be a
segment late. One that lives for a fragment has nothing to wait for, but is a millisecond in making. The boxes are few (ISO/IEC 14496-12, 8.8), so
they are written here, to the byte as FFmpeg writes them; the init segment is FFmpeg's own.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av

from museserve.timebase import FPS, OUTPUT_SAMPLES_PER_FRAME, VIDEO_TIMESCALE

if TYPE_CHECKING:
    from av.container import OutputContainer

INIT_FLAGS = "empty_moov+default_base_moof+frag_custom"
# Sample flags (8.8.3.1): depends on no other and may be sought; depends on others and may not.
ALONE, DEPENDENT = 0x02000000, 0x01010000
START_CODE = b"\0\0\1"  # before each NAL unit in a stream of bytes; in a file its length of four bytes is

# What a file of fragments ends with by the standard: an index (mfra), here of nothing, whose last box (mfro) has its
# size. A stream that does not end with these bytes was cut off.
STREAM_END = struct.pack(">I4sI4sII", 24, b"mfra", 16, b"mfro", 0, 24)


class ByteSink:
    """The least that a container can be written to: no seeking, so that nothing already written can change."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """What was written since the last call."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def open_init(sink: ByteSink) -> OutputContainer:
    """A container that will hold the streams' parameters and write the init segment, and never a packet."""
    return av.open(sink, "w", format="mp4", options={"movflags": INIT_FLAGS})


@dataclass(frozen=True)
class Run:
    """Samples of one track, in order. time: decode time of the first, duration: of each, in the track's units.

    flags: `ALONE` or `DEPENDENT`; first_flags: those of the first sample.
    """

    time: int
    duration: int
    samples: Sequence[bytes]
    flags: int
    first_flags: int


def mux_fragment(number: int, runs: Sequence[Run]) -> bytes:
    """One fragment: a moof and an mdat.

    Args:
        number: position of the fragment in its stream, from 0.
        runs: at least one sample of each track, in the order of the tracks.
    """
    size = 16 + 8 + sum(_traf_size(run) for run in runs)
    data = [sample for run in runs for sample in run.samples]
    offset = size + 8  # of a run's first sample, from the moof's beginning
    parts = [_box(b"mfhd", struct.pack(">II", 0, number + 1))]
    for track, run in enumerate(runs, 1):
        parts.append(_traf(track, run, offset))
        offset += sum(map(len, run.samples))
    return b"".join([_box(b"moof", b"".join(parts)), struct.pack(">I4s", offset - size, b"mdat"), *data])


def length_prefixed(stream: bytes) -> bytes:
    """H.264's NAL units between start codes, as an encoder gives them, with lengths instead, as MP4 keeps them."""
    parts = []
    at = stream.find(START_CODE)
    while at >= 0:
        first, at = at + len(START_CODE), stream.find(START_CODE, at + len(START_CODE))
        end = len(stream) if at < 0 else at - (stream[at - 1] == 0)  # a start code may have one zero more
        parts += [struct.pack(">I", end - first), stream[first:end]]
    return b"".join(parts)


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _is_even(run: Run) -> bool:
    """All samples have one size, which then stands once."""
    return all(len(sample) == len(run.samples[0]) for sample in run.samples)


def _traf_size(run: Run) -> int:
    return 8 + 28 + 20 + 20 + 4 * (run.first_flags != run.flags) + (0 if _is_even(run) else 4 * len(run.samples))


def _traf(track: int, run: Run, offset: int) -> bytes:
    """offset: of the first sample, bytes from the moof's beginning."""
    sizes = [len(sample) for sample in run.samples]
    present, fields = 0x1, [offset]
    if run.first_flags != run.flags:
        present, fields = present | 0x4, [*fields, run.first_flags]
    if not _is_even(run):
        present, fields = present | 0x200, [*fields, *sizes]
    # moof is the base; duration, size and flags of samples that say nothing else
    tfhd = _box(b"tfhd", struct.pack(">5I", 0x020038, track, run.duration, sizes[0], run.flags))
    tfdt = _box(b"tfdt", struct.pack(">IQ", 1 << 24, run.time))
    trun = _box(b"trun", struct.pack(f">{2 + len(fields)}I", present, len(sizes), *fields))
    return _box(b"traf", tfhd + tfdt + trun)


def moved(fragment: bytes, frames: int) -> bytes:
    """The same fragment, with whatever lies before its moof, `frames` later: pictures and sound."""
    data = bytearray(fragment)
    at = data.index(b"moof")
    for ticks in (VIDEO_TIMESCALE // FPS, OUTPUT_SAMPLES_PER_FRAME):  # a frame's, in the tracks' own units
        at = data.index(b"tfdt", at) + 8  # the decode time, behind version and flags
        struct.pack_into(">Q", data, at, struct.unpack_from(">Q", data, at)[0] + frames * ticks)
    return bytes(data)
