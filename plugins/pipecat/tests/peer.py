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

PEER_RATE = 48_000
SIZE = 512


@dataclass
class Received:
    """With the time at which each came (perf_counter). Pictures: each fourth line and column of the luma."""

    pictures: list[tuple[float, NDArray[np.uint8]]] = field(default_factory=list)
    sound: list[tuple[float, NDArray[np.int16]]] = field(default_factory=list)

    def samples(self) -> NDArray[np.int16]:
        """Mono at 48 kHz."""
        return np.concatenate([samples for _, samples in self.sound]) if self.sound else np.zeros(0, np.int16)

    def last_loud(self, threshold: int = 300) -> float:
        """When the last sample came that is heard; 0 of silence."""
        for came, samples in reversed(self.sound):
            loud = np.flatnonzero(np.abs(samples.astype(int)) > threshold)
            if len(loud):
                return came - (len(samples) - 1 - int(loud[-1])) / PEER_RATE
        return 0.0


@asynccontextmanager
async def received(hold_sound: bool = True, chunks: int = 4) -> AsyncIterator[tuple[SmallWebRTCTransport, Received]]:
    """A transport for a pipeline, and what comes out of its other end.

    hold_sound: as aiortc's receiver does it, four packets of sound and none of pictures; a browser aligns the two by their sender's clocks.
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
                plane = frame.planes[0]
                luma = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[: frame.height, : frame.width]
                got.pictures.append((now, luma[::4, ::4].copy()))
            else:
                channels = len(frame.layout.channels)
                got.sound.append((now, frame.to_ndarray().reshape(-1, channels)[:, 0].copy()))

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
        peer.getReceivers()[0]._RTCRtpReceiver__jitter_buffer._prefetch = 0  # type: ignore[attr-defined]
    try:
        yield transport, got
    finally:
        await peer.close()
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


def found(wanted: NDArray[np.int16], in_sound: NDArray[np.int16]) -> tuple[int, float]:
    """Where `wanted` begins in a sound of the same rate, and how well the two correlate there."""
    n = 1 << int(np.ceil(np.log2(len(in_sound) + len(wanted))))
    spectrum = np.fft.rfft(in_sound.astype(float), n) * np.conj(np.fft.rfft(wanted.astype(float), n))
    at = int(np.fft.irfft(spectrum, n)[: max(1, len(in_sound) - len(wanted) + 1)].argmax())
    there = in_sound[at : at + len(wanted)]
    if not there.any() or not wanted.any():
        return at, 0.0
    return at, float(np.corrcoef(there.astype(float), wanted[: len(there)].astype(float))[0, 1])


def at_48_khz(pcm: bytes) -> NDArray[np.int16]:
    """From 24 kHz."""
    mono = np.frombuffer(pcm, "<i2").astype(float)
    return np.interp(np.arange(2 * len(mono)) / 2, np.arange(len(mono)), mono).round().astype(np.int16)
