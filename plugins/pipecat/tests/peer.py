"""A browser's part: an aiortc peer that receives what the bot shows and says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from numpy.typing import NDArray
from pipecat.transports.base_transport import TransportParams
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection
from pipecat.transports.smallwebrtc.transport import SmallWebRTCTransport

from tests.peer_media import hold_no_sound, left, small_luma

SIZE = 512


@dataclass
class Received:
    """With the time at which each came (perf_counter). Pictures: each fourth line and column of the luma."""

    pictures: list[tuple[float, NDArray[np.uint8]]] = field(default_factory=list)
    sound: list[tuple[float, NDArray[np.int16]]] = field(default_factory=list)

    def samples(self) -> NDArray[np.int16]:
        """Mono at 48 kHz."""
        return np.concatenate([samples for _, samples in self.sound]) if self.sound else np.zeros(0, np.int16)


@asynccontextmanager
async def received(hold_sound: bool = True, chunks: int = 4) -> AsyncIterator[tuple[SmallWebRTCTransport, Received]]:
    """A transport for a pipeline, and what comes out of its other end.

    hold_sound: as aiortc's receiver does it.
    chunks: of 10 ms, in which the transport takes sound; an interruption does not take back the one that is being sent.
    """
    got, readers = Received(), set()
    peer, connection = RTCPeerConnection(), SmallWebRTCConnection()

    async def read(track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            now = time.perf_counter()
            if track.kind == "video":
                got.pictures.append((now, small_luma(frame)))
            else:
                got.sound.append((now, left(frame)))

    @peer.on("track")
    def on_track(track: MediaStreamTrack) -> None:
        readers.add(asyncio.create_task(read(track)))

    peer.createDataChannel("chat")
    for kind in ("audio", "video"):
        peer.addTransceiver(kind, direction="sendrecv")
    await peer.setLocalDescription(await peer.createOffer())
    await connection.initialize(peer.localDescription.sdp, peer.localDescription.type)
    answer = connection.get_answer()
    assert answer is not None
    params = TransportParams(
        audio_out_enabled=True,
        audio_out_10ms_chunks=chunks,
        audio_out_end_silence_secs=0,
        video_out_enabled=True,
        video_out_width=SIZE,
        video_out_height=SIZE,
        video_out_framerate=30,
    )
    transport = SmallWebRTCTransport(connection, params)
    await peer.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))
    if not hold_sound:
        hold_no_sound(peer)
    try:
        yield transport, got
    finally:
        await peer.close()
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
