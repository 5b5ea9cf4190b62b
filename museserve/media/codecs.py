"""The RFC 6381 names of the streams, read from an init segment."""

from __future__ import annotations

from museserve.errors import RenderError

DECODER_CONFIG = 5  # tag of the descriptor in `esds` that holds the AudioSpecificConfig


def codecs_of(init: bytes) -> str:
    """What Media Source Extensions want to know, e.g. "avc1.4d401e, mp4a.40.2".

    Raises:
        RenderError: there is no H.264 or no AAC track.
    """
    try:
        avc = init.index(b"avcC") + 4
        at = init.index(bytes([DECODER_CONFIG]), init.index(b"esds") + 4 + 4 + 18) + 1
        while init[at] & 0x80:  # the length, in up to four bytes
            at += 1
        return f"avc1.{init[avc + 1 : avc + 4].hex()}, mp4a.40.{init[at + 1] >> 3}"
    except (ValueError, IndexError):
        raise RenderError("the init segment has no H.264 or no AAC track") from None
