"""Clients of a cluster, and what they see when something happens to it.

Viewers of HTTP streams and talkers in live sessions play what they get in real time and know when each fragment is
due; probes ask for a short video again and again. All of them write down when what came, by one clock, so that the
time of an event can be laid beside it.
"""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, count, pairwise, repeat
from typing import Any

from websockets.exceptions import ConnectionClosed, WebSocketException

from benchmarks.viewer import SEGMENT_S, Viewing, watch
from deployments.ingress.sessions.protocol import RESUMABLE
from museserve.timebase import FPS, SEGMENT_FRAMES
from tests.live import Came, Live

VOICE = "espeak-f"  # takes hardly any processor
TWENTY_SECONDS = (
    "Thank you for joining today. I would like you to walk me through a system that you designed, from the first sketch "
    "to production, and to tell me which decision you would make differently now. Then we will talk about the people "
    "you built it with, what they would say about you, and how you found out that it was worth the effort."
)
PROBE = "Are you there?"
PROBE_EVERY_S = 1.0
SOON_S = 1.0  # a first fragment that takes longer is a wait that people notice
STEPS_S = (0.08, 0.24, 0.32)  # lengths of fragments
HEARTBEAT_S, PONG_S = 5.0, 4.0  # as the player's
GIVEN_UP_S = 30.0  # a stream over which nothing comes for so long
PATIENCE_S = 60.0  # after which a talker gives up


class Addresses:
    """Those of a service, taken in turn, as a load balancer does."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls, self._turn = list(urls), count()

    def next(self) -> str:
        return self._urls[next(self._turn) % len(self._urls)]

    def leave(self, url: str) -> None:
        """Nobody is sent there any more."""
        self._urls.remove(url)


@dataclass
class Watched:
    """A stream. began: on the clock of `time.perf_counter`; end: whole, cut, no room (503),
    or refused (nothing came at all)."""

    url: str
    began: float
    viewing: Viewing = field(default_factory=Viewing)
    end: str = ""
    why: str = ""

    @property
    def arrivals(self) -> list[tuple[float, float]]:
        """(when, media time) of each fragment."""
        return [(self.began + at, media) for at, media in self.viewing.fragments]

    @property
    def first_s(self) -> float | None:
        return self.viewing.first_s if self.viewing.fragments else None

    def jumps(self) -> int:
        """How often a fragment does not follow the one before it: frames are missing, or came twice."""
        steps = [after - before for (_, before), (_, after) in pairwise(self.arrivals)]
        return sum(min(abs(step - known) for known in STEPS_S) > 1e-3 for step in steps)


@dataclass
class Talk:
    """An utterance of a session. arrivals: (when, first frame, frames) of each fragment; frames: as `finished` says.

    said_again: it was begun from its start once more, because its session was lost.
    """

    name: str
    text: str
    arrivals: list[tuple[float, int, int]] = field(default_factory=list)
    frames: int = -1
    said_again: int = 0
    part: dict[str, Any] = field(default_factory=dict)
    n: int = 0

    @property
    def got(self) -> int:
        """Frames from its beginning without a gap."""
        end = 0
        for _, first, frames in self.arrivals:
            end = max(end, first + frames) if first <= end else end
        return end

    def wrong(self) -> int:
        """Frames that are missing or came twice."""
        seen = [n for _, first, frames in self.arrivals for n in range(first, first + frames)]
        return len(set(range(self.frames)) - set(seen)) + len(seen) - len(set(seen))


class Talker:
    """A session's client that speaks one text after the other, and listens to each in real time.

    When its connection is lost it goes to the next address and resumes; where it cannot, it begins a new session and
    goes on in it behind what it received. It moves when it is told to.
    """

    def __init__(self, urls: Addresses, avatar: str) -> None:
        self._urls, self._avatar = urls, avatar
        self.talks: list[Talk] = []
        self.closes: list[tuple[float, int]] = []  # when, close code
        self.back: list[float] = []  # seconds from a loss until a session was there again
        self.resumed = self.begun_anew = self.moved = 0
        self.failed = ""
        self._live: Live | None = None
        self._read = self._seq = 0

    async def run(self, texts: Sequence[str], stop: threading.Event) -> None:
        try:
            await self._until_ready(time.perf_counter() + PATIENCE_S)
            for i, text in enumerate(texts):
                if stop.is_set():
                    break
                self.talks.append(Talk(f"t{i}", text))
                await self._say(self.talks[-1])
        except Exception as error:
            self.failed = f"{type(error).__name__}: {error}"[:500]
        finally:
            if self._live is not None:
                await self._live.__aexit__(None, None, None)

    async def _say(self, talk: Talk) -> None:
        await self._speak(talk)
        while talk.frames < 0:
            assert self._live is not None
            live = self._live
            moving = False
            while self._read < len(live.came):
                moving |= self._take(live.came[self._read], talk)
                self._read += 1
            if talk.frames >= 0:
                break
            if moving:
                await self._move(talk)
            elif live.close_code is not None:
                await self._come_back(talk, live.close_code)
            else:
                await self._news(live)
        await asyncio.sleep(max(0.0, began_to_play(talk.arrivals) + talk.frames / FPS - time.perf_counter()))

    async def _news(self, live: Live) -> None:
        """Until something came, or the connection is lost. One over which nothing comes while it should speak is given up."""
        read = self._read
        for patience_s in (HEARTBEAT_S, PONG_S):
            with suppress(AssertionError):
                await live.until(lambda: len(live.came) > read or live.close_code is not None, patience_s)
                return
            with suppress(ConnectionClosed):
                await live.send(type="ping")
        live.cut()
        await live.closed()

    def _take(self, came: Came, talk: Talk) -> bool:
        """Whether it says that the session has to move."""
        if came.header is not None:
            if came.header.n == talk.n:
                talk.arrivals.append((came.at, came.header.first_frame, came.header.n_frames))
        elif came.type == "error":
            raise RuntimeError(str(came.json))
        elif came.json.get("id") == talk.name:
            if came.type in ("queued", "started"):
                talk.n = came.json["n"]
            elif came.type == "part":
                talk.part = {name: value for name, value in came.json.items() if name not in ("type", "seq", "id", "n")}
            elif came.type == "finished":
                talk.frames = came.json["frames"]
        return came.type == "moving"

    async def _speak(self, talk: Talk) -> None:
        """From its beginning, or from the segment on that was not received whole."""
        assert self._live is not None
        frames = talk.got // SEGMENT_FRAMES * SEGMENT_FRAMES if talk.part else 0
        talk.said_again += talk.got >= SEGMENT_FRAMES and not frames
        talk.arrivals = [arrival for arrival in talk.arrivals if arrival[1] < frames]
        received = {"received": {"frames": frames, "part": talk.part}} if frames else {}
        talk.part, talk.n = {}, 0
        await self._live.send(type="speak", id=talk.name, text=talk.text, **received)

    async def _move(self, talk: Talk) -> None:
        """Begin elsewhere first, then leave."""
        before, read = self._live, self._read
        assert before is not None
        await self._until_ready(time.perf_counter() + PATIENCE_S)
        for came in before.came[read:]:
            self._take(came, talk)
        with suppress(ConnectionClosed):
            await before.send(type="end")
        await before.__aexit__(None, None, None)
        self.moved += 1
        if talk.frames < 0:
            await self._speak(talk)

    async def _come_back(self, talk: Talk, code: int) -> None:
        lost, at = self._live, time.perf_counter()
        assert lost is not None
        self.closes.append((at, code))
        if code in RESUMABLE:
            ready = lost.ready
            seq = max(self._seq, lost.last_seq)
            if await self._begin(session=ready["session"], token=ready["token"], seq=seq):
                self._seq = seq
                self.resumed += 1
                self.back.append(time.perf_counter() - at)
                return
        await self._until_ready(at + PATIENCE_S)
        self.begun_anew += 1
        self.back.append(time.perf_counter() - at)
        await self._speak(talk)

    async def _until_ready(self, end: float) -> None:
        """Begin a session, wherever it is possible. Raises OSError when it is nowhere until then."""
        for wait_s in chain((0.0, 0.1, 0.25, 0.5), repeat(1.0)):
            await asyncio.sleep(wait_s)
            if await self._begin(avatar=self._avatar, voice=VOICE):
                self._seq = 0
                return
            if time.perf_counter() > end:
                raise OSError("no session could be begun")

    async def _begin(self, **query: Any) -> bool:
        """Whether a session answers at the next address."""
        live = Live(self._urls.next(), **query)
        try:
            await live.__aenter__()
        except (OSError, WebSocketException):
            return False
        try:
            await live.answer("ready", seconds=10)
            if not live.of("moving"):
                self._live, self._read = live, 0
                return True
        except AssertionError:
            if live.close_code is not None:
                self.closes.append((time.perf_counter(), live.close_code))
        await live.__aexit__(None, None, None)
        return False


def began_to_play(arrivals: Sequence[tuple[float, int, int]]) -> float:
    """When the first segment was complete."""
    return max(at for at, first, _ in arrivals if first < SEGMENT_FRAMES)


class Load:
    """Clients that come through the addresses in turn. `happened` is the time of the event under which they are seen."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = Addresses(urls)
        self.began = self.happened = time.perf_counter()
        self.watched: list[Watched] = []
        self.probes: list[Watched] = []
        self.talkers: list[Talker] = []
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._lost_url = ""
        self._viewers, self._probe_every_s = 0, PROBE_EVERY_S

    def streams(self, viewers: int, text: str = TWENTY_SECONDS, apart_s: float = 0.3, films: int = 1) -> None:
        """Viewers who come so long apart, and watch so many videos each, one after the other."""
        first = self._viewers + 1
        self._viewers += viewers

        def view(i: int) -> None:
            if self._stop.wait(i * apart_s):
                return
            for film in range(films):
                if self._stop.is_set():
                    break
                seen = self._watch(self.watched, f"Viewer {first + i}, film {film + 1}. {text}", patient=True)
                if seen.viewing.fragments:
                    length = seen.viewing.fragments[-1][1] + SEGMENT_S
                    self._stop.wait(max(0.0, seen.began + seen.viewing.first_s + length - time.perf_counter()))

        for i in range(viewers):
            self._run(view, i)

    def sessions(self, clients: int, text: str = TWENTY_SECONDS, utterances: int = 20) -> None:
        talkers = [Talker(self.urls, ("woman", "man")[i % 2]) for i in range(clients)]
        self.talkers += talkers

        async def talk() -> None:
            texts = [f"Number {n + 1}. {text}" for n in range(utterances)]
            await asyncio.gather(*(talker.run(texts, self._stop) for talker in talkers))

        self._run(asyncio.run, talk())

    def probe(self, every_s: float = PROBE_EVERY_S) -> None:
        """Somebody new asks for a short video every so often, until `finish`."""
        self._probe_every_s = every_s

        def ask() -> None:
            n = 0
            while not self._stop.wait(every_s):
                n += 1
                self._run(self._watch, self.probes, f"{PROBE} {n}")

        self._run(ask)

    def event(self, lost_url: str = "") -> None:
        """It happens now. lost_url: the address that is lost by it; what came through it is told apart."""
        self.happened, self._lost_url = time.perf_counter(), lost_url

    def wait(self) -> None:
        """Until all that was asked for is over; not for whoever probes."""
        for thread in self._threads:
            thread.join()

    def finish(self) -> None:
        """No new probes and utterances; wait for the end of all that runs."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def streams_end(self, seconds: float) -> None:
        """Wait, at most so long, until the streams are over; sessions and probes go on."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end and any(not w.end for w in self.watched):
            time.sleep(0.1)

    def report(self) -> dict[str, Any]:
        """What clients saw from the event on."""
        through = [w for w in self.watched if w.url == self._lost_url]
        return {
            "streams": streams_report([w for w in self.watched if w not in through], self.happened),
            **({"streams_through_what_was_lost": streams_report(through, self.happened)} if through else {}),
            "new_requests": self._probes_report(),
            "sessions": self._sessions_report(),
        }

    def _probes_report(self) -> dict[str, Any]:
        asked = [w for w in self.probes if w.began >= self.happened and w.url != self._lost_url]
        waits = [w.first_s if w.end == "whole" else None for w in asked]
        first = [s for s in waits if s is not None]
        bad = [w.began for w, s in zip(asked, waits, strict=True) if s is None or s > SOON_S]
        return {
            "count": len(asked),
            "failed": sum(s is None for s in waits),
            "first_fragment_p50_s": round(sorted(first)[len(first) // 2], 2) if first else None,
            "longest_first_fragment_s": round(max(first), 2) if first else None,
            "served_soon_again_after_s": round(max(bad) - self.happened + self._probe_every_s, 1) if bad else 0.0,
            "why": sorted({w.why for w in asked if w.why}),
        }

    def _sessions_report(self) -> dict[str, Any]:
        talks = [talk for talker in self.talkers for talk in talker.talks if talk.arrivals]
        running = [talk for talk in talks if talk.arrivals[-1][0] >= self.happened]
        late = [lateness([(at, first / FPS) for at, first, _ in talk.arrivals], self.happened) for talk in running]
        return {
            "count": len(self.talkers),
            "closes": sorted(int(code) for talker in self.talkers for at, code in talker.closes if at >= self.happened),
            "resumed": sum(talker.resumed for talker in self.talkers),
            "begun_anew": sum(talker.begun_anew for talker in self.talkers),
            "moved": sum(talker.moved for talker in self.talkers),
            "longest_away_s": round(max([0.0, *(s for talker in self.talkers for s in talker.back)]), 2),
            "utterances": len(running),
            "said_again_from_the_start": sum(talk.said_again for talk in running),
            "frames_missing_or_repeated": sum(talk.wrong() for talk in running if talk.frames >= 0),
            "late_utterances": sum(s > 0 for s in late),
            "longest_stall_s": round(max([0.0, *late]), 2),
            "failed": [talker.failed for talker in self.talkers if talker.failed],
        }

    def _watch(self, into: list[Watched], text: str, patient: bool = False) -> Watched:
        """patient: when there is no room, come back after as long as the answer says."""
        while True:
            seen = Watched(self.urls.next(), time.perf_counter())
            into.append(seen)
            try:
                watch(seen.url, {"text": text, "avatar": "woman", "voice": VOICE}, seen.viewing, GIVEN_UP_S)
                if seen.viewing.fragments:
                    seen.end, seen.why = ("whole", "") if seen.viewing.ended else ("cut", "no last box")
                else:
                    seen.end = "no room" if seen.viewing.status == 503 else "refused"
                    seen.why = f"status {seen.viewing.status}"
            except (OSError, http.client.HTTPException) as error:
                seen.end = "cut" if seen.viewing.fragments else "refused"
                seen.why = type(error).__name__
            if not patient or seen.end != "no room":
                return seen
            if self._stop.wait(float(seen.viewing.headers.get("retry-after", "1"))):
                return seen

    def _run(self, call: Callable[..., object], *arguments: Any) -> None:
        thread = threading.Thread(target=call, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


def streams_report(watched: Sequence[Watched], after: float) -> dict[str, Any]:
    shown = [w for w in watched if w.viewing.fragments]
    late = [lateness([(at, media) for at, media in w.arrivals], after) for w in shown]
    gaps = [largest_gap([at for at, _ in w.arrivals], after) for w in shown]
    return {
        "count": sum(w.end != "no room" for w in watched),
        "whole": sum(w.end == "whole" and not w.jumps() for w in watched),
        "cut": sum(w.end == "cut" for w in watched),
        "refused": sum(w.end == "refused" for w in watched),
        "no_room": sum(w.end == "no room" for w in watched),
        "jumps": sum(w.jumps() for w in watched),
        "late_streams": sum(s > 0 for s in late),
        "longest_stall_s": round(max([0.0, *late]), 2),
        "largest_gap_s": round(max([0.0, *gaps]), 2),
        "why": sorted({w.why for w in watched if w.why}),
    }


def lateness(arrivals: Sequence[tuple[float, float]], after: float) -> float:
    """Seconds that the latest fragment of those that came after `after` was late, for somebody whose picture began with
    the first segment; negative: none was late. arrivals: (when, media time).
    """
    began = max(at for at, media in arrivals if media < SEGMENT_S)
    return max((at - began - media for at, media in arrivals if media >= SEGMENT_S and at >= after), default=-1.0)


def largest_gap(arrivals: Sequence[float], after: float) -> float:
    """Seconds between two fragments, of which the later one came after `after`."""
    return max((b - a for a, b in pairwise(arrivals) if b >= after), default=0.0)
