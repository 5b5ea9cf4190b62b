"""Fragments to a finished mp4 that plays while it loads: one moov in front, nothing encoded again."""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import av

from museserve.errors import RenderError
from museserve.media.isobmff import boxes
from museserve.media.text_track import TextTrack

CONTAINERS = ("trak", "mdia", "minf", "stbl")  # what lies between moov and the chunk offsets
BLOCK = 2**20


class _Joined(io.RawIOBase):
    """Parts as one file that is read from front to back."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts: Iterator[bytes] = iter(parts)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            part = next(self._parts, None)
            if part is None:
                return b""
            self._rest = memoryview(part)
        size = len(self._rest) if size < 0 else size
        data, self._rest = self._rest[:size], self._rest[size:]
        return bytes(data)


def to_mp4(parts: Iterable[bytes], out: BinaryIO, captions: TextTrack | None = None) -> None:
    """Join the pieces of one stream into a finished file.

    Args:
        parts: the init segment and the fragments in order, cut anywhere.
        out: where the file is written to, from front to back; need not be seekable.
        captions: a text track to put in beside the pictures and the sound.
    Raises:
        RenderError: the parts are not the stream they should be, e.g. there is no fragment.
    """
    with tempfile.TemporaryFile() as plain:  # has no name, so nothing can be left behind
        try:
            _remux(parts, plain, captions)
        except av.FFmpegError as error:
            raise RenderError(f"the fragments do not make a video: {error}") from error
        _write_moov_first(plain, out)


def _remux(parts: Iterable[bytes], out: BinaryIO, captions: TextTrack | None) -> None:
    """Packets as they are into an mp4 with the moov at the end. Both tracks start at 0: no priming, no edit that shifts them."""
    n = 0
    joined: Any = _Joined(parts)
    with av.open(joined, "r", format="mp4") as source, av.open(out, "w", format="mp4") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in (*source.streams.video, *source.streams.audio)}
        for packet in captions.add_to(target) if captions else ():  # ahead of the media, so that a player that loads has them
            target.mux_one(packet)
        for packet in source.demux():
            if packet.dts is not None:  # the last, empty ones tell decoders to flush
                packet.stream = streams[packet.stream_index]
                target.mux_one(packet)
                n += 1
    if n == 0:
        raise RenderError("there are no fragments to make a video of")


def _write_moov_first(plain: BinaryIO, out: BinaryIO) -> None:
    """Copy `plain` with its moov moved from the end to behind ftyp, and the chunk offsets inside raised by what moved."""
    top = list(_top_boxes(plain))
    kinds = [kind for kind, _, _ in top]
    if kinds[0] != "ftyp" or kinds[-1] != "moov" or kinds.count("moov") != 1:
        raise RenderError(f"an mp4 of unexpected boxes: {kinds}")
    moov = bytearray(_read(plain, *top[-1][1:]))
    _shift_offsets(moov, 8, len(moov), len(moov))
    out.write(_read(plain, *top[0][1:]))
    out.write(moov)
    at, end = top[0][2], top[-1][1]
    while at < end:
        out.write(_read(plain, at, min(at + BLOCK, end)))
        at += BLOCK


def _top_boxes(file: BinaryIO) -> Iterator[tuple[str, int, int]]:
    """(kind, start, end) of the boxes of a file, without reading their content."""
    end, at = file.seek(0, io.SEEK_END), 0
    while at < end:
        head = _read(file, at, at + 16)
        size, kind = struct.unpack_from(">I4s", head)
        if size == 1:
            size = struct.unpack_from(">Q", head, 8)[0]
        yield kind.decode("latin-1"), at, at + size
        at += size


def _shift_offsets(moov: bytearray, start: int, end: int, by: int) -> None:
    for kind, _, content, stop in boxes(memoryview(moov), start, end):
        if kind in CONTAINERS:
            _shift_offsets(moov, content, stop, by)
        elif kind in ("stco", "co64"):
            number = ">I" if kind == "stco" else ">Q"
            for at in range(content + 8, stop, struct.calcsize(number)):
                offset = struct.unpack_from(number, moov, at)[0] + by
                if kind == "stco" and offset >= 2**32:
                    raise RenderError("the video passes 4 GiB, the limit of its index")
                struct.pack_into(number, moov, at, offset)


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)
