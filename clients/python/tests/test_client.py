"""Against a museserve: what was asked for comes, whole and in order, over lines that break."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import av
import numpy as np
import pytest
from museserve_client import Client, ClosedError, Finished, Fragment, Interrupted, Notice, Part, ServiceError, Session, UnreachableError, Utterance
from museserve_client.pictures import Decoder, IdleLoop

from tests.api_process import Api, Line

RATE = 24_000
LONG = "Tell me about a project that you are proud of. What made it hard? Who was in the team? And what would you do otherwise today?"


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url) as one:
        yield one


async def pcm(client: Client, text: str = LONG) -> bytes:
    return b"".join([piece async for piece in client.speak(text, format="pcm")])


def contiguous(fragments: list[Fragment], frames: int) -> bool:
    """Every frame once and in order; what came in part before a line broke may come again."""
    expected = 0
    for fragment in fragments:
        if fragment.first_frame > expected:
            return False
        expected = max(expected, fragment.first_frame + fragment.n_frames)
    return expected == frames


async def said(utterance: Utterance, on_fragment: Any = None) -> tuple[list[Fragment], Finished | Interrupted]:
    fragments: list[Fragment] = []
    async for event in utterance:
        if isinstance(event, Fragment):
            fragments.append(event)
            if on_fragment is not None:
                on_fragment(fragments)
        elif isinstance(event, (Finished, Interrupted)):
            return fragments, event
    raise AssertionError("it had no end")


async def test_speech_and_streams(client: Client) -> None:
    sound = np.frombuffer(await pcm(client, "Hello."), "<i2")
    assert len(sound) > RATE / 4 and np.abs(sound).max() > 1_000
    async with client.stream("Hello.") as video:
        pieces = [piece async for piece in video]
    assert video.codecs.startswith("avc1") and pieces[0][4:8] == b"ftyp" and all(piece[4:8] == b"moof" for piece in pieces[1:-1])
    decoder = Decoder(pieces[0])
    sizes = [2, 6, *[8] * (len(pieces) - 4)]
    assert sum(len(decoder.decode(piece, 0, n)) for piece, n in zip(pieces[1:-1], sizes, strict=True)) % 8 == 0
    assert {"interviewer_woman", "interviewer_man"} <= {avatar["id"] for avatar in await client.avatars()}
    async with client.stream(audio=wav(sound.tobytes())) as video:
        assert len([piece async for piece in video]) == len(pieces)


def wav(samples: bytes) -> bytes:
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16, b"data", len(samples))
    return head + samples


async def test_what_is_refused_is_told_by_its_code(client: Client) -> None:
    with pytest.raises(ServiceError) as refused:
        await anext(client.speak("Hello.", voice="nobody"))
    assert refused.value.status == 400 and refused.value.code == "unknown_voice"
    with pytest.raises(ClosedError) as closed:
        async with client.session("nobody"):
            pass
    assert (closed.value.close_code, closed.value.code) == (4000, "unknown_avatar")
    async with client.session() as session:
        with pytest.raises(ServiceError) as failed:
            await said(session.speak("Hello.", voice="nobody"))
        assert failed.value.code == "unknown_voice"
        fragments, end = await said(session.speak("Hello."))
        assert isinstance(end, Finished) and contiguous(fragments, end.frames)
    async with Client("http://127.0.0.1:9") as nobody:
        with pytest.raises(UnreachableError):
            await nobody.avatars()
        with pytest.raises(UnreachableError):
            async with nobody.session():
                pass


async def test_pictures_of_an_utterance_have_their_numbers_and_join_the_idle_loop(client: Client) -> None:
    async with client.session("man") as session:
        loop = IdleLoop(client, session.ready.idle)
        await loop.open()
        assert loop.has(0) and not loop.has(loop.frames // 8 - 1)
        await loop.load()
        before = loop.pictures(1)[3]  # idle frame 11
        fragments, end = await said(session.speak("Hello.", phase=12))
        decoder = Decoder(loop.init)
        pictures = [picture for fragment in fragments for picture in decoder.decode_fragment(fragment)]
        assert isinstance(end, Finished) and [picture.number for picture in pictures] == list(range(end.frames))
        after = loop.pictures(end.phase // 8)[0]
        steps = [difference(a.data, b.data) for a, b in ((before, pictures[0]), (pictures[-1], after))]
        assert max(steps) < 1.5, "of 255 levels, from idle into speech and back"


async def test_pictures_as_rgb(client: Client) -> None:
    async with client.session() as session:
        loops = [IdleLoop(client, session.ready.idle), IdleLoop(client, session.ready.idle, "rgb24")]
        for loop in loops:
            await loop.open()
        plain, coloured = (loop.pictures(0)[0] for loop in loops)
        rgb = np.frombuffer(coloured.data, np.uint8).reshape(512, 512, 3).astype(float)
        luma = np.frombuffer(plain.data, np.uint8)[: 512 * 512].reshape(512, 512)
        assert np.abs(16 + rgb @ [0.257, 0.504, 0.098] - luma).mean() < 1.5, "of 255 levels; by the matrix of another standard it is more"


async def test_pictures_as_h264_can_be_decoded_from_each_segment_of_the_loop_on(client: Client) -> None:
    async with client.session() as session:
        coded, plain = (IdleLoop(client, session.ready.idle, pixels) for pixels in ("h264", "yuv420p"))
        for loop in (coded, plain):
            await loop.open()
            await loop.load()
        fragments, _ = await said(session.speak("Hello."))
        decoder = Decoder(coded.init, "h264")
        for segment in (3, 1, 2):  # in any order, each by itself
            packets = coded.pictures(segment)
            context = av.CodecContext.create("h264", "r")
            frames = [frame for packet in packets for frame in context.decode(av.Packet(packet.data))] + context.decode(None)
            assert [packet.number for packet in packets] == list(range(8 * segment, 8 * segment + 8)) and len(frames) == 8
            assert (packets[0].width, packets[0].height) == (512, 512)
            wanted = [picture.data for picture in plain.pictures(segment)]
            assert all(difference(frame.to_ndarray().tobytes(), other) < 1 for frame, other in zip(frames, wanted, strict=True))
        spoken = [picture for fragment in fragments for picture in decoder.decode_fragment(fragment)]
        context = av.CodecContext.create("h264", "r")
        frames = [frame for packet in spoken for frame in context.decode(av.Packet(packet.data))] + context.decode(None)
        assert len(frames) == len(spoken)


def difference(one: bytes, other: bytes) -> float:
    luma = 512 * 512
    return float(np.abs(np.frombuffer(one, np.uint8)[:luma].astype(np.int16) - np.frombuffer(other, np.uint8)[:luma]).mean())


async def test_sound_as_it_is_made(client: Client) -> None:
    sound = await pcm(client)
    async with client.session() as session:
        utterance = session.speak(pcm=RATE)
        for at in range(0, len(sound), 4_801):  # also in the middle of samples
            utterance.write(sound[at : at + 4_801])
        utterance.end()
        fragments, end = await said(utterance)
        assert isinstance(end, Finished) and contiguous(fragments, end.frames)
        assert end.sound_ms == pytest.approx(utterance.sound_ms, abs=1) and end.frames * 40 >= utterance.sound_ms
        assert utterance.sound_at(25) == 1_000


async def test_an_interruption_is_the_last_that_comes(client: Client) -> None:
    sound = await pcm(client)
    async with client.session() as session:
        utterance = session.speak(pcm=RATE)
        utterance.write(sound)

        def stop(fragments: list[Fragment]) -> None:
            if len(fragments) == 3:
                utterance.played(9)
                utterance.interrupt()

        fragments, end = await said(utterance, stop)
        assert isinstance(end, Interrupted) and (end.played_ms, end.played_told) == (360, True) and len(fragments) == 3
        again = session.speak("Hello.")  # its sound had no end, and nothing waits for that
        assert isinstance((await said(again))[1], Finished)


async def broken(session: Session, line: Line, utterance: Utterance) -> tuple[list[Fragment], Finished | Interrupted]:
    """Said, with the line cut after three fragments."""
    return await said(utterance, lambda fragments: line.cut() if len(fragments) == 3 else None)


async def test_a_lost_line_loses_nothing(url: str) -> None:
    notices: list[Notice] = []
    async with Line(url) as line, Client(line.url) as client, client.session(on_notice=notices.append) as session:
        fragments, end = await broken(session, line, session.speak(LONG))
        assert isinstance(end, Finished) and contiguous(fragments, end.frames)
        assert sum(fragment.n_frames for fragment in fragments) == end.frames, "none came twice"
        assert [notice.what for notice in notices] == ["lost", "resumed"]


async def test_text_that_comes_in_pieces_over_a_line_that_breaks(url: str) -> None:
    words = LONG.split(" ")
    async with Line(url) as line, Client(line.url) as client, client.session() as session:
        utterance = session.speak(deltas=True)
        saying = asyncio.create_task(said(utterance))
        for i, word in enumerate(words):
            utterance.write(word + " ")
            if i in (2, 11):
                line.cut()
            await asyncio.sleep(0.05)
        utterance.end()
        fragments, end = await saying
        whole, as_one = await said(session.speak(LONG + " "))
        assert isinstance(end, Finished) and isinstance(as_one, Finished) and contiguous(fragments, end.frames)
        assert abs(end.frames - as_one.frames) < 75, "every word was said, and none twice"


@pytest.mark.parametrize("source", ["text", "pcm"])
async def test_another_session_goes_on_where_one_was_lost(url: str, source: str) -> None:
    notices: list[Notice] = []
    async with Line(url) as line, Client(line.url) as client, client.session(on_notice=notices.append) as session:
        sound = await pcm(client) if source == "pcm" else b""
        utterance = session.speak(pcm=RATE) if source == "pcm" else session.speak(LONG)
        if source == "pcm":
            utterance.write(sound)
            utterance.end()

        def forget(fragments: list[Fragment]) -> None:
            if len(fragments) == 3:
                known = session._connection._session
                assert known is not None
                session._connection._session = replace(known, session="s_0000000000000000")  # as if the service had been started anew
                line.cut()

        fragments, end = await said(utterance, forget)
        assert isinstance(end, Finished) and contiguous(fragments, end.frames)
        assert "restarted" in [notice.what for notice in notices]
        if source == "pcm":
            assert end.sound_ms == pytest.approx(utterance.sound_ms, abs=41) and 0 <= end.frames * 40 - utterance.sound_ms < 640


async def test_sound_that_was_on_its_way_is_sent_again(url: str) -> None:
    parts: list[Part] = []
    async with Line(url) as line, Client(line.url) as client, client.session() as session:
        sound = await pcm(client)
        utterance = session.speak(pcm=RATE)
        utterance.write(sound[: len(sound) // 2])
        fragments: list[Fragment] = []
        async for event in utterance:
            if isinstance(event, Part):
                parts.append(event)
            if isinstance(event, Fragment):
                fragments.append(event)
                if len(fragments) == 2:
                    line.down = True
                    line.cut()
                    utterance.write(sound[len(sound) // 2 :])
                    utterance.end()
                    line.down = False
            if isinstance(event, Finished):
                assert contiguous(fragments, event.frames) and event.sound_ms == pytest.approx(utterance.sound_ms, abs=41)
        assert [part.sound_ms for part in parts] == [40 * part.first_frame for part in parts] and len(parts) == 2 and parts[1].first_frame >= 8


@pytest.mark.parametrize("source", ["text", "pcm"])
async def test_a_session_that_is_told_to_move_goes_on_elsewhere(api: Api, source: str) -> None:
    """Elsewhere is the same process here; what is left of the first session is not used."""
    if api.stdin is None:
        pytest.skip("the service that MUSESERVE_URL names is not told to move")
    notices: list[Notice] = []
    async with Client(api.url) as client, client.session(on_notice=notices.append) as session:
        sound = await pcm(client) if source == "pcm" else b""
        before = session.ready.session
        utterance = session.speak(pcm=RATE) if source == "pcm" else session.speak(LONG)
        utterance.write(sound[: len(sound) // 2]) if source == "pcm" else None

        def move(fragments: list[Fragment]) -> None:
            if len(fragments) == 3:
                api.move()
            if len(fragments) == 5 and source == "pcm":
                utterance.write(sound[len(sound) // 2 :])
                utterance.end()

        fragments, end = await said(utterance, move)
        assert isinstance(end, Finished) and contiguous(fragments, end.frames)
        for _ in range(400):
            if len(notices) == 2:
                break
            await asyncio.sleep(0.05)
        assert session.ready.session != before and [notice.what for notice in notices] == ["moving", "moved"]
        assert isinstance((await said(session.speak("Go on.")))[1], Finished)
        if source == "pcm":
            assert end.sound_ms == pytest.approx(utterance.sound_ms, abs=41)
