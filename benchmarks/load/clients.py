"""Clients that speak without a pause and play what they get: viewers of HTTP streams, and talkers in live sessions."""

from __future__ import annotations

import asyncio
import json
import random
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from benchmarks.load.judge import Bench, Judge, Played
from benchmarks.load.marks import COLOURS, painted, recording
from deployments.ingress.sessions.protocol import RESUMABLE, FrameFlag
from museserve.media.fragments import STREAM_END
from tests.live import Live
from tests.sounds import encoded

SILENT_S = 30.0  # a connection over which nothing comes for so long is given up
AWAY_S = 20.0  # for which a talker tries to have a session again
HEARTBEAT_S = 5.0
LENGTHS_S = (4.0, 12.0)  # of recordings
TOPICS = (
    "Tell me about a project you are proud of, and what made it hard.",
    "How would you design a rate limiter for a public interface, and what would you measure first?",
    "Thank you for joining today. Walk me through a system that you designed, from the first sketch to production.",
    "Describe a conflict in your team, how you solved it, and what you would do differently now.",
    "가장 자랑스러운 프로젝트를 소개해 주시고, 어려웠던 점을 말씀해 주세요.",
)


@dataclass
class Service:
    """What clients must know: the address, a key, and what was agreed with it.

    colours: avatar id -> its mark, empty where avatars could not be made. known: recordings that were sent, with their seconds.
    """

    url: str
    key: str = ""
    run: str = "run"
    speech: str = "both"
    avatars: list[str] = field(default_factory=lambda: ["interviewer_woman", "interviewer_man"])
    colours: dict[str, str] = field(default_factory=dict)
    known: dict[str, float] = field(default_factory=dict)
    bench: Bench = field(default_factory=Bench)
    played: list[Played] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers=self.headers, timeout=httpx.Timeout(SILENT_S, connect=10.0))


@dataclass(frozen=True)
class Wish:
    """One utterance to ask for: a text, or the recording of `sound_s` seconds whose pattern is that of `key`."""

    key: str
    text: str
    sound_s: float

    def sound(self) -> bytes:
        return encoded(recording(self.key, self.sound_s), "wav")


def wishes(service: Service, client: str, seed: int) -> Callable[[], Wish]:
    """An endless list of different ones that depends on the client and the seed alone."""
    dice, number = random.Random(f"{client} {seed}"), 0

    def wish() -> Wish:
        nonlocal number
        number += 1
        key = f"{service.run}/{client}/{number}"
        recorded = dice.random() < {"both": 0.5, "text": 0.0, "recording": 1.0}[service.speech]
        length = round(dice.uniform(*LENGTHS_S), 1) if recorded else 0.0
        # A number and a name make each text new, so that no cache has it.
        text = "" if recorded else f"{client}, number {number} of {service.run}. {dice.choice(TOPICS)}"
        if recorded:
            service.known[key] = length
        return Wish(key, text, length)

    return wish


async def mark_avatars(service: Service) -> str:
    """Make an avatar for each colour. Returns why there are none, empty when there are."""
    made: dict[str, str] = {}
    async with service.client() as client:
        portrait = await client.get("/v1/avatars/interviewer_woman/portrait")
        if portrait.status_code != 200:
            return f"the portrait cannot be had: {portrait.status_code}"
        for colour in COLOURS:
            name = f"load-{service.run}-{colour}"
            picture = {"image": ("marked.png", await asyncio.to_thread(painted, portrait.content, colour), "image/png")}
            answer = await client.post("/v1/avatars", files=picture, data={"id": name, "name": name}, timeout=120.0)
            if answer.status_code != 201:
                await unmark_avatars(service, list(made))
                return f"an avatar could not be made: {answer.status_code} {answer.text[:200]}"
            made[name] = colour
    service.colours, service.avatars = made, list(made)
    return ""


async def unmark_avatars(service: Service, names: list[str]) -> None:
    async with service.client() as client:
        for name in names:
            with suppress(httpx.HTTPError):
                await client.delete(f"/v1/avatars/{name}")


def typed(answer: httpx.Response) -> tuple[str, str]:
    """Code and message of an error as the API writes it; an empty code when it is none."""
    with suppress(ValueError, KeyError, TypeError):
        error = answer.json()["error"]
        return str(error["code"]), str(error["message"])[:300]
    return "", answer.text[:300]


class Client:
    """Asks for one utterance after the other, each when the one before has been played, until `stop`."""

    kind = ""

    def __init__(self, service: Service, name: str, seed: int = 0, pause_s: float = 0.0) -> None:
        self.service, self.name, self._pause_s = service, name, pause_s
        self._wish = wishes(service, name, seed)
        number = int("".join(c for c in name if c.isdigit()) or 0)
        self.avatar = service.avatars[number % len(service.avatars)]
        self.stop = asyncio.Event()
        self._free_at = 0.0

    async def run(self) -> None:
        raise NotImplementedError

    def _begin(self, wish: Wish) -> Played:
        played = Played(self.name, self.kind, wish.key, self.avatar, asked=time.perf_counter())
        self.service.played.append(played)
        return played

    def _over(self, judge: Judge, wish: Wish) -> None:
        judge.played.over = time.perf_counter()
        self._free_at = max(self._free_at, judge.played.plays_until)
        self.service.bench.compare(judge, wish.sound_s, self.service.colours.get(self.avatar, ""), self.service.known)

    async def _rest(self, seconds: float) -> None:
        """As long as it plays, or until `stop`."""
        with suppress(asyncio.TimeoutError, TimeoutError):
            await asyncio.wait_for(self.stop.wait(), max(0.0, seconds))


class Viewer(Client):
    """`POST /v1/videos`, streamed."""

    kind = "video"

    async def run(self) -> None:
        async with self.service.client() as http:
            while not self.stop.is_set():
                wish = self._wish()
                played = self._begin(wish)
                judge = Judge(played, free_at=self._free_at)
                await self.watch(http, wish, judge)
                self._over(judge, wish)
                wait = float(played.said) if played.end == "refused" else played.plays_until + self._pause_s - time.perf_counter()
                # Whoever failed does not storm the service.
                await self._rest(wait if played.end == "whole" or played.end == "refused" else max(wait, 1.0))

    async def watch(self, http: httpx.AsyncClient, wish: Wish, judge: Judge, reader: Callable[[], Awaitable[None]] | None = None) -> None:
        """Ask and read to the end. reader: awaited before each read, by whoever is slow."""
        played = judge.played
        asked: dict[str, Any] = {"json": {"text": wish.text, "avatar": self.avatar}}
        if wish.sound_s:
            sound = await asyncio.to_thread(wish.sound)
            asked = {"data": {"avatar": self.avatar, "captions": "none"}, "files": {"audio": ("speech.wav", sound, "audio/wav")}}
        played.asked = time.perf_counter()
        try:
            async with http.stream("POST", "/v1/videos", **asked) as answer:
                played.status = answer.status_code
                if answer.status_code != 200:
                    await answer.aread()
                    played.code, played.said = typed(answer)
                    played.end = "failed" if played.code else "untyped"
                    if answer.status_code in (429, 503) and "retry-after" in answer.headers and played.code:
                        played.end, played.said = "refused", answer.headers["retry-after"]
                    return
                boxes = Boxes()
                async for data in answer.aiter_raw():
                    at = time.perf_counter()
                    for kind, content in boxes.feed(data):
                        judge.init(content) if kind == "init" else judge.fragment(content, at)
                    if reader is not None:
                        await reader()
                played.end = "whole" if boxes.ended else "cut"
                played.said = "" if boxes.ended else "the stream ended without its last box"
        except (httpx.HTTPError, OSError) as error:
            played.end, played.said = "cut" if played.status == 200 else "untyped", f"{type(error).__name__}: {error}"


class Boxes:
    """A stream of MP4 in pieces to its init segment and its fragments. ended: the last box of a complete stream came."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._part = bytearray()
        self.ended = False

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """("init" or "fragment", bytes) of each that is complete now."""
        self._data += data
        found: list[tuple[str, bytes]] = []
        while len(self._data) >= 8:
            size, kind = struct.unpack(">I4s", self._data[:8])
            if size < 8 or len(self._data) < size:
                break
            box = bytes(self._data[:size])
            del self._data[:size]
            if kind == b"mfra":
                self.ended = box == STREAM_END
                continue
            self.ended = False
            self._part += box
            if kind in (b"moov", b"mdat"):
                found.append(("init" if kind == b"moov" else "fragment", bytes(self._part)))
                self._part.clear()
        return found


def _has_news(live: Live) -> bool:
    return bool(live.came) or live.close_code is not None


class KeyedLive(Live):
    """A session's connection that shows a key, and forgets what was read of it."""

    def __init__(self, service: Service, **query: Any) -> None:
        super().__init__(service.url, **query)
        self._headers = service.headers

    async def __aenter__(self) -> KeyedLive:
        self.socket = await connect(self._url, max_size=None, compression=None, close_timeout=2, additional_headers=self._headers, open_timeout=15)
        self._reader = asyncio.create_task(self._read())
        return self


class Talker(Client):
    """A live session. When its connection is lost it resumes; where it cannot, it begins a new session and asks again, and says so."""

    kind = "session"

    def __init__(self, service: Service, name: str, seed: int = 0, pause_s: float = 0.0) -> None:
        super().__init__(service, name, seed, pause_s)
        self._live: KeyedLive | None = None
        self._ready: dict[str, Any] = {}
        self._seq = 0
        self._init = b""
        self.closes: list[int] = []
        self._told: set[str] = set()  # utterances that were told to stop
        self.resumed = self.begun_anew = 0
        self.lost = self.lost_code = ""  # why there is no session: in words, and the type if there is one
        self.interrupt_after: Callable[[], float | None] = lambda: None  # seconds of speech after which it is told to stop

    async def run(self) -> None:
        try:
            while not self.stop.is_set():
                if self._live is None and not await self._begin_session():
                    await self._rest(1.0)
                    continue
                await self._speak(self._wish())
        finally:
            if self._live is not None:
                with suppress(ConnectionClosed, OSError):
                    await self._live.send(type="end")
                await self._live.__aexit__(None, None, None)

    async def _begin_session(self) -> bool:
        """A session, after as many tries as `AWAY_S` has time for; one that is refused for want of room is not an error."""
        end = time.perf_counter() + AWAY_S
        while not self.stop.is_set() and time.perf_counter() < end:
            if await self._connect(avatar=self.avatar):
                self._seq = 0
                if not self._init:
                    self._init = await self._idle_init(self._ready["idle"]["url"])
                return True
            await self._rest(1.0)
        if not self.stop.is_set():  # nothing was to be had for so long: somebody was told why, or was not
            end_as = "refused" if self.lost_code else "untyped"
            now = time.perf_counter()
            self.service.played.append(
                Played(self.name, self.kind, "connect", asked=now - AWAY_S, over=now, end=end_as, code=self.lost_code, said=self.lost)
            )
        return False

    async def _connect(self, **query: object) -> bool:
        live = KeyedLive(self.service, **query)
        try:
            await live.__aenter__()
        except (OSError, WebSocketException) as error:
            self.lost, self.lost_code = f"{type(error).__name__}: {error}", ""
            return False
        try:
            self._ready = await live.answer("ready", seconds=15)
            self._live = live
            return True
        except AssertionError:
            if live.close_code is not None:
                self.closes.append(live.close_code)
            said = [came.json for came in live.came if came.type == "error"][-1:]
            self.lost, self.lost_code = str(said)[:300], str(said[0]["code"]) if said else ""
        await live.__aexit__(None, None, None)
        return False

    async def _idle_init(self, url: str) -> bytes:
        async with self.service.client() as http:
            data = (await http.get(url)).raise_for_status().content
        length = int.from_bytes(data[:4], "big")
        return data[4 + length : 4 + length + int(json.loads(data[4 : 4 + length])["init"])]

    async def _speak(self, wish: Wish) -> None:
        played = self._begin(wish)
        judge = Judge(played, self._init, self._free_at)
        name = wish.key.replace("/", ".")
        while not played.end:
            live = self._live
            assert live is not None
            try:
                await self._ask(wish, name)
            except (ConnectionClosed, OSError):
                await self._come_back(judge, await live.closed())
                continue  # where the session goes on, it is asked for again
            played.asked = time.perf_counter()
            await self._hear(judge, name)
        self._over(judge, wish)
        if wish.text and played.end == "whole" and played.words != wish.text:
            played.order.append(f"captions say {played.words[:80]!r}")
        if played.end == "whole":  # the next one is asked for while the last seconds play
            await self._rest(min(played.plays_until - time.perf_counter() - 1.0, 20.0) + self._pause_s)
        elif played.end != "interrupted":
            await self._rest(1.0)

    async def _ask(self, wish: Wish, name: str) -> None:
        assert self._live is not None
        if not wish.sound_s:
            return await self._live.send(type="speak", id=name, text=wish.text)
        sound = await asyncio.to_thread(wish.sound)
        await self._live.send(type="speak", id=name, audio=True)
        piece = 64 * 2**10
        for at in range(0, len(sound), piece):
            await self._live.socket.send(sound[at : at + piece])
        await self._live.send(type="audio_end", id=name)

    async def _hear(self, judge: Judge, name: str) -> None:
        """Until the utterance is over, in this connection or in the next."""
        played, number = judge.played, 0
        words: list[str] = []
        stop_after, told = self.interrupt_after(), False
        silent_since = time.perf_counter()
        while not played.end:
            live = self._live
            assert live is not None
            came, live.came = live.came, []
            for each in came:
                self._seq = max(self._seq, each.seq)
                silent_since = each.at
                if each.header is not None:
                    if each.header.n != number:
                        played.order.append(f"a fragment of utterance {each.header.n} in {number}")
                    data = each.data
                    if each.header.flags & FrameFlag.INIT:
                        at = data.index(b"moof") - 4
                        judge.init(data[:at])
                        data = data[at:]
                    judge.fragment(data, each.at, each.header.first_frame, each.header.n_frames)
                    continue
                said = each.json
                if said["type"] == "nothing_to_interrupt" and said.get("id") in self._told:
                    self._told.discard(said["id"])  # it had ended when it was told to stop
                elif said.get("id") not in (None, name):
                    played.order.append(f"{said['type']} of {said['id']} in {name}")
                elif said["type"] == "queued":
                    number = said["n"]
                elif said["type"] == "words":
                    words[said["first_word"] :] = [word["text"] for word in said["words"]]
                elif said["type"] == "delayed":
                    played.delayed += 1
                elif said["type"] == "finished":
                    played.end, played.words = "whole", " ".join(words)
                    if said["frames"] != played.frames:
                        played.order.append(f"finished after {said['frames']} frames, {played.frames} came")
                elif said["type"] == "error" and said.get("id") == name:
                    played.code, played.said = said["code"], said["message"][:300]
                    played.end = "" if number else "failed"  # of what was queued, `interrupted` follows
                elif said["type"] == "interrupted":
                    played.end = "interrupted" if said["by"] == "client" else "refused" if played.code == "busy" else "failed"
                elif said["type"] == "error":
                    played.code, played.said = said["code"], said["message"][:300]
                    played.end = "failed"
            if played.end:
                return
            if stop_after is not None and not told and played.began is not None and time.perf_counter() - played.began > stop_after:
                with suppress(ConnectionClosed):  # what follows sees it
                    await live.send(type="interrupt", id=name)
                told = True
                self._told.add(name)
            if live.close_code is not None:
                await self._come_back(judge, live.close_code)
            elif time.perf_counter() - silent_since > SILENT_S:
                played.end, played.said = "untyped", f"nothing came for {SILENT_S:g} s"
            else:
                with suppress(AssertionError):
                    await live.until(partial(_has_news, live), 0.25 if stop_after else HEARTBEAT_S)
                if not live.came and live.close_code is None and not played.end:
                    with suppress(ConnectionClosed):
                        await live.send(type="ping")

    async def _come_back(self, judge: Judge, code: int) -> None:
        """Resume the session; or give this utterance up, with the close code as its type, and let `run` begin anew."""
        self.closes.append(code)
        old, self._live = self._live, None
        assert old is not None
        ready, end = self._ready, time.perf_counter() + AWAY_S
        if code in RESUMABLE:
            while time.perf_counter() < end:
                if await self._connect(session=ready["session"], token=ready["token"], seq=self._seq):
                    self.resumed += 1
                    return
                if self.closes[-1] not in (code, 4013) and self.closes[-1] not in RESUMABLE:
                    break
                await asyncio.sleep(0.5)
        self.begun_anew += 1
        played = judge.played
        played.end, played.code, played.said = "failed", f"closed_{code}", self.lost
