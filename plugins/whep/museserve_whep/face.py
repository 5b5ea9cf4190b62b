"""One viewer's face: the service's own H.264, packet by packet, and beside it the sound that it was drawn for. Two tracks on one clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from typing import Any

import av
from aiortc import MediaStreamTrack
from museserve_client import Client, MuseserveError
from museserve_client.face import FPS, ROUNDED_S
from museserve_client.pictures import Picture
from museserve_client.sound import SAMPLE_BYTES, Sound
from museserve_client.talk import Talk, TalkStats

logger = logging.getLogger(__name__)

RATE = 24_000  # of /v1/audio/speech
STEP = RATE // FPS  # samples beside a picture
PACKET_S = 0.02  # of sound: one frame of Opus
PACKETS = round(1 / FPS / PACKET_S)  # beside a picture
PACKET = STEP // PACKETS  # samples
LATE_S = 0.2  # behind its time by more, the clock is set anew, and sound is passed over: nothing is caught up with
PATIENCE_S = 1.5
VIDEO_CLOCK = Fraction(1, 90_000)


class Speech(Sound):
    """What is said in one go, mono at 24 kHz. done: how many milliseconds were heard, and whether it was interrupted."""

    def __init__(self, now: float) -> None:
        super().__init__(RATE, now)
        self.done: asyncio.Future[tuple[int, bool]] = asyncio.get_running_loop().create_future()

    @property
    def heard_ms(self) -> int:
        return round(self.sent / RATE * 1_000)

    def end(self, interrupted: bool) -> None:
        if not self.done.done():
            self.done.set_result((self.heard_ms, interrupted))


class Track(MediaStreamTrack):
    """What `put` gives it, at its time. Sound that is late by more than `LATE_S` is passed over where there is later one: whoever sends it could not
    keep up, and lips do not wait. Of pictures each needs those before it.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self._line: asyncio.Queue[tuple[float, Any]] = asyncio.Queue()

    def put(self, due: float, data: av.Packet[Any] | av.AudioFrame) -> None:
        self._line.put_nowait((due, data))

    async def recv(self) -> Any:
        due, data = await self._line.get()
        loop = asyncio.get_running_loop()
        while self.kind == "audio" and loop.time() - due > LATE_S and not self._line.empty():
            due, data = self._line.get_nowait()
        await asyncio.sleep(due - loop.time())
        return data


class Face(Talk[Speech]):
    """`open`, then `run` for as long as somebody looks; `aclose` at the end. `video` and `audio` are for his connection."""

    def __init__(self, client: Client, avatar: str | None, patience_s: float = PATIENCE_S) -> None:
        """patience_s: how long sound waits for its pictures. Then it is heard without them, and the log says so."""
        super().__init__(client, avatar, patience_s, "h264", logger.log)
        self.stats = TalkStats()
        self.video, self.audio = Track("video"), Track("audio")
        self._waiting = bytearray()  # sound that was taken and is on no packet yet

    async def open(self) -> None:
        """Begin the session and have the face's first pictures. Raises MuseserveError."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.keep_session(ready)
        await asyncio.shield(ready)

    async def aclose(self) -> None:
        self.interrupt()
        await self.close()
        self.video.stop()
        self.audio.stop()

    def be_away(self, why: str, error: Exception | None = None) -> None:
        logger.warning("museserve is away: %s", why)

    # --- what is said -----------------------------------------------------------------------------------------------

    async def speak(self, sound: AsyncIterator[bytes]) -> tuple[int, bool]:
        """Says 16-bit mono PCM of 24 kHz as it comes, behind what is being said. Returns the milliseconds of it that were heard, and whether it was
        interrupted. Raises what `sound` raises, once what came before was heard.
        """
        speech, failed = Speech(asyncio.get_running_loop().time()), None
        self.line.append(speech)
        try:
            async for piece in sound:
                if speech.done.done():
                    break
                speech.write(piece)
                self.wrote()
        except MuseserveError as error:
            failed = error
        speech.ended = True
        self.wrote()
        heard = await speech.done
        if failed is not None and not heard[1]:
            raise failed
        return heard

    def interrupt(self) -> None:
        """Nothing more is heard of what is being said, nor of what waits."""
        said, take = list(self.line), self._showing
        if said:
            said[0].sent -= len(self._waiting) // SAMPLE_BYTES
        self.line.clear()
        self._waiting.clear()
        if take is not None and self._idle is not None:
            self._idle.seek(take.idle_frame)
            take.tell_played()
        self._forget(list(self._takes))
        for speech in said:
            self.stats.interrupted += 1
            speech.end(True)

    # --- what goes on -----------------------------------------------------------------------------------------------

    async def run(self, connected: Callable[[], bool]) -> None:
        """25 steps a second, as long as somebody is connected. In each a picture, unless the last one stays, and 40 ms of sound."""
        loop = asyncio.get_running_loop()
        start = due = loop.time()
        while connected():
            await asyncio.sleep(due - loop.time())
            if loop.time() - due > LATE_S:
                due = loop.time()
            picture = await self.picture()
            speech = self.line[0] if self.line else None
            if speech is not None:
                self._waiting += self._sound(speech)
            at = due - start
            if picture is not None:
                self.video.put(due, _packet(picture, at))
            pcm = bytes(self._waiting[: SAMPLE_BYTES * STEP]).ljust(SAMPLE_BYTES * STEP, b"\0")
            del self._waiting[: SAMPLE_BYTES * STEP]
            for i in range(PACKETS):
                self.audio.put(due + i * PACKET_S, _frame(pcm[SAMPLE_BYTES * PACKET * i :][: SAMPLE_BYTES * PACKET], at + i * PACKET_S))
            if speech is not None and self.line and speech is self.line[0] and speech.ended and speech.played_out and not self._waiting:
                self.line.popleft()
                if self.line:
                    self.line[0].since = loop.time()
                speech.end(False)
            due += 1 / FPS

    def _sound(self, speech: Speech) -> bytes:
        """What is heard beside the picture that was taken last."""
        take = self._showing
        if speech.through:
            return speech.take(speech.sent + STEP - len(self._waiting) // SAMPLE_BYTES)
        if speech.ended and speech.samples - speech.sent <= ROUNDED_S * RATE:
            return speech.take(speech.samples)
        if take is None or take.segment is not speech or self._stalled:
            return b""
        return speech.take(min(take.sample_at(take.shown), take.drawn_upto()))


def _packet(picture: Picture, at_s: float) -> av.Packet[Any]:
    packet: av.Packet[Any] = av.Packet(picture.data)
    packet.pts, packet.time_base = round(at_s / VIDEO_CLOCK), VIDEO_CLOCK
    return packet


def _frame(pcm: bytes, at_s: float) -> av.AudioFrame:
    frame = av.AudioFrame("s16", "mono", len(pcm) // SAMPLE_BYTES)
    frame.planes[0].update(pcm)
    frame.sample_rate, frame.pts, frame.time_base = RATE, round(at_s * RATE), Fraction(1, RATE)
    return frame
