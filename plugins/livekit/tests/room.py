"""The least of a room: it keeps the tracks that are published, and gives back what comes out of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from livekit import rtc
from numpy.typing import NDArray

Samples = NDArray[np.int16]


class Publication:
    def __init__(self, kind: Any) -> None:
        self.kind = kind

    async def wait_for_subscription(self) -> None:
        pass


class Participant:
    identity = "agent"

    def __init__(self, room: Room) -> None:
        self._room = room
        self.tracks: list[Any] = []
        self.track_publications: dict[str, Publication] = {}

    async def publish_track(self, track: Any, options: Any) -> Publication:
        self.tracks.append(track)
        publication = self.track_publications[track.name] = Publication(track.kind)
        self._room.emit("local_track_published", publication, track)
        return publication


class Room(rtc.EventEmitter[str]):
    """A stand-in for `rtc.Room`, whose server is not needed: tracks, sources and streams are the real ones."""

    name = "room"

    def __init__(self) -> None:
        super().__init__()
        self.local_participant = Participant(self)
        self.remote_participants: dict[str, Any] = {}

    def isconnected(self) -> bool:
        return True


@dataclass
class Watched:
    """What came out of the tracks, with the time at which each came (perf_counter). Sound at `rate`."""

    rate: int
    pictures: list[tuple[float, NDArray[np.uint8]]] = field(default_factory=list)  # luma
    sound: list[tuple[float, Samples]] = field(default_factory=list)

    def samples(self) -> Samples:
        return np.concatenate([samples for _, samples in self.sound]) if self.sound else np.zeros(0, np.int16)

    def loud_after(self, at: float, until: float = np.inf, threshold: int = 200) -> float | None:
        """Seconds from `at` to the last sample before `until` that is heard."""
        last = None
        for came, samples in self.sound:
            loud = np.flatnonzero(np.abs(samples.astype(int)) > threshold)
            if at <= came < until and len(loud):
                last = came - (len(samples) - 1 - loud[-1]) / self.rate - at
        return last


@asynccontextmanager
async def watching(room: Room, rate: int, keep_pictures: bool = True) -> AsyncIterator[Watched]:
    """While the tracks of a room are read back. They need not be published yet."""
    watched = Watched(rate)
    streams: list[rtc.VideoStream | rtc.AudioStream] = []

    async def pictures(track: Any) -> None:
        stream = rtc.VideoStream(track)
        streams.append(stream)
        async for event in stream:
            frame = event.frame if event.frame.type == rtc.VideoBufferType.I420 else event.frame.convert(rtc.VideoBufferType.I420)
            luma = np.frombuffer(frame.data, np.uint8)[: frame.width * frame.height].reshape(frame.height, frame.width)
            watched.pictures.append((time.perf_counter(), luma[::4, ::4].copy() if keep_pictures else luma[:1, :1].copy()))

    async def sound(track: Any) -> None:
        stream = rtc.AudioStream(track, sample_rate=rate, num_channels=1)
        streams.append(stream)
        async for event in stream:
            watched.sound.append((time.perf_counter(), np.frombuffer(event.frame.data, np.int16).copy()))

    async def begin() -> None:
        readers: list[asyncio.Task[None]] = []
        try:
            while True:
                for track in room.local_participant.tracks[len(readers) :]:
                    readers.append(asyncio.create_task(pictures(track) if track.kind == rtc.TrackKind.KIND_VIDEO else sound(track)))
                await asyncio.sleep(0.005)
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            for stream in streams:
                await stream.aclose()

    task = asyncio.create_task(begin())
    try:
        yield watched
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
