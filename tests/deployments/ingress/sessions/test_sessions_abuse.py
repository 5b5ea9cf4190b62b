"""What a careless or hostile client may do to a live conversation: each message gets an answer or a close code, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.conftest import Service
from tests.live import Live, soon

pytestmark = pytest.mark.serve

LONG = "I would like you to walk me through a system that you designed, from the first sketch to production. " * 3


@pytest.mark.parametrize(
    ("message", "code", "said"),
    [
        ("{not json", "bad_request", "not JSON"),
        ("[" * 50_000, "bad_request", "not JSON"),
        ("[]", "bad_request", "dictionary"),
        ('"speak"', "bad_request", "dictionary"),
        ('{"type":"dance"}', "bad_request", "does not match"),
        ('{"no":"type"}', "bad_request", "Unable to extract tag"),
        ('{"type":"start"}', "bad_request", "does not match"),
        ('{"type":"speak"}', "bad_request", "exactly one of text, deltas, audio and pcm"),
        ('{"type":"speak","text":"a","deltas":true}', "bad_request", "exactly one"),
        ('{"type":"speak","text":7}', "bad_request", "a string is wanted"),
        ('{"type":"speak","text":"Hi.","colour":"red"}', "bad_request", "colour: Extra inputs"),
        ('{"type":"speak","text":"  ...  "}', "bad_text", "nothing to speak"),
        ('{"type":"speak","text":"\\ud83d"}', "bad_text", "empty"),
        ('{"type":"speak","text":"Hi.","voice":"nobody"}', "unknown_voice", "nobody"),
        ('{"type":"speak","text":"Hi.","language":"klingon!"}', "unknown_language", "klingon"),
        ('{"type":"speak","text":"Hi.","speed":9}', "bad_request", "speed"),
        ('{"type":"speak","text":"Hi.","phase":-1}', "bad_request", "phase"),
        ('{"type":"speak","text":"Hi.","id":"with space"}', "bad_request", "id"),
        ('{"type":"text","id":"unknown","delta":"x"}', "out_of_place", "no utterance"),
        ('{"type":"audio_end","id":"unknown"}', "out_of_place", "no recording"),
        ('{"type":"ack","seq":99999}', "out_of_place", "never sent"),
        ('{"type":"state","state":"dancing"}', "bad_request", "listening"),
        ('{"type":"ping","t":NaN}', "bad_request", "NaN"),
        ('{"type":"stats","dry_outs":-1}', "bad_request", "dry_outs"),
        (b"binary out of place", "out_of_place", "no recording or sound was announced"),
        (b"", "out_of_place", "no recording or sound was announced"),
        (json.dumps({"type": "speak", "text": "word " * 200_000}), "bad_text", "accepted"),
    ],
)
async def test_what_is_wrong_is_told_and_the_session_goes_on(service: Service, message: str | bytes, code: str, said: str) -> None:
    async with Live(service.url) as live:
        await live.answer("ready")
        await live.socket.send(message)
        error = await live.answer("error")
        assert error["code"] == code and said in error["message"] and "closing" not in error
        await live.send(type="ping", t=1)
        await live.answer("pong")
        await live.send(type="end")
        assert await live.closed() == 1000


@pytest.mark.parametrize(
    ("first", "close", "code"),
    [
        ("{not json", 4000, "bad_request"),
        ('{"type":"speak","text":"Hi."}', 4000, "bad_request"),
        ('{"type":"start","avatar":"nobody"}', 4000, "unknown_avatar"),
        ('{"type":"start","voice":"nobody"}', 4000, "unknown_voice"),
        ('{"type":"start","surprise":1}', 4000, "bad_request"),
        (b"\x00\x01", 4000, "bad_request"),
        ('{"type":"resume","session":"s_none","token":"x","seq":0}', 4004, "unknown_session"),
        ("x" * (2**20 + 1), 1009, "bad_start"),
    ],
)
async def test_a_bad_beginning_is_told_and_closed(service: Service, first: str | bytes, close: int, code: str) -> None:
    async with Live(service.url, bare=True) as live:
        await live.socket.send(first)
        assert await live.closed() == close
        error = live.of("error")[0]
        assert error["code"] == code and error["closing"] == close


async def test_bad_query_parameters_are_told_and_closed(service: Service) -> None:
    async with Live(service.url, avatar="man", speed="fast") as live:
        assert await live.closed() == 4000
        assert "speed" in live.of("error")[0]["message"]


async def test_a_message_that_is_too_long_ends_the_session(service: Service) -> None:
    async with Live(service.url) as live:
        await live.answer("ready")
        await live.socket.send("x" * (2**20 + 1))
        assert await live.closed() == 1009
        assert live.of("error")[0]["closing"] == 1009
    await soon(lambda: not service.health()["live_sessions"])


async def test_a_thousand_utterances_in_a_second_are_each_answered(service: Service) -> None:
    async with Live(service.url) as live:
        await live.answer("ready")
        for i in range(1_000):
            await live.send(type="speak", id=f"u{i}", text="Hi.")
        await live.until(lambda: len(live.of("queued")) + len(live.of("error")) >= 1_000, 30)
        codes = [error["code"] for error in live.of("error")]
        assert set(codes) <= {"queue_full", "too_fast"} and len(live.of("queued")) >= 16
        assert all(error["retry_after_s"] for error in live.of("error"))
        await asyncio.sleep(1.1)
        await live.send(type="interrupt")
        await live.answer("interrupted")
        await live.send(type="speak", id="calm", text="Calm again.", interrupt=True)
        await live.answer("finished", "calm")


async def test_an_id_cannot_be_used_twice(service: Service) -> None:
    async with Live(service.url) as live:
        await live.send(type="speak", id="a", text="Hi.")
        await live.send(type="speak", id="a", text="Ho.")
        assert (await live.answer("error", "a"))["code"] == "conflict"
        await live.answer("finished", "a")
        await live.send(type="speak", id="a", text="Ho.")
        await live.answer("error", "a", count=2)


async def test_a_refused_recording_is_told_once(service: Service) -> None:
    async with Live(service.url) as live:
        await live.answer("ready")
        await live.send(type="speak", id="big", audio=True)
        await live.send(type="speak", id="second", audio=True)
        assert (await live.answer("error", "second"))["code"] == "out_of_place"
        await live.send(type="interrupt")
        await live.answer("interrupted", "big")
        for _ in range(20):
            await live.socket.send(bytes(1_000))
        await live.send(type="audio_end", id="big")
        await live.answer("error", "big")
        assert len(live.of("error")) == 2
        await live.send(type="speak", id="huge", audio=True)
        await live.answer("queued", "huge")
        for _ in range(10):
            await live.socket.send(bytes(900_000))
        assert (await live.answer("error", "huge"))["code"] == "payload_too_large"
        assert (await live.answer("interrupted", "huge"))["by"] == "error"


async def test_an_empty_recording_is_an_error(service: Service) -> None:
    async with Live(service.url) as live:
        await live.send(type="speak", id="e", audio=True)
        await live.send(type="audio_end", id="e")
        assert (await live.answer("error", "e"))["code"] == "bad_audio"


async def test_text_after_the_end_of_a_text_is_refused(service: Service) -> None:
    async with Live(service.url) as live:
        await live.send(type="speak", id="a", deltas=True)
        await live.send(type="text", id="a", delta="Hello.", final=True)
        await live.send(type="text", id="a", delta="More.")
        assert (await live.answer("error", "a"))["code"] == "bad_text"
        await live.answer("finished", "a")
        await live.send(type="speak", id="b", deltas=True)
        await live.send(type="text", id="b", final=True)
        assert (await live.answer("finished", "b"))["frames"] == 0
        await live.send(type="speak", id="c", text="Hi.")
        await live.send(type="text", id="c", delta="x")
        assert "not announced with deltas" in (await live.answer("error", "c"))["message"]


@pytest.mark.slow
async def test_a_client_that_reads_nothing_is_told_and_cut_and_can_come_back(service: Service) -> None:
    """The window of the tests' service is small and its patience short."""
    async with Live(service.url, acks=False) as live:
        await live.send(type="speak", id="a", text=LONG)
        assert await live.closed(30) == 4007
        assert live.of("error")[-1]["code"] == "slow_client"
        ready, seq = live.ready, live.last_seq
    async with Live(service.url, session=ready["session"], token=ready["token"], seq=seq) as again:
        assert (await again.answer("ready"))["resumed"]
        await again.answer("finished", "a", seconds=40)
        seen = sorted(c.seq for c in (*live.came, *again.came) if c.seq)
        assert seen == list(range(1, len(seen) + 1))
        await again.send(type="end")


async def test_too_many_sessions_are_turned_away(service: Service) -> None:
    await soon(lambda: not service.health()["live_sessions"], 10)
    open_ones = [Live(service.url, resumable="false") for _ in range(24)]
    try:
        for live in open_ones:
            await live.__aenter__()
            await live.answer("ready")
        async with Live(service.url) as late:
            assert await late.closed() == 4013
            assert late.of("error")[0]["code"] == "busy" and late.of("error")[0]["retry_after_s"] > 0
    finally:
        for live in open_ones:
            await live.__aexit__(None, None, None)
    await soon(lambda: not service.health()["live_sessions"])


@pytest.mark.slow
async def test_twenty_conversations_in_turn_never_hear_each_other(service: Service) -> None:
    await soon(lambda: not service.health()["live_sessions"], 10)
    numbers = (
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty".split()
    )

    async def talk(i: int, word: str) -> None:
        avatar = "woman" if i % 2 else "man"
        async with Live(service.url, avatar=avatar, voice="nova") as live:
            await live.answer("ready")
            await asyncio.sleep(0.4 * i)
            await live.send(type="speak", id=word, text=f"Number {word} speaks.", phase=8 * i)
            await live.answer("finished", word, seconds=60)
            said = " ".join(w["text"] for m in live.of("words") for w in m["words"])
            assert said == f"Number {word} speaks." and live.ready["avatar"] == f"interviewer_{avatar}"
            assert {c.header.n for c in live.came if c.header} == {1} and live.of("started")[0]["phase"] == 8 * i

    began = time.monotonic()
    await asyncio.gather(*(talk(i, word) for i, word in enumerate(numbers)))
    assert time.monotonic() - began < 60
    await soon(lambda: not service.health()["live_sessions"])
