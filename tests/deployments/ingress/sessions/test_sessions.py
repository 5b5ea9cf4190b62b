"""Live conversations over real WebSockets against the real graph."""

from __future__ import annotations

import asyncio
import json
import struct
import unicodedata

import av
import httpx
import numpy as np
import pytest

from deployments.ingress.sessions.protocol import FrameFlag
from museserve.timebase import FPS, SEGMENT_FRAMES
from tests import decoded
from tests.conftest import Service
from tests.live import Came, Live, soon

pytestmark = pytest.mark.serve

QUESTION = "Tell me about a project you are proud of."
LONG = "I would like you to walk me through a system that you designed, from the first sketch to production. " * 3


def idle(service: Service, live: Live) -> tuple[dict[str, object], bytes, list[bytes]]:
    """Index, init segment and segments of the loop that `ready` names."""
    body = httpx.get(service.url + live.ready["idle"]["url"]).content
    (length,) = struct.unpack_from(">I", body)
    index = json.loads(body[4 : 4 + length])
    at, parts = 4 + length, []
    first, *others = index["segments"]
    for size in (index["init"], first, *index["steady"], *others):
        parts.append(body[at : at + size])
        at += size
    del parts[2 : 2 + len(index["steady"])]
    assert at + sum(sum(one["segments"]) for made in index["gestures"].values() for one in made) == len(body)
    return index, parts[0], parts[1:]


def contiguous(fragments: list[Came], first: int = 0) -> int:
    """Check that frames follow each other; returns the frame after the last."""
    for came in fragments:
        assert came.header is not None and came.header.first_frame == first, [c.header for c in fragments]
        first += came.header.n_frames
    return first


def nothing_left(service: Service) -> bool:
    health = service.health()
    return health["live_sessions"] == health["live_utterances"] == 0


def pictures(init: bytes, fragments: list[Came]) -> list[av.VideoFrame]:
    return decoded.frames(init + b"".join(c.data for c in fragments))


async def test_text_is_spoken_on_the_idle_frames_that_the_client_named(service: Service) -> None:
    async with Live(service.url, avatar="woman") as live:
        await live.answer("ready")
        await live.send(type="speak", id="q1", text=QUESTION, phase=90)
        done = await live.answer("finished")
        queued, started = live.of("queued")[0], live.of("started")[0]
        assert (queued["id"], queued["n"], queued["ahead"]) == ("q1", 1, 0)
        assert (started["phase"], started["grid"], started["first_frame"]) == (90, 88, 0)
        fragments = live.fragments(1)
        assert contiguous(fragments) == done["frames"] and done["frames"] % SEGMENT_FRAMES == 0
        headers = [c.header for c in fragments if c.header]
        assert [h.n_frames for h in headers[:3]] == [2, 6, 8]
        assert headers[0].flags == FrameFlag.STARTS | FrameFlag.KEY and headers[-1].flags & ~FrameFlag.KEY == FrameFlag.ENDS
        assert all(h.phase == (88 + h.first_frame) % 256 for h in headers[2:]) and headers[0].phase == 90
        assert done["phase"] == (88 + done["frames"]) % 256
        numbered = [c.seq for c in live.came if c.seq]
        assert numbered == list(range(1, len(numbered) + 1))

        index, init, segments = idle(service, live)
        assert index["codecs"] == live.ready["media"]["codecs"] and len(segments) == live.ready["idle"]["segments"]
        spoken = pictures(init, fragments)
        assert decoded.numbers(spoken) == list(range(done["frames"]))
        # The corner of the picture is background: it must be the idle frame that the header names, to the coding error.
        for frame in (12, done["frames"] - 3):
            number = (88 + frame) % 256
            expected = decoded.frames(init + segments[number // 8])[number % 8]
            corner = (spoken[frame].to_ndarray(format="gray")[:80, :80].astype(int), expected.to_ndarray(format="gray")[:80, :80].astype(int))
            assert np.abs(corner[0] - corner[1]).mean() < 1.5


async def test_captions_come_no_later_than_their_sound(service: Service) -> None:
    async with Live(service.url) as live:
        await live.send(type="speak", id="a", text=f"{QUESTION} What was hard about it?")
        await live.answer("finished")
        heard = 0
        seen: list[str] = []
        shown: list[dict[str, object]] = []
        known_ms = -1
        for came in live.came:
            if came.type == "words":
                seen += [w["text"] for w in came.json["words"]]
                known_ms = max([known_ms, *(w["end_ms"] for w in came.json["words"])])
                shown[came.json["first_cue"] :] = came.json["cues"]
            elif came.header is not None:
                starts = [w["start_ms"] for m in live.of("words") for w in m["words"]]
                heard = (came.header.first_frame + came.header.n_frames) * 1000 // FPS
                assert not [ms for ms in starts if known_ms < ms < heard - 40], (heard, known_ms)
        assert " ".join(seen) == f"{QUESTION} What was hard about it?"
        assert " ".join(line for cue in shown for line in cue["lines"]) == " ".join(seen)  # type: ignore[attr-defined]
        assert live.of("words")[-1]["final"]


async def test_captions_can_be_left_out(service: Service) -> None:
    async with Live(service.url, captions="false") as live:
        await live.send(type="speak", text="Hello there.")
        await live.answer("finished")
        assert not live.of("words")


async def test_utterances_queue_and_join_without_a_gap(service: Service) -> None:
    async with Live(service.url) as live:
        for name in ("a", "b", "c"):
            await live.send(type="speak", id=name, text=f"This is number {name}.", phase=16)
        await live.answer("finished", "c")
        assert [m["id"] for m in live.of("started")] == ["a", "b", "c"] == [m["id"] for m in live.of("finished")]
        assert [m["ahead"] for m in live.of("queued")] == [0, 1, 2]
        for one, following in zip(live.of("finished"), live.of("started")[1:], strict=False):
            assert following["phase"] == one["phase"]
        # Never more than the lead ahead of a viewer, however short the utterances are.
        frames = [c for c in live.came if c.header]
        assert frames[-1].at - frames[0].at > sum(c.header.n_frames for c in frames if c.header) / FPS - 2.6


async def test_deltas_are_spoken_as_their_sentences_end(service: Service) -> None:
    text = unicodedata.normalize("NFD", "안녕하세요. 만나서 반가워요. ") + "That is an emoji: \U0001f600 and done"
    units = text.encode("utf-16-le")
    async with Live(service.url) as live:
        await live.send(type="speak", id="llm", deltas=True, phase=40)
        halves = [units[i : i + 2].decode("utf-16-le", "surrogatepass") for i in range(0, len(units), 2)]
        for delta in halves:
            await live.socket.send(json.dumps({"type": "text", "id": "llm", "delta": delta}))
            await asyncio.sleep(0.012)
        await live.until(lambda: live.fragments(1))
        assert not live.of("finished")
        await live.send(type="text", id="llm", final=True)
        done = await live.answer("finished", "llm")
        assert contiguous(live.fragments(1)) == done["frames"]
        said = " ".join(w["text"] for m in live.of("words") for w in m["words"])
        assert said.startswith("안녕하세요. 만나서 반가워요. That is an emoji") and said.endswith("and done")
        assert len(live.of("accepted")) == len(halves) + 1 and not live.of("error")
        # On one timeline: frames are numbered and decoded without a break, whichever call made them.
        _, init, _ = idle(service, live)
        shown = pictures(init, live.fragments(1))
        assert decoded.numbers(shown) == list(range(done["frames"]))


async def test_an_utterance_without_text_waits_and_joins_again_where_it_is_told(service: Service) -> None:
    async with Live(service.url) as live:
        await live.send(type="speak", id="a", deltas=True)
        await live.send(type="text", id="a", delta="Well, let me think", flush=True)
        waiting = await live.answer("waiting")
        assert waiting["frames"] == contiguous(live.fragments(1))
        await asyncio.sleep(0.3)
        await live.send(type="text", id="a", delta=" about that.", final=True, phase=133)
        done = await live.answer("finished")
        first, again = live.of("started")
        assert first["first_frame"] == 0 and again["first_frame"] == waiting["frames"]
        assert again["phase"] == 133 and (again["grid"] + waiting["frames"]) % 256 == 136
        assert contiguous(live.fragments(1)) == done["frames"] and done["phase"] == (again["grid"] + done["frames"]) % 256
        starts = [w["start_ms"] for m in live.of("words") for w in m["words"]]
        assert starts == sorted(starts) and starts[-1] > waiting["frames"] * 40


async def test_recorded_speech_is_spoken(service: Service, client: httpx.Client) -> None:
    audio = (await asyncio.to_thread(lambda: client.post("/v1/audio/speech", json={"input": QUESTION, "response_format": "mp3"}))).content
    async with Live(service.url, avatar="man") as live:
        await live.send(type="speak", id="r", audio=True, phase=8)
        for at in range(0, len(audio), 4000):
            await live.socket.send(audio[at : at + 4000])
        await live.send(type="audio_end", id="r")
        await live.answer("finished")
        assert live.of("started")[0]["speech_engine"] == "upload" and contiguous(live.fragments(1)) > 2 * FPS
        await live.send(type="speak", id="bad", audio=True)
        await live.socket.send(b"this is no sound at all" * 100)
        await live.send(type="audio_end", id="bad")
        assert (await live.answer("error", "bad"))["code"] == "bad_audio"
        assert (await live.answer("interrupted", "bad"))["by"] == "error"
        await live.send(type="speak", id="after", text="Still here.")
        await live.answer("finished", "after")


async def test_every_message_is_answered(service: Service) -> None:
    async with Live(service.url) as live:
        await live.answer("ready")
        await live.send(type="ping", t=12.5)
        assert (await live.answer("pong"))["t"] == 12.5
        await live.send(type="state", state="thinking")
        assert (await live.answer("accepted"))["what"] == "state"
        await live.send(type="stats", first_frame_ms=[123.0], dry_outs=1, painted_frames=500)
        assert (await live.answer("accepted", count=2))["what"] == "stats"
        await live.send(type="interrupt")
        assert (await live.answer("nothing_to_interrupt"))["reason"] == "nothing_queued"
        await live.send(type="interrupt", id="never")
        assert (await live.answer("nothing_to_interrupt", "never"))["reason"] == "unknown"
        await live.send(type="speak", id="x", text="Hi.")
        await live.answer("finished", "x")
        await live.send(type="interrupt", id="x")
        assert (await live.answer("nothing_to_interrupt", "x"))["reason"] == "finished"
        await live.send(type="end")
        assert await live.closed() == 1000
    await soon(lambda: nothing_left(service))


async def test_twenty_interruptions_each_leave_the_server_idle(service: Service) -> None:
    async with Live(service.url) as live:
        for round in range(20):
            name, n = f"r{round}", round + 1
            await live.send(type="speak", id=name, text=LONG)
            await live.until(lambda n=n: live.fragments(n))  # type: ignore[misc]
            await asyncio.sleep(0.02 * (round % 7))
            await live.send(type="interrupt")
            stopped = await live.answer("interrupted", name)
            assert stopped["frames"] == contiguous(live.fragments(n))
        await soon(lambda: not service.health()["live_utterances"], 5.0)
        cut = {m["n"]: live.came.index(next(c for c in live.came if c.json is m)) for m in live.of("interrupted")}
        assert not [c for i, c in enumerate(live.came) if c.header and i > cut[c.header.n]]
        await live.send(type="speak", id="next", text="And now something else.")
        await live.answer("finished", "next")


async def test_an_interruption_reaches_what_draws_and_encodes(service: Service) -> None:
    async with Live(service.url) as live:
        await live.send(type="speak", text=LONG)
        await live.until(lambda: live.fragments(1))
        await live.send(type="interrupt")
        await live.answer("interrupted")
        await asyncio.sleep(0.3)
        workers = service.replicas("LipSync") + service.replicas("Mux") + service.replicas("TTS")
        before = sum(sum(w.cpu_times()[:2]) for w in workers)
        await asyncio.sleep(2)
        assert sum(sum(w.cpu_times()[:2]) for w in workers) - before < 0.4  # Ray's own heartbeat


async def test_barge_in_and_a_new_utterance_in_one_message(service: Service) -> None:
    async with Live(service.url) as live:
        await live.send(type="speak", id="a", text=LONG)
        await live.send(type="speak", id="b", text=LONG)
        await live.until(lambda: len(live.fragments(1)) > 3)
        await live.send(type="speak", id="c", text="Sorry, go ahead.", interrupt=True, phase=64)
        await live.answer("finished", "c")
        assert [m["id"] for m in live.of("interrupted")] == ["a", "b"] and live.of("interrupted")[1]["frames"] == 0
        assert live.of("started", "c")[0]["phase"] == 64 and not live.fragments(2)


async def test_one_queued_utterance_can_be_taken_out(service: Service) -> None:
    async with Live(service.url) as live:
        for name in ("a", "b", "c"):
            await live.send(type="speak", id=name, text=f"This is {name}.")
        await live.send(type="interrupt", id="b")
        await live.answer("finished", "c")
        assert [m["id"] for m in live.of("finished")] == ["a", "c"] and live.of("interrupted")[0]["id"] == "b"


async def test_a_lost_connection_is_resumed_without_a_repeated_or_lost_message(service: Service) -> None:
    async with Live(service.url, acks=False) as live:
        await live.send(type="speak", id="a", text=LONG, phase=0)
        await live.until(lambda: len(live.fragments(1)) >= 4)
        await live.send(type="ack", seq=live.last_seq - 1)
        await asyncio.sleep(0.2)
        live.cut()
        kept = list(live.came)
    await asyncio.sleep(1.0)
    ready = live.ready
    query = {"session": ready["session"], "token": ready["token"], "seq": max(c.seq for c in kept)}
    async with Live(service.url, **query) as again:
        first = await again.answer("ready")
        assert first["resumed"] and first["queue"] == ["a"] and first["session"] == ready["session"]
        await again.answer("finished", "a")
        numbered = [c.seq for c in (*kept, *again.came) if c.seq]
        assert numbered == list(range(1, len(numbered) + 1))
        whole = [c for c in (*kept, *again.came) if c.header]
        assert contiguous(whole) == again.of("finished")[0]["frames"]
        await again.send(type="end")
        assert await again.closed() == 1000


async def test_the_later_of_two_connections_has_the_session(service: Service) -> None:
    async with Live(service.url, acks=False) as one:  # what it acknowledges could not be asked for again
        await one.answer("ready")
        query = {"session": one.ready["session"], "token": one.ready["token"]}
        await one.send(type="speak", id="a", text=LONG)
        await one.until(lambda: len(one.fragments(1)) >= 3)
        async with Live(service.url, **query, seq=one.last_seq) as two:
            assert await one.closed() == 4006
            await two.answer("ready")
            missed = sorted({c.seq for c in one.came} | {c.seq for c in two.came if c.seq})
            assert missed == list(range(1, len(missed) + 1))
            await two.send(type="interrupt")
            await two.answer("interrupted", "a")
            async with Live(service.url, session=query["session"], token="wrong", seq=1) as three:
                assert await three.closed() == 4005
            await two.send(type="ping")
            await two.answer("pong")
            await two.send(type="end")
            assert await two.closed() == 1000
        async with Live(service.url, **query, seq=1) as late:
            assert await late.closed() == 4004
            assert late.of("error")[0]["code"] == "unknown_session"


async def test_a_session_that_is_not_resumable_ends_with_its_connection(service: Service) -> None:
    async with Live(service.url, resumable="false", acks=False) as live:
        await live.send(type="speak", text=LONG)
        await live.until(lambda: live.fragments(1))
        live.cut()
    await soon(lambda: nothing_left(service))
