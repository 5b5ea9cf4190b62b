"""Clients of mixed use beside viewers and talkers: uploads, finished films, speech alone, hang-ups and bad input. Each judges what it gets."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from benchmarks.load.clients import LENGTHS_S, TOPICS, Service, typed
from benchmarks.load.marks import COLOURS, colour_of, listen, painted, picture_of, recording, sound_of
from tests.fuzz.mutants import mutant
from tests.sounds import encoded

PAUSE_S = (0.5, 4.0)
FILM_S = 90.0  # longest wait for a finished one


@dataclass
class Answer:
    """One call. end: good, refused (no room, with a time), failed (an error with a type), untyped (none, or no answer), wrong (a success
    that is none, or a bad request that was taken), gone (the client hung up)."""

    client: str
    call: str
    asked: float
    over: float = 0.0
    status: int = 0
    code: str = ""
    end: str = ""
    said: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Mixed:
    """One call after the other, chosen by its name and the seed."""

    def __init__(self, service: Service, name: str, seed: int) -> None:
        self.service, self.name = service, name
        self._dice = random.Random(f"{name} {seed}")
        self._portrait = b""
        self._n = 0
        self.stop = asyncio.Event()
        self.answers: list[Answer] = []
        self.left: set[str] = set()  # avatars that could not be deleted, or of which nobody knows whether they were made

    async def run(self) -> None:
        calls = (self._film, self._speech, self._upload, self._generate, self._bad_media, self._bad_request, self._hang_up, self._prerender)
        async with self.service.client() as http:
            while not self.stop.is_set():
                self._n += 1
                call = self._dice.choices(calls, (4, 4, 1, 1, 4, 4, 3, 1))[0]
                answer = Answer(self.name, call.__name__.strip("_"), time.perf_counter())
                self.answers.append(answer)
                try:
                    await call(http, answer)
                except (httpx.HTTPError, OSError) as error:
                    answer.end, answer.said = "untyped", f"{type(error).__name__}: {error}"
                answer.over = time.perf_counter()
                with suppress(asyncio.TimeoutError, TimeoutError):
                    await asyncio.wait_for(self.stop.wait(), self._dice.uniform(*PAUSE_S))

    def _judge(self, answer: Answer, got: httpx.Response, good: int = 200) -> bool:
        """Whether it is a success; else what kind of failure."""
        answer.status = got.status_code
        if got.status_code == good:
            answer.end = "good"
            return True
        answer.code, answer.said = typed(got)
        busy = got.status_code in (429, 503) and "retry-after" in got.headers
        answer.end = "untyped" if not answer.code else "refused" if busy else "failed"
        return False

    def _wrong(self, answer: Answer, what: str) -> None:
        answer.end, answer.said = "wrong", what

    async def _film(self, http: httpx.AsyncClient, answer: Answer) -> None:
        """A finished film of a recording with our mark."""
        key, seconds = f"{self.service.run}/{self.name}/{self._n}", round(self._dice.uniform(*LENGTHS_S), 1)
        avatar = self._dice.choice(self.service.avatars)
        self.service.known[key] = seconds
        files = {"audio": ("speech.wav", encoded(recording(key, seconds), "wav"))}
        got = await http.post("/v1/videos", data={"avatar": avatar, "stream": "false"}, files=files, timeout=FILM_S)
        if not self._judge(answer, got):
            return

        def look() -> str:
            try:
                found = listen(sound_of(got.content), key, seconds, self.service.known)
                seen, wanted = colour_of(picture_of(got.content)), self.service.colours.get(avatar, "")
            except Exception as error:  # whatever it is, it was to be a film
                return f"not a film: {error}"
            if not found.own:
                return f"sound: right {found.right:.2f}, pure {found.pure:.2f} {found.of}"
            return f"picture: {seen} instead of {wanted}" if wanted and seen != wanted else ""

        if wrong := await asyncio.to_thread(look):
            self._wrong(answer, wrong)

    async def _speech(self, http: httpx.AsyncClient, answer: Answer) -> None:
        text = f"{self.name} {self._n}. {self._dice.choice(TOPICS[:4])}"
        got = await http.post("/v1/audio/speech", json={"input": text, "response_format": "pcm", "voice": "nova"}, timeout=FILM_S)
        # 24 kHz, 16 bits: nobody says so many characters faster than this.
        if self._judge(answer, got) and len(got.content) < 48_000 * len(text) / 40:
            self._wrong(answer, f"{len(got.content)} bytes of speech for {len(text)} characters")

    async def _upload(self, http: httpx.AsyncClient, answer: Answer) -> None:
        """Make an avatar, look at it, let it speak, and delete it."""
        if not await self._has_portrait(http, answer):
            return
        colour, name = self._dice.choice(list(COLOURS)), f"faults-{self.service.run}-{self.name}-{self._n}"
        self.left.add(name)
        got = await http.post("/v1/avatars", files={"image": ("a.png", painted(self._portrait, colour), "image/png")}, data={"id": name}, timeout=120)
        if not self._judge(answer, got, 201):
            return
        shown = await http.get(f"/v1/avatars/{name}/idle", timeout=FILM_S)
        if shown.status_code == 200 and (seen := colour_of(await asyncio.to_thread(picture_of, shown.content))) != colour:
            self._wrong(answer, f"the idle loop is {seen} instead of {colour}")
        gone = await http.delete(f"/v1/avatars/{name}")
        if gone.status_code == 204:
            self.left.discard(name)
            after = await http.get(f"/v1/avatars/{name}")
            if after.status_code == 200:
                self._wrong(answer, "it is there after it was deleted")
        elif answer.end == "good":
            self._judge(answer, gone, 204)

    async def _generate(self, http: httpx.AsyncClient, answer: Answer) -> None:
        """A one-off portrait speaks a recording."""
        if not await self._has_portrait(http, answer):
            return
        key, colour = f"{self.service.run}/{self.name}/{self._n}", self._dice.choice(list(COLOURS))
        self.service.known[key] = 4.0
        files = {"image": ("a.png", painted(self._portrait, colour)), "audio": ("a.wav", encoded(recording(key, 4.0), "wav"))}
        got = await http.post("/generate", files=files, timeout=120)
        if self._judge(answer, got):
            found = await asyncio.to_thread(listen, sound_of(got.content), key, 4.0, self.service.known)
            seen = colour_of(await asyncio.to_thread(picture_of, got.content))
            if not found.own or seen != colour:
                self._wrong(answer, f"sound right {found.right:.2f} {found.of}, picture {seen} instead of {colour}")

    async def _bad_media(self, http: httpx.AsyncClient, answer: Answer) -> None:
        """A mutant; it may be good by chance, but no answer may be a fault of the service."""
        kind = self._dice.choice(("recording", "portrait"))
        data = mutant(kind, self._dice.randrange(10**6))
        if kind == "recording":
            got = await http.post("/v1/videos", files={"audio": ("a.wav", data)}, data={"stream": "false"}, timeout=FILM_S)
        else:
            got = await http.post("/idle", files={"image": ("a.png", data)}, timeout=FILM_S)
        self._judge(answer, got)

    async def _bad_request(self, http: httpx.AsyncClient, answer: Answer) -> None:
        asked: list[tuple[str, str, dict[str, Any], int]] = [
            ("POST", "/v1/videos", {"json": {"text": ""}}, 400),
            ("POST", "/v1/videos", {"json": {"text": "Hi", "avatar": "nobody"}}, 404),
            ("POST", "/v1/videos", {"content": b"{", "headers": {"content-type": "application/json"}}, 400),
            ("POST", "/v1/videos", {"content": b"<x/>", "headers": {"content-type": "text/xml"}}, 415),
            ("POST", "/v1/avatars", {"files": {"image": b"x"}}, 400),
            ("DELETE", "/v1/avatars/interviewer_man", {}, 409),
            ("GET", "/v1/avatars/nobody/portrait", {}, 404),
            ("GET", "/v1/videos/nothing/captions.vtt", {}, 404),
            ("PUT", "/v1/videos", {}, 405),
        ]
        method, path, options, status = self._dice.choice(asked)
        got = await http.request(method, path, **options)
        if got.is_success:
            self._judge(answer, got)
            self._wrong(answer, f"{method} {path} was taken with {got.status_code}")
        elif not self._judge(answer, got) and answer.end == "failed" and got.status_code == status:
            answer.end = "good"

    async def _hang_up(self, http: httpx.AsyncClient, answer: Answer) -> None:
        asked = {"text": f"{self.name} {self._n}. {self._dice.choice(TOPICS)} And then hang up in the middle of it."}
        async with http.stream("POST", "/v1/videos", json=asked) as got:
            if got.status_code != 200:
                await got.aread()
                self._judge(answer, got)
                return
            answer.status, answer.end = 200, "gone"
            most = self._dice.randrange(200_000)
            async for data in got.aiter_raw():
                most -= len(data)
                if most < 0:
                    break

    async def _prerender(self, http: httpx.AsyncClient, answer: Answer) -> None:
        texts = [f"{self.name} {self._n}. {topic}" for topic in self._dice.sample(TOPICS, 2)]
        got = await http.post("/v1/prerender", json={"texts": texts}, timeout=FILM_S)
        if self._judge(answer, got) and [each["text"] for each in got.json()["data"]] != texts:
            self._wrong(answer, f"asked for {texts}, got {got.text[:300]}")

    async def _has_portrait(self, http: httpx.AsyncClient, answer: Answer) -> bool:
        if not self._portrait:
            got = await http.get("/v1/avatars/interviewer_woman/portrait")
            if not self._judge(answer, got):
                return False
            self._portrait = got.content
        return True
