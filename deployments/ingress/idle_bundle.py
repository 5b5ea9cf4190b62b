"""An avatar's idle loop as the player keeps it: an index, the init segment and every segment in one response."""

from __future__ import annotations

import json
import struct
from typing import Any

from museserve.errors import EngineError
from museserve.media.codecs import codecs_of
from museserve.media.provenance import Marks, Origin
from museserve.timebase import FPS, OUTPUT_RATE, SEGMENT_FRAMES
from musetalk.avatars.format import Avatar, StoredIdle, name_of

SILENT = "none"  # in place of a voice
LENGTH = struct.Struct(">I")
FIRST_SEGMENTS = 3  # as in web/player/idle-loop.js


def stored_idle(avatar: Avatar) -> StoredIdle:
    """Raises EngineError when the avatar was saved without one."""
    if avatar.idle is None:
        raise EngineError(f"avatar {name_of(avatar.ref.id)!r} was saved without an idle loop; prepare it again")
    return avatar.idle


def idle_film(avatar: Avatar, marks: Marks, lips: str) -> bytes:
    """The loop as a finished film, marked as generated. Raises EngineError."""
    meta = avatar.meta
    return marks.finish(stored_idle(avatar)["mp4"], Origin(meta.id, meta.version, not meta.builtin, SILENT, lips))


def idle_url(avatar: Avatar) -> str:
    """Names the version, so that what it gives never changes."""
    return f"/v1/avatars/{name_of(avatar.ref.id)}/idle.segments?version={avatar.ref.version}"


def media_of(avatar: Avatar) -> dict[str, Any]:
    """What a player must know before it makes its source buffer."""
    return {
        "codecs": codecs_of(stored_idle(avatar)["init"]),
        "width": avatar.meta.size,
        "height": avatar.meta.size,
        "fps": FPS,
        "segment_frames": SEGMENT_FRAMES,
        "audio_rate": OUTPUT_RATE,
    }


def packed(avatar: Avatar) -> bytes:
    """u32 length of the index, the index as JSON, the init segment, then segments that begin at decode time 0: the first with its key frame, all
    of those without, the rest of those with one, and those of the gestures. So the whole loop can be shown when a third of it is there."""
    idle = stored_idle(avatar)
    gestures = (segment for made in idle["gestures"].values() for one in made for segment in one.segments)
    return b"".join([_head(avatar), *_segments(idle), *gestures])


def first_bytes(avatar: Avatar) -> int:
    """With so many of `packed` a face can begin to live."""
    return len(_head(avatar)) + sum(map(len, _segments(stored_idle(avatar))[: 1 + FIRST_SEGMENTS]))


def _segments(idle: StoredIdle) -> list[bytes]:
    return [*idle["segments"][:1], *idle["steady"], *idle["segments"][1:]]


def _head(avatar: Avatar) -> bytes:
    idle = stored_idle(avatar)
    index = {
        "avatar": name_of(avatar.ref.id),
        "version": avatar.ref.version,
        "frames": avatar.meta.n_frames,
        **media_of(avatar),
        "digital_source_type": Origin(avatar.ref.id, avatar.ref.version, not avatar.meta.builtin, SILENT, "").source_type,
        "init": len(idle["init"]),
        "segments": [len(segment) for segment in idle["segments"]],
        "steady": [len(segment) for segment in idle["steady"]],
        "gestures": {
            state: [{"first": one.first, "segments": [len(segment) for segment in one.segments]} for one in made]
            for state, made in idle["gestures"].items()
        },
    }
    head = json.dumps(index).encode()
    return LENGTH.pack(len(head)) + head + idle["init"]
