"""Fragments to a finished mp4 that plays while it loads: one moov in front, nothing encoded again."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from typing import Any, BinaryIO

import av

from museserve.errors import RenderError
from museserve.media.text_track import TextTrack


class _Joined:
    """Parts as one file that is read from front to back."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        while not self._rest and (part := next(self._parts, None)) is not None:
            self._rest = memoryview(part)
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
    with tempfile.NamedTemporaryFile(suffix=".mp4") as whole:  # FFmpeg opens it a second time to move the moov
        try:
            _remux(parts, whole.name, captions)
        except av.FFmpegError as error:
            raise RenderError(f"the fragments do not make a video: {error}") from error
        shutil.copyfileobj(whole, out)


def _remux(parts: Iterable[bytes], path: str, captions: TextTrack | None) -> None:
    """Packets as they are into an mp4. Both tracks start at 0: no priming, no edit that shifts them."""
    n = 0
    joined: Any = _Joined(parts)
    options = {"movflags": "faststart"}
    with av.open(joined, "r", format="mp4") as source, av.open(path, "w", options=options) as target:
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
