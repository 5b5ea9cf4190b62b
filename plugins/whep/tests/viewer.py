"""Somebody who looks, in place of a browser: what came, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from numpy.typing import NDArray

from tests.peer_media import PEER_RATE, found, hold_no_sound, left, small_luma

WINDOW = PEER_RATE // 4


@dataclass
class Seen:
    """With the time at which each came (perf_counter), and its own time by the sender's clock since the first of its kind, seconds.

    pictures: each fourth line and column of the luma.
    """

    resource: str
    pictures: list[tuple[float, float, NDArray[np.uint8]]] = field(default_factory=list)
    sound: list[tuple[float, float, NDArray[np.int16]]] = field(default_factory=list)
    state: str = "new"

    def samples(self, since: float = 0.0) -> NDArray[np.int16]:
        """Mono at 48 kHz."""
        return np.concatenate([samples for came, _, samples in self.sound if came >= since] or [np.zeros(0, np.int16)])

    def moved(self, since: float = 0.0) -> float:
        """The largest mean change of a part of the lower half of the face from one picture to the next, levels."""
        faces = [picture[64:, 32:96].astype(np.int16) for came, _, picture in self.pictures if came >= since]
        changes = [np.abs(b - a).reshape(8, 8, 8, 8).mean(axis=(1, 3)).max() for a, b in zip(faces, faces[1:], strict=False)]
        return float(max(changes))

    async def until(self, check: Callable[[], object], seconds: float = 30.0) -> None:
        end = time.perf_counter() + seconds
        while not check():
            assert time.perf_counter() < end, f"not so after {seconds} s; {len(self.pictures)} pictures, {self.state}"
            await asyncio.sleep(0.02)


async def offered(peer: RTCPeerConnection, codec: str = "video/H264") -> str:
    peer.addTransceiver("audio", direction="recvonly")
    video = peer.addTransceiver("video", direction="recvonly")
    video.setCodecPreferences([each for each in RTCRtpReceiver.getCapabilities("video").codecs if each.mimeType == codec])
    await peer.setLocalDescription(await peer.createOffer())
    return str(peer.localDescription.sdp)


@asynccontextmanager
async def looking(gateway: str, http: aiohttp.ClientSession, query: str = "", hold_sound: bool = True, decode: bool = True) -> AsyncIterator[Seen]:
    """hold_sound: as aiortc's receiver does it.

    decode: else what comes is counted by its connection alone.
    """
    peer, readers = RTCPeerConnection(RTCConfiguration([])), set()
    offer = await offered(peer)
    seen = Seen("")

    async def read(track: MediaStreamTrack) -> None:
        first: float | None = None
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            now = time.perf_counter()
            at = float(frame.pts * frame.time_base)
            first = at if first is None else first
            if track.kind == "video":
                seen.pictures.append((now, at - first, small_luma(frame)))
            else:
                seen.sound.append((now, at - first, left(frame)))

    @peer.on("track")
    def on_track(track: MediaStreamTrack) -> None:
        if not decode:
            return
        readers.add(asyncio.create_task(read(track)))

    @peer.on("connectionstatechange")
    def on_state() -> None:
        seen.state = peer.connectionState

    async with http.post(f"{gateway}/whep{query}", data=offer, headers={"Content-Type": "application/sdp"}) as answer:
        assert answer.status == 201, await answer.text()
        assert answer.content_type == "application/sdp"
        seen.resource = gateway + answer.headers["Location"]
        await peer.setRemoteDescription(RTCSessionDescription(await answer.text(), "answer"))
    if not hold_sound:
        hold_no_sound(peer)
    try:
        await seen.until(lambda: seen.pictures if decode else seen.state == "connected")
        yield seen
    finally:
        await peer.close()
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


def heard(wanted: NDArray[np.int16], in_sound: NDArray[np.int16]) -> list[float]:
    """How well each loud quarter of a second of `wanted` is found, in order; between them may be silence."""
    alike, at = [], 0
    for begin in range(0, len(wanted) - WINDOW, WINDOW):
        part = wanted[begin : begin + WINDOW]
        if np.abs(part).max() > 1_000:
            place, same = found(part, in_sound[at:])
            alike.append(same)
            at += place if same > 0.8 else 0
    return alike
