"""One moof + mdat at a time, from packets that are already encoded.

A muxer that lives as long as the stream closes a fragment only when the next key frame comes in, so everything would be a
segment late. A muxer that lives for one fragment has nothing to wait for, and writes absolute decode times by itself.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import av
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from museserve.timebase import FPS, OUTPUT_SAMPLES_PER_FRAME, VIDEO_TIMESCALE

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet

INIT_FLAGS = "empty_moov+default_base_moof+frag_custom"
# frag_discont makes the decode time follow the packets' own time; together with avoid_negative_ts=disabled it is absolute.
FRAGMENT_FLAGS = "frag_custom+empty_moov+default_base_moof+frag_discont+skip_trailer"

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


def mux_fragment(number: int, tracks: Sequence[tuple[VideoStream | AudioStream, Sequence[Packet[Any]]]]) -> bytes:
    """One fragment: a moof and an mdat with the packets of each track, in the order given.

    Args:
        number: position of the fragment in its stream, from 0.
        tracks: the streams that the packets were encoded for, and the packets; their times become absolute decode times.
    """
    sink = ByteSink()
    options = {"movflags": FRAGMENT_FLAGS, "fragment_index": str(number + 1), "avoid_negative_ts": "disabled"}
    with av.open(sink, "w", format="mp4", options=options) as container:
        streams = [container.add_stream_from_template(stream) for stream, _ in tracks]
        container.start_encoding()
        sink.take()  # ftyp and moov: the init segment has them
        for stream, (_, packets) in zip(streams, tracks, strict=True):
            for packet in packets:
                packet.stream = stream
                container.mux_one(packet)
    return sink.take()


def moved(fragment: bytes, frames: int) -> bytes:
    """The same fragment, with whatever lies before its moof, `frames` later: pictures and sound."""
    data = bytearray(fragment)
    at = data.index(b"moof")
    for ticks in (VIDEO_TIMESCALE // FPS, OUTPUT_SAMPLES_PER_FRAME):  # a frame's, in the tracks' own units
        at = data.index(b"tfdt", at) + 8  # the decode time, behind version and flags
        struct.pack_into(">Q", data, at, struct.unpack_from(">Q", data, at)[0] + frames * ticks)
    return bytes(data)
