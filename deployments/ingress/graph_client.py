"""The graph as the ingress calls it: everything that goes there, and how many videos are live."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

from ray.serve.handle import DeploymentHandle

from deployments import logs, quotas, tracing
from deployments.ingress import patience
from deployments.ingress.sessions.live_sound import BYTES_A_SAMPLE, SoundPart
from deployments.metrics import takeovers
from deployments.remote import answered, pulled, repulled, retried, unwrap
from deployments.so_far import FilmSoFar
from museserve.errors import BusyError, ConflictError, EngineError
from museserve.messages import ArrivingSound, FilmHead, Fragment, PreparationProgress, ServiceInfo, SoundPiece, SpeechRequest, VideoRequest
from musetalk.avatars.format import AvatarMeta, name_of

logger = logging.getLogger("ray.serve")

T = TypeVar("T")

TRIES = 4  # Mux replicas in a row that bring nothing
CLEAR_S = 60.0  # longest wait for all of them to clear the cache
GIVES_UP_S, GIVES_UP_TRIES = 0.01, 50  # for a request that was cut to end what was made for it
INFO_S = 5.0  # longest wait for one of them to say what runs
PREPARE_S = 45.0  # longest wait for another face preparation to begin where one was lost: the only one has to start first
PREPARE_TRIES = 2  # a picture over which a replica dies every time must not take one after the other
FEED_EVERY_S = 0.04  # between two pieces of a sound: a frame of it
FIRST_SOUND_S, FIRST_EVERY_S = 0.6, 0.01  # so much of it a first picture needs, and until then it is passed on as it comes
FEED_S = 10.0  # longest time in which no piece of it reaches its Mux
MADE_ELSEWHERE_S = 0.5  # between two questions whether the lease of one that died has ended


def feed_every_s(passed_s: float) -> float:
    """Between two pieces of a sound, of which so much was passed on."""
    return FEED_EVERY_S if passed_s >= FIRST_SOUND_S else FIRST_EVERY_S


class GraphClient:
    """Every call raises our own errors as they were raised on the other side; closing a generator cancels its call.

    max_live: videos made at once, from which on more are refused.
    patience_s: longest wait for another Mux to go on when one was lost.
    """

    def __init__(self, mux: DeploymentHandle[Any], face_prep: DeploymentHandle[Any], max_live: int, patience_s: float) -> None:
        self._mux, self._mux_stream = mux, mux.options(stream=True)
        self._face_prep = face_prep.options(stream=True)
        self.configure(max_live, patience_s)
        self._info: ServiceInfo | None = None
        self._takeovers = takeovers("mux", "face_prep")
        self.live = 0
        self._places: set[patience.Place] = set()  # of the requests over HTTP among them

    def configure(self, max_live: int, patience_s: float) -> None:
        self._max_live, self._patience_s = max_live, patience_s

    async def ask_info(self) -> ServiceInfo:
        """What runs in the graph, asked for anew."""
        info: ServiceInfo = await retried(lambda: answered(self._mux.info.remote()), "mux", tries=TRIES, timeout_s=INFO_S)
        self._info = info
        return info

    async def info_within(self, seconds: float) -> ServiceInfo:
        """Asked for anew, or what was known last where that takes longer."""
        if self._info is None:
            return await self.ask_info()
        asking = asyncio.create_task(self.ask_info())
        await asyncio.wait({asking}, timeout=seconds)
        if not asking.done():
            asking.cancel()
            return self._info
        return await asking

    async def info(self) -> ServiceInfo:
        """The same, as it was known last."""
        return self._info or await self.ask_info()

    async def clear_cache(self, tenant: str) -> None:
        """Forget every utterance of a tenant that is kept. Raises StoreError; EngineError: a replica did not answer."""
        try:
            await self._mux.broadcast("clear_cache", tenant).results_async(timeout_s=CLEAR_S)
        except TimeoutError:
            raise EngineError(f"a replica did not clear its cache within {CLEAR_S:g} s; ask again") from None
        except Exception as error:
            raise unwrap(error) from None

    def stream(self, request: VideoRequest, sound: SoundPart | None = None) -> AsyncGenerator[Fragment, None]:
        """When its Mux is lost, another goes on with the first fragment that is missing.

        sound: what is spoken, where the client sends it while it is made.

        Raises BusyError, and as `Mux.stream`.
        """
        so_far = FilmSoFar(request)

        def ask(within_s: float | None) -> AsyncGenerator[Fragment, None]:
            asked = so_far.request()
            if sound is None:
                return so_far.rest(pulled(lambda: self._mux_stream.stream.remote(asked), asked, within_s))
            asked = replace(asked, arriving=ArrivingSound(secrets.token_hex(8), sound.rate))
            fragments = pulled(lambda: self._mux_stream.stream.remote(asked), asked, within_s)
            return so_far.rest(alongside(fragments, self._feed(asked.leads, sound)))

        def ask_twice(within_s: float | None) -> AsyncGenerator[Fragment, None]:
            return asked_again(lambda: ask(within_s))

        return self._counted(request, self._repulled(ask_twice if request.paced else ask))

    async def _feed(self, stream: str, sound: SoundPart) -> None:
        """All of a sound to the Mux that runs a stream, as it comes. Raises EngineError: nothing reaches it."""
        at, final, failing_since = 0, False, 0.0
        while not final:
            pcm, final = await sound.after(at)
            began = time.monotonic()
            try:
                await answered(self._mux.feed.remote(SoundPiece(stream, at, pcm, final)))
            except Exception as error:  # the stream will tell, if its replica was lost
                failing_since = failing_since or began
                if time.monotonic() - failing_since > FEED_S:
                    raise EngineError(f"the sound did not reach what speaks it: {error}") from None
                final = False
            else:
                at, failing_since = at + len(pcm) // BYTES_A_SAMPLE, 0.0
            if not final:
                await asyncio.sleep(began + feed_every_s(at / sound.rate) - time.monotonic())

    def film(self, request: VideoRequest) -> AsyncGenerator[FilmHead | bytes, None]:
        """Raises BusyError, and as `Mux.film`."""

        async def ask(within_s: float | None) -> AsyncGenerator[FilmHead | bytes, None]:
            asked = replace(request)
            parts = [part async for part in pulled(lambda: self._mux_stream.film.remote(asked), asked, within_s)]
            for part in parts:  # none before the last has come: until then another Mux can make them anew
                yield part

        return self._counted(request, self._repulled(ask))

    def speak(self, request: SpeechRequest, audio_format: str, whole: bool = False) -> AsyncGenerator[bytes, None]:
        """whole: as `Mux.speak`. Raises BusyError, and as that."""
        begun = False

        async def ask(within_s: float | None) -> AsyncGenerator[bytes, None]:
            nonlocal begun
            if begun:
                raise EngineError("the speech broke off: what made it was lost; ask again")
            asked = replace(request)
            async with aclosing(pulled(lambda: self._mux_stream.speak.remote(asked, audio_format, whole), asked, within_s)) as pieces:
                async for piece in pieces:
                    begun = True
                    yield piece

        return self._placed(self._repulled(ask))

    def prepare(
        self, data: bytes, avatar_id: str, name: str, gender: str, clip: bool = False
    ) -> AsyncGenerator[PreparationProgress | AvatarMeta, None]:
        """The steps of an avatar's preparation and, at last, what is known of it.

        When its replica is lost, another one begins anew, once, and so do the steps.

        Raises BusyError, EngineError, and as `FacePrep.prepare`.
        """
        tries = 0

        async def ask(within_s: float | None) -> AsyncGenerator[PreparationProgress | AvatarMeta, None]:
            nonlocal tries
            tries += 1
            if tries > PREPARE_TRIES:
                raise EngineError(f"face preparation was lost {PREPARE_TRIES} times over this portrait or clip; the log has the details")
            end = time.monotonic() + (within_s or 0.0)
            while True:
                try:
                    call = pulled(lambda: self._face_prep.prepare.remote(data, avatar_id, name or name_of(avatar_id), gender, clip), None, within_s)
                    async with aclosing(call) as steps:
                        async for step in steps:
                            yield step
                    return
                except ConflictError:
                    if time.monotonic() >= end:  # at once, where none was lost; a lost one's lease ends by itself
                        raise
                await asyncio.sleep(MADE_ELSEWHERE_S)

        return repulled(ask, "face preparation", tries=TRIES, timeout_s=PREPARE_S, on_retry=lambda: self._lost("face_prep"))

    def _repulled(self, ask: Callable[[float | None], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        return repulled(ask, "mux", tries=TRIES, timeout_s=self._patience_s, on_retry=lambda: self._lost("mux"))

    def _lost(self, what: str) -> None:
        self._takeovers.inc(tags={"lost": what})

    async def _placed(self, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """Counted among what is made at once. Raises BusyError when there is no room."""
        if self.live >= self._max_live and patience.give_up_one(self._places):
            for _ in range(GIVES_UP_TRIES):
                await asyncio.sleep(GIVES_UP_S)
                if self.live < self._max_live:
                    break
        if self.live >= self._max_live:
            most = f"{self.live} videos and speeches are being made, the most this service takes at once"
            raise BusyError(f"{most}; try again in a moment")
        place = patience.CURRENT.get()
        self.live += 1
        if place is not None:
            self._places.add(place)
        try:
            with quotas.living():
                async with aclosing(items):
                    async for item in items:
                        yield item
        finally:
            self.live -= 1
            if place is not None:
                self._places.discard(place)

    def _counted(self, request: VideoRequest, video: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        return self._placed(self._told(request, video))

    async def _told(self, request: VideoRequest, video: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """With a span and a line in the log."""
        logs.carry(request.ids)
        began, first_ms, ended = time.perf_counter(), -1.0, "broken off"
        try:
            with tracing.span(tracing.UTTERANCE, root=bool(request.session)) as span:
                async with aclosing(video):
                    while True:
                        with tracing.within(span):  # what is asked of Mux meanwhile, again perhaps, belongs to it
                            item = await anext(video, None)
                        if item is None:
                            break
                        if first_ms < 0:
                            first_ms = (time.perf_counter() - began) * 1e3
                            span.add_event("first answer")
                        yield item
            ended = "whole"
        finally:
            logger.info("video: first answer after %.0f ms, %s after %.2f s", first_ms, ended, time.perf_counter() - began)


async def alongside(items: AsyncGenerator[T, None], work: Coroutine[Any, Any, None]) -> AsyncGenerator[T, None]:
    """The items, while `work` is done that they need. What it raises ends them."""
    working = asyncio.create_task(work)
    try:
        async with aclosing(items):
            while True:
                item: asyncio.Task[T | None] = asyncio.ensure_future(_next(items))
                try:
                    while not item.done():
                        await asyncio.wait({item} if working.done() else {item, working}, return_when=asyncio.FIRST_COMPLETED)
                        if working.done():
                            working.result()
                    if (found := item.result()) is None:
                        return
                finally:
                    await _ended(item)
                yield found
    finally:
        await _ended(working)


async def _next(items: AsyncGenerator[T, None]) -> T | None:
    return await anext(items, None)


async def _ended(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def asked_again(ask: Callable[[], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """A Mux replica that has no room is asked once more: another may answer."""
    for again in (True, False):
        try:
            async with aclosing(ask()) as items:
                async for item in items:
                    yield item
            return
        except BusyError:
            if not again:
                raise
