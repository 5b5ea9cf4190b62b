"""A viewer that plays what it receives: an HTTP client that notes when each fragment is complete and when it would have been needed."""

from __future__ import annotations

import http.client
import json
import struct
import time
from contextlib import closing
from dataclasses import dataclass, field
from urllib.parse import urlsplit

TIMESCALE = 12_800
SEGMENT_S = 0.32


@dataclass
class Viewing:
    """Seconds since the request. fragments: (arrival of its last byte, media time of its first frame); ended: the box of
    a complete stream came."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    fragments: list[tuple[float, float]] = field(default_factory=list)
    total_s: float = 0.0
    received: int = 0
    ended: bool = False

    @property
    def first_s(self) -> float:
        return self.fragments[0][0]

    @property
    def worst_lateness_s(self) -> float:
        """How late the latest fragment was for a viewer who starts when the first segment is complete; negative = never late."""
        began = max(at for at, media in self.fragments if media < SEGMENT_S)
        return max((at - began - media for at, media in self.fragments if media >= SEGMENT_S), default=-1.0)


def watch(url: str, body: dict[str, object], seen: Viewing | None = None, silence_s: float = 120.0, key: str = "") -> Viewing:
    """Ask for a streamed video and read it to its end.

    silence_s: after which a connection is given up. key: of a service that asks for one.
    seen: filled in as the video comes, for whoever wants to know what came before a stream was cut.
    Raises OSError, http.client.HTTPException: no connection, or it was lost.
    """
    place = urlsplit(url)
    seen = Viewing() if seen is None else seen
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    began = time.perf_counter()
    with closing(http.client.HTTPConnection(place.hostname or "", place.port, timeout=silence_s)) as connection:
        connection.request("POST", "/v1/videos", json.dumps(body), headers)
        with connection.getresponse() as answer:
            seen.status, seen.headers = answer.status, {k.lower(): v for k, v in answer.getheaders()}
            try:
                _read(answer, seen, began)
            finally:
                seen.total_s = time.perf_counter() - began
    return seen


def _read(answer: http.client.HTTPResponse, seen: Viewing, began: float) -> None:
    buffer = bytearray()
    media = 0.0
    while data := answer.read1(262_144):
        now = time.perf_counter() - began
        seen.received += len(data)
        buffer += data
        while len(buffer) >= 8:
            size, kind = struct.unpack(">I4s", buffer[:8])
            if len(buffer) < size:
                break
            if kind == b"moof":
                media = _video_start(bytes(buffer[:size]))
            elif kind == b"mdat":
                seen.fragments.append((now, media))
            elif kind == b"mfra":
                seen.ended = True
            del buffer[:size]


def _video_start(moof: bytes) -> float:
    """Seconds: the first tfdt of a moof is the video track's."""
    at = moof.index(b"tfdt")
    version = moof[at + 4]
    ticks = struct.unpack(">Q" if version else ">I", moof[at + 8 : at + (16 if version else 12)])[0]
    return float(ticks) / TIMESCALE
