"""What a session had begun to speak goes on in another one, after what the client has of it: real sessions on the real graph."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import numpy as np
import pytest

from deployments.ingress.sessions.protocol import FrameFlag
from museserve.timebase import AAC_FRAME, FPS, OUTPUT_SAMPLES_PER_FRAME, SEGMENT_FRAMES
from tests import decoded
from tests.conftest import Service
from tests.deployments.ingress.sessions.test_sessions import LONG, QUESTION, contiguous, idle, nothing_left
from tests.live import Came, Live, soon

pytestmark = pytest.mark.serve

DELTAS = ("Well, that is a good answer. Tell ", "me more about it, please. And what ", "came after that?")  # each but the last ends a sentence


class Told:
    """What a client knows of the utterance "u" of a session: fragments, words and cues, as they replace one another."""

    def __init__(self, live: Live) -> None:
        self.fragments = live.fragments(live.of("queued", "u")[0]["n"])
        self.parts = [{key: part[key] for key in part if key not in ("type", "seq", "id", "n")} for part in live.of("part", "u")]
        self.words: list[str] = []
        self.starts: list[int] = []
        self.cues: list[str] = []
        self.hear(live)

    def hear(self, live: Live) -> None:
        for message in live.of("words", "u"):
            self.words[message["first_word"] :] = [word["text"] for word in message["words"]]
            self.starts[message["first_word"] :] = [word["start_ms"] for word in message["words"]]
            self.cues[message["first_cue"] :] = [" ".join(cue["lines"]) for cue in message["cues"]]

    def received(self, frames: int) -> dict[str, Any]:
        return {"frames": frames, "part": [part for part in self.parts if part["first_frame"] <= frames][-1]}

    def before(self, frames: int) -> list[Came]:
        return [came for came in self.fragments if came.header and came.header.first_frame < frames]


@pytest.fixture
def recording(client: httpx.Client) -> bytes:
    return client.post("/v1/audio/speech", json={"input": QUESTION, "response_format": "mp3"}).content


async def say(live: Live, kind: str, recording: bytes, **more: Any) -> None:
    """The utterance "u", in one of the ways to speak."""
    if kind == "text":
        await live.send(type="speak", id="u", text=QUESTION, **more)
    elif kind == "audio":
        await live.send(type="speak", id="u", audio=True, **more)
        await live.socket.send(recording)
        await live.send(type="audio_end", id="u")
    else:
        await live.send(type="speak", id="u", deltas=True, **more)
        begun = more["received"]["part"]["chars"][1] if "received" in more else 1
        sent = next(n for n in range(1, 4) if len("".join(DELTAS[:n])) >= begun)  # the text so far in one message ...
        await live.send(type="text", id="u", delta="".join(DELTAS[:sent]), final=sent == 3)
        for parts, delta in enumerate(DELTAS[sent:], 1):
            await live.answer("part", count=parts)  # ... and what follows as before: what is there is spoken in one go
            await live.send(type="text", id="u", delta=delta, final=delta is DELTAS[-1])


@pytest.mark.parametrize("kind", ["text", "deltas", "audio"])
async def test_an_utterance_goes_on_in_another_session_from_any_segment(service: Service, kind: str, recording: bytes) -> None:
    async with Live(service.url) as live:
        await say(live, kind, recording, phase=91)
        done = await live.answer("finished", "u")
        one, started = Told(live), live.of("started")[0]
        _, init, _ = idle(service, live)
    total = done["frames"]
    assert contiguous(one.fragments) == total and len(one.parts) == (3 if kind == "deltas" else 1)
    uncut = decoded.sound(init + b"".join(came.data for came in one.fragments))

    borders = [part["first_frame"] for part in one.parts[1:]]
    cuts = {
        SEGMENT_FRAMES,
        total // 16 * 8,
        total - SEGMENT_FRAMES,
        *borders,
        *(border - 8 for border in borders),
        *(border + 16 for border in borders),
    }
    for cut in sorted(cuts):
        async with Live(service.url) as live:
            await say(live, kind, recording, received=one.received(cut), phase=7)
            again = await live.answer("finished", "u")
            assert (again["frames"], again["phase"]) == (total, done["phase"]), cut
            on = live.of("started")[0]
            assert (on["first_frame"], on["grid"], on["phase"]) == (cut, started["grid"], (started["grid"] + cut) % 256), cut
            rest = live.fragments(1)
            assert contiguous(rest, cut) == total, cut
            head, tail = rest[0].header, rest[-1].header
            assert head and tail and head.flags & FrameFlag.STARTS and tail.flags & FrameFlag.ENDS
            two = Told(live)
            assert two.parts == [part for part in one.parts if part["first_frame"] >= one.received(cut)["part"]["first_frame"]], cut
            assert len(live.of("started")) == 1 + len(live.of("waiting"))  # the next delta may come when little of the part was left
            joined = Told(live)
            joined.words, joined.starts, joined.cues = list(one.words), list(one.starts), list(one.cues)
            joined.hear(live)
            assert (joined.words, joined.starts, joined.cues) == (one.words, one.starts, one.cues), cut
        film = init + b"".join(came.data for came in (*one.before(cut), *rest))
        assert decoded.numbers(decoded.frames(film)) == list(range(total)), cut
        heard = decoded.sound(film)
        assert len(heard) == len(uncut)
        assert not (heard - uncut)[: cut * OUTPUT_SAMPLES_PER_FRAME - AAC_FRAME].any()
        assert np.sqrt(np.mean((heard - uncut) ** 2) / np.mean(uncut**2)) < 0.06, cut  # the encoder's error, which lies elsewhere now
    await soon(lambda: nothing_left(service))


@pytest.mark.parametrize("kind", ["text", "deltas", "audio"])
async def test_what_was_received_whole_is_finished_at_once(service: Service, kind: str, recording: bytes) -> None:
    async with Live(service.url) as live:
        await say(live, kind, recording, phase=16)
        done = await live.answer("finished", "u")
        one = Told(live)
    async with Live(service.url) as live:
        await say(live, kind, recording, received=one.received(done["frames"]))
        await live.send(type="speak", id="next", text="Go on.")
        again = await live.answer("finished", "u")
        assert (again["frames"], again["phase"]) == (done["frames"], done["phase"])
        await live.answer("finished", "next")
        assert not live.fragments(1) and not live.of("started", "u") and contiguous(live.fragments(2)) > 0


async def test_a_text_that_waits_waits_on_in_the_other_session(service: Service) -> None:
    async with Live(service.url) as live:
        await live.send(type="speak", id="u", deltas=True, phase=8)
        await live.send(type="text", id="u", delta="Well, let me think", flush=True)
        waiting = await live.answer("waiting")
        one = Told(live)
    async with Live(service.url) as live:
        await live.send(type="speak", id="u", deltas=True, phase=90, received=one.received(waiting["frames"]))
        await asyncio.sleep(0.5)
        assert not live.of("waiting"), "it cannot wait for more before it knows what there was"
        await live.send(type="text", id="u", delta="Well, let me think")
        again = await live.answer("waiting")
        assert (again["frames"], again["phase"]) == (waiting["frames"], waiting["phase"])
        await live.send(type="text", id="u", delta=" about that.", final=True, phase=133)
        done = await live.answer("finished")
        assert [(m["first_frame"], m["phase"]) for m in live.of("started")] == [(waiting["frames"], 133)]
        assert contiguous(live.fragments(1), waiting["frames"]) == done["frames"]
    async with Live(service.url) as live:  # the text was ready when the session began: it joins where the client says
        await live.send(type="speak", id="u", deltas=True, phase=90, received=one.received(waiting["frames"]))
        await live.send(type="text", id="u", delta="Well, let me think about that.", final=True)
        await live.answer("finished")
        assert [(m["first_frame"], m["phase"]) for m in live.of("started")] == [(waiting["frames"], 90)]


async def test_an_interruption_counts_what_both_sessions_sent(service: Service) -> None:
    async with Live(service.url) as live:
        await live.send(type="speak", id="u", text=LONG, phase=0)
        await live.until(lambda: len(live.fragments(1)) >= 6)
        one = Told(live)
    async with Live(service.url) as live:
        await live.send(type="speak", id="u", text=LONG, received=one.received(24))
        await live.until(lambda: len(live.fragments(1)) >= 3)
        await live.send(type="interrupt")
        stopped = await live.answer("interrupted", "u")
        assert stopped["frames"] == contiguous(live.fragments(1), 24)


PART = {"first_frame": 0, "phase": 8, "chars": [0, 3], "first_word": 0, "first_cue": 0}


@pytest.mark.parametrize(
    ("speak", "received", "said"),
    [
        ({"text": "Hi."}, {"frames": 9, "part": PART}, "multiple of 8"),
        ({"text": "Hi."}, {"frames": -8, "part": PART}, "greater than or equal to 0"),
        ({"text": "Hi."}, {"frames": 8}, "received.part: Field required"),
        ({"text": "Hi."}, {"frames": 8, "part": {**PART, "extra": 1}}, "Extra inputs"),
        ({"text": "Hi."}, {"frames": 8, "part": {**PART, "first_frame": 16}}, "behind the 8 frames"),
        ({"text": "Hi."}, {"frames": 8, "part": {**PART, "chars": [3, 3]}}, "chars are from and to"),
        ({"text": "Hi."}, {"frames": 8, "part": {**PART, "chars": [0, 2]}}, "a text of 3 characters has one part"),
        ({"text": "Hi."}, {"frames": 8, "part": {**PART, "chars": None}}, "a text of 3 characters has one part"),
        ({"text": "Hi."}, {"frames": 16, "part": {**PART, "first_frame": 8}}, "from frame 0"),
        ({"text": "Hi."}, {"frames": 8_000_000, "part": PART}, "no text or recording has more than"),
        ({"audio": True}, {"frames": 8, "part": PART}, "a recording has one part, without chars"),
        ({"deltas": True}, {"frames": 8, "part": {**PART, "chars": None}}, "of a recording, and this is text"),
        ({"deltas": True}, {"frames": 8, "part": {**PART, "chars": [0, 9_999_999]}}, "accepted: "),
    ],
)
async def test_what_cannot_have_been_received_is_refused(service: Service, speak: dict[str, Any], received: dict[str, Any], said: str) -> None:
    async with Live(service.url) as live:
        await live.send(type="speak", id="u", **speak, received=received)
        error = await live.answer("error")
        assert said in error["message"] and not live.of("queued")
        await live.send(type="speak", id="after", text="Hi.")
        await live.answer("finished", "after")


async def test_what_was_received_of_another_text_is_told_where_it_shows(service: Service) -> None:
    async with Live(service.url) as live:
        await live.send(type="speak", id="u", text="Hi.", received={"frames": 40 * FPS, "part": PART})
        assert (await live.answer("finished", "u"))["frames"] == 40 * FPS
        await live.send(type="speak", id="short", deltas=True, received={"frames": 8, "part": {**PART, "chars": [0, 30]}})
        await live.send(type="text", id="short", delta="Too short.", final=True)
        assert "the text ends after 10 characters" in (await live.answer("error", "short"))["message"]
        await live.send(type="interrupt", id="short")
        await live.send(type="speak", id="signs", deltas=True, received={"frames": 8, "part": {**PART, "chars": [0, 3]}})
        await live.send(type="text", id="signs", delta="... and then", final=True)
        assert "nothing to speak" in (await live.answer("error", "signs"))["message"]
