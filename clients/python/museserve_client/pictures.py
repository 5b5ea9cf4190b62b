"""Frames as I420, RGB or H.264 with exact numbers: from the idle loop, and from the fragments of utterances. Needs the extra `pictures` (PyAV)."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass, field
from typing import Any, Literal

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.video.reformatter import VideoReformatter

from museserve_client.client import Client
from museserve_client.errors import MuseserveError
from museserve_client.messages import Fragment, Idle, made

FIRST_BYTES = 96 * 1024  # where the service does not say in how many the first segments are
SEGMENT_FRAMES = 8
Pixels = Literal["yuv420p", "rgb24", "h264"]


@dataclass(frozen=True)
class Picture:
    """number: in the idle loop or in the utterance, 25 a second. data: I420, width * height * 3 // 2 bytes; as RGB width * height * 3; as H.264
    what the service sent, in the byte stream format, which begins anew with each segment of the idle loop, and with each utterance.
    """

    number: int
    width: int
    height: int
    data: bytes = field(repr=False)


class Decoder:
    """Of one sequence of fragments: each is decoded on top of those before it, unless it begins with a key frame."""

    def __init__(self, init: bytes, pixels: Pixels = "yuv420p") -> None:
        """init: the init segment. Raises MuseserveError when it is none."""
        self._init, self._pixels = init, pixels
        self._context = _context(init)
        self._reformatter = VideoReformatter()  # a frame's own would make its tables for each

    def decode(self, data: bytes, first: int, n_frames: int) -> list[Picture]:
        """The pictures of a fragment, from number `first` on. Raises MuseserveError when they are not `n_frames`."""
        packets = _video_packets(self._init + data, self._pixels == "h264")
        if self._pixels == "h264":
            pictures = [Picture(first + i, self._context.width, self._context.height, bytes(packet)) for i, packet in enumerate(packets)]
        else:
            pictures = [self._picture(first + i, frame) for i, frame in enumerate(self._frames(packets, first))]
        if len(pictures) != n_frames:
            raise MuseserveError(f"a fragment of {n_frames} frames gave {len(pictures)} pictures")
        return pictures

    def _frames(self, packets: list[Any], first: int) -> list[Any]:
        try:
            return [frame for packet in packets for frame in self._context.decode(packet)]
        except av.FFmpegError as error:
            raise MuseserveError(f"frames from {first} on cannot be decoded: {error}") from error

    def _picture(self, number: int, frame: Any) -> Picture:
        if frame.format.name.replace("yuvj", "yuv") != self._pixels:
            frame = self._reformatter.reformat(frame, format=self._pixels)
        depth = 3 if self._pixels == "rgb24" else 1
        rows = []
        for plane in frame.planes:
            samples = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
            rows.append(np.ascontiguousarray(samples[:, : plane.width * depth]).tobytes())
        return Picture(number, frame.width, frame.height, b"".join(rows))

    def decode_fragment(self, fragment: Fragment) -> list[Picture]:
        if fragment.init:
            self._init, self._context = fragment.data, _context(fragment.data)
            return self.decode(fragment.data[len(_init_of(fragment.data)) :], fragment.first_frame, fragment.n_frames)
        return self.decode(fragment.data, fragment.first_frame, fragment.n_frames)


@dataclass(frozen=True)
class _Index:
    frames: int
    width: int
    height: int
    init: int
    segments: tuple[int, ...]
    steady: tuple[int, ...]


class IdleLoop:
    """The picture of a face that says nothing, over and over. Segments are fetched once and decoded when they are asked for."""

    def __init__(self, client: Client, idle: Idle, pixels: Pixels = "yuv420p") -> None:
        self._client, self._url, self._pixels = client, idle.url, pixels
        self._first_bytes = idle.first_bytes or FIRST_BYTES
        self._index: _Index | None = None
        self._parts: list[bytes] = []
        self._data = b""
        self._cuts: list[int] = []
        self._decoder: Decoder | None = None
        self._decoded: int | None = None  # the segment that the decoder saw last

    async def open(self) -> None:
        """The first segments. Raises ServiceError, UnreachableError."""
        self._data = await self._client.bytes(self._url, 0, self._first_bytes)
        (length,) = struct.unpack_from(">I", self._data)
        if len(self._data) < 4 + length:
            self._data += await self._client.bytes(self._url, len(self._data), 4 + length)
        index = self._index = made(_Index, json.loads(self._data[4 : 4 + length]))
        at = 4 + length + index.init
        if len(self._data) < at:
            self._data += await self._client.bytes(self._url, len(self._data), at)
        for size in (index.segments[0], *index.steady, *index.segments[1:]):
            self._cuts.append(at)
            at += size
        self._cuts.append(at)
        self.init = self._data[4 + length : 4 + length + index.init]
        self._decoder = Decoder(self.init, self._pixels)

    async def load(self) -> None:
        """All that is missing."""
        if len(self._data) < self._cuts[-1]:
            self._data += await self._client.bytes(self._url, len(self._data), self._cuts[-1])

    @property
    def index(self) -> _Index:
        if self._index is None:
            raise MuseserveError("the idle loop is not open; await open() first")
        return self._index

    @property
    def frames(self) -> int:
        """Length of the loop."""
        return self.index.frames

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.index.width, self.index.height

    def has(self, segment: int) -> bool:
        """Whether `segment` can be shown now."""
        keyed, steady = self._places(segment)
        return len(self._data) >= self._cuts[keyed + 1] or (self._follows(segment) and len(self._data) >= self._cuts[steady + 1])

    def _follows(self, segment: int) -> bool:
        """Whether its form without a key frame will do. What is not decoded here may be lost on its way: then the next key frame mends it."""
        if self._decoded is None or self._pixels == "h264":
            return False
        return (self._decoded + 1) % len(self.index.segments) == segment

    def pictures(self, segment: int) -> list[Picture]:
        """The 8 pictures of a segment. In the order of the loop it is the decoder's cheapest; any other order is fine. Takes some 10 ms of computing.

        Raises MuseserveError when it is not there yet: `has`.
        """
        if not self.has(segment):
            raise MuseserveError(f"segment {segment} of the idle loop has not been loaded")
        assert self._decoder is not None
        keyed, steady = self._places(segment)
        place = steady if self._follows(segment) and len(self._data) >= self._cuts[steady + 1] else keyed
        self._decoded = None  # until it has been decoded
        pictures = self._decoder.decode(self._data[self._cuts[place] : self._cuts[place + 1]], SEGMENT_FRAMES * segment, SEGMENT_FRAMES)
        self._decoded = segment
        return pictures

    def _places(self, segment: int) -> tuple[int, int]:
        """Where its form with a key frame lies in the file, and the one without. In order: the first with, all without, the rest with."""
        n = len(self.index.segments)
        if not 0 <= segment < n:
            raise ValueError(f"the loop has segments 0 to {n - 1}, got {segment}")
        return (0 if segment == 0 else n + segment), 1 + segment


def _video_packets(film: bytes, as_byte_stream: bool) -> list[Any]:
    try:
        with av.open(io.BytesIO(film), "r", format="mp4") as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
            if as_byte_stream:
                as_sent = BitStreamFilterContext("h264_mp4toannexb", container.streams.video[0])
                packets = [each for packet in packets for each in as_sent.filter(packet)]
            return packets
    except av.FFmpegError as error:
        raise MuseserveError(f"a fragment cannot be read: {error}") from error


def _context(init: bytes) -> Any:
    """A decoder that keeps nothing back: one thread, and the pictures come in the order in which they are shown."""
    try:
        with av.open(io.BytesIO(init), "r", format="mp4") as container:
            stream = container.streams.video[0]
            context = av.CodecContext.create(stream.codec_context.name, "r")
            context.extradata = stream.codec_context.extradata
            context.width, context.height = stream.codec_context.width, stream.codec_context.height  # type: ignore[attr-defined,unused-ignore]
    except (av.FFmpegError, IndexError) as error:
        raise MuseserveError(f"the init segment cannot be read: {error}") from error
    context.thread_count = 1
    context.flags |= av.codec.context.Flags.low_delay
    return context


def _init_of(data: bytes) -> bytes:
    return data[: data.index(b"moof") - 4]
