"""A face without a connection: what it puts on its tracks of several things that are said, and what an interruption leaves of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from museserve_client import Client, MuseserveError
from museserve_client.face import FPS
from museserve_whep import Face, Speech
from museserve_whep.face import PACKET_S, RATE, STEP, Track
from numpy.typing import NDArray

from tests.client_fixtures import until

PATIENCE_S = 60.0  # on a machine that is busy the pictures come when they come
PIECE = 4_801  # bytes, cut within a sample


class Taken:
    """What came from a face's tracks."""

    def __init__(self) -> None:
        self.pieces: list[NDArray[np.int16]] = []
        self.pictures = 0

    @property
    def said(self) -> bytes:
        """Every sample that is none of silence: what is said here has no zeros, and a picture that is late leaves some."""
        sound = np.concatenate(self.pieces) if self.pieces else np.zeros(0, np.int16)
        return sound[sound != 0].tobytes()


@asynccontextmanager
async def shown(url: str) -> AsyncIterator[tuple[Face, Taken]]:
    async with Client(url) as client:
        face, taken, there = Face(client, None, PATIENCE_S), Taken(), True
        await face.open()

        async def hear() -> None:
            while True:
                taken.pieces.append((await face.audio.recv()).to_ndarray().reshape(-1))

        async def see() -> None:
            while True:
                await face.video.recv()
                taken.pictures += 1

        running = asyncio.create_task(face.run(lambda: there))
        readers = [asyncio.create_task(hear()), asyncio.create_task(see())]
        try:
            yield face, taken
        finally:
            there = False
            await running
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            await face.aclose()


@pytest.fixture
def speech(pcm: bytes) -> bytes:
    """Without a zero, so that it can be told from silence."""
    samples = np.frombuffer(pcm, "<i2").copy()
    samples[samples == 0] = 1
    return samples.tobytes()


async def coming(pcm: bytes, error: MuseserveError | None = None) -> AsyncIterator[bytes]:
    for at in range(0, len(pcm), PIECE):
        yield pcm[at : at + PIECE]
        await asyncio.sleep(0)
    if error is not None:
        raise error


@pytest.mark.parametrize(("kind", "first"), [("audio", 40), ("video", 0)])
async def test_sound_that_a_busy_sender_is_late_for_is_passed_over_and_no_picture_is(kind: str, first: int) -> None:
    """Else it comes ever later, while pictures do not."""
    track, now = Track(kind), asyncio.get_running_loop().time()
    for i in range(50):  # a second of it, all there
        track.put(now - 1.0 + i * PACKET_S, i)
    came = await track.recv()
    assert came == first if kind == "video" else came >= first
    assert kind == "audio" or await track.recv() == 1


async def test_an_end_is_told_once_with_what_went_out() -> None:
    speech = Speech(0.0)
    speech.write(bytes(2 * RATE))
    speech.take(RATE // 4)
    speech.end(interrupted=True)
    speech.take(RATE)
    speech.end(interrupted=False)
    assert await speech.done == (250, True)


async def test_what_is_said_goes_out_sample_by_sample_and_in_its_order(url: str, speech: bytes) -> None:
    first, second = speech[:RATE], speech[RATE:]
    async with shown(url) as (face, taken):
        await until(lambda: taken.pictures > FPS)
        assert taken.said == b"" and sum(map(len, taken.pieces)) > RATE // 2, "silence is sent, too"
        told = await asyncio.gather(face.speak(coming(first)), face.speak(coming(second)))
        assert told == [(round(len(one) / 48), False) for one in (first, second)]
        await until(lambda: len(taken.said) >= len(speech))
        await asyncio.sleep(0.2)
        assert taken.said == speech and not face.line
    assert (face.stats.interrupted, face.stats.without_lips) == (0, 0)


async def test_an_interruption_drops_what_is_said_and_what_waits_and_tells_the_place(url: str, speech: bytes) -> None:
    async with shown(url) as (face, taken):
        said, waits = (asyncio.create_task(face.speak(coming(speech))) for _ in range(2))
        await until(lambda: len(taken.said) > RATE)
        face.interrupt()
        (heard_ms, interrupted), other = await said, await waits
        assert interrupted and other == (0, True) and face.stats.interrupted == 2
        pieces = len(taken.pieces)
        await until(lambda: len(taken.pieces) > pieces + RATE // len(taken.pieces[0]) // 2)  # half a second: what was on its way is here by then
        before = taken.said
        assert speech.startswith(before) and len(before) < len(speech)
        assert heard_ms == round(len(before) / 48), "what was put on its way before is heard, and nothing else"
        assert await face.speak(coming(speech)) == (round(len(speech) / 48), False)
        await until(lambda: len(taken.said) >= len(before + speech))
        assert taken.said == before + speech, "nothing of what was dropped came later"


async def test_an_interruption_before_anything_was_heard(url: str, speech: bytes) -> None:
    async with shown(url) as (face, taken):
        waiting = asyncio.create_task(face.speak(coming(speech)))
        while not (face.line and face.line[0].samples):  # noqa: ASYNC110  # there are no pictures yet
            await asyncio.sleep(0)
        face.interrupt()
        assert await waiting == (0, True)
        face.interrupt()  # of nothing
        assert face.stats.interrupted == 1
        assert await face.speak(coming(speech[: 2 * STEP * 20])) == (800, False)


async def test_a_sound_that_fails_is_heard_as_far_as_it_came(url: str, speech: bytes) -> None:
    class Broken(MuseserveError):
        pass

    async with shown(url) as (face, taken):
        with pytest.raises(Broken):
            await face.speak(coming(speech, Broken("the voice broke off")))
        await until(lambda: len(taken.said) >= len(speech))
        assert taken.said == speech
        failing = asyncio.create_task(face.speak(coming(speech, Broken("the voice broke off"))))
        await until(lambda: len(taken.said) > len(speech))
        face.interrupt()
        assert (await failing)[1], "who interrupts does not hear of it"
