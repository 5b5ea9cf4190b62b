"""Captions of the videos that were made last: this replica's in memory, those of others in the cache's store."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from starlette.exceptions import HTTPException

from museserve.errors import StoreError
from museserve.media.captions import cues, webvtt
from museserve.messages import FilmHead, Fragment, Word
from museserve.runtime.blob_store import BlobStore, blob_key

KEPT = 512
KEPT_S = 3_600.0  # in memory
WAIT_S = 120.0  # after a video began, its words may still become known to another replica
LOOK_S, LOOK_MOST_S = 0.1, 1.0  # between two looks for them: at first, and later
THREADS = 4
UTTERANCE = re.compile(r"([0-9a-f]{8})[0-9a-f]{16}")

T = TypeVar("T")


def utterance_id(captions: bool) -> str:
    """Hexadecimal digits. With captions they begin with the second of its making, so that every replica knows whether words may still come."""
    return f"{int(time.time()):08x}{secrets.token_hex(8)}" if captions else secrets.token_hex(8)


class Captions:
    """The words of one utterance as its video tells them. on_known: called once with all of them, as WebVTT."""

    def __init__(self, on_known: Callable[[str], None] = lambda text: None) -> None:
        self.began = time.monotonic()
        self._words: list[Word] = []
        self._known = asyncio.Event()
        self._on_known = on_known

    async def heard(self, video: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """The items of the video, which are listened to."""
        began = False
        try:
            async for item in video:
                began = True
                if isinstance(item, Fragment | FilmHead):
                    self._words.extend(item.words)
                    if isinstance(item, FilmHead) or item.words_final:
                        self._end()
                yield item
        finally:
            if began:
                self._end()
            self._known.set()
            await video.aclose()

    async def webvtt(self) -> str:
        await self._known.wait()
        return webvtt(cues(self._words))

    def _end(self) -> None:
        if not self._known.is_set():
            self._known.set()
            self._on_known(webvtt(cues(self._words)))


class CaptionsStore:
    """The captions of the last `KEPT` utterances of this replica, for `KEPT_S`, and, while `shared` has room for them, of all.

    shared: a store that every replica sees; None = captions are known where their video was made.
    """

    def __init__(self, shared: BlobStore | None = None) -> None:
        self._kept: OrderedDict[tuple[str, str], Captions] = OrderedDict()
        self._shared = shared
        self._cleared: dict[str, float] = {}  # by tenant: the second of its last clearing
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="captions")

    def keep(self, tenant: str, utterance: str) -> Captions:
        captions = self._kept[tenant, utterance] = Captions(lambda text: self._share(tenant, utterance, text))
        self._drop_old()
        return captions

    def clear(self, tenant: str) -> None:
        """Of this replica; those in the shared store are cleared with it."""
        for kept in [kept for kept in self._kept if kept[0] == tenant]:
            del self._kept[kept]
        self._cleared[tenant] = time.time()

    def _drop_old(self) -> None:
        while self._kept and (len(self._kept) > KEPT or time.monotonic() - next(iter(self._kept.values())).began > KEPT_S):
            self._kept.popitem(last=False)

    def drop(self, tenant: str, utterance: str) -> None:
        self._kept.pop((tenant, utterance), None)

    async def webvtt(self, tenant: str, utterance: str) -> str:
        """Waits until every word is known. Those of other tenants are not there. Raises HTTPException 404; StoreError."""
        self._drop_old()
        captions = self._kept.get((tenant, utterance))
        text = await captions.webvtt() if captions else await self._of_others(tenant, utterance)
        if text is None:
            kept = f"the last {KEPT} of this replica are" + (", and those of all while the cache has room" if self._shared else "")
            raise HTTPException(404, f"no captions are kept for utterance {utterance!r}; {kept}")
        return text

    def _share(self, tenant: str, utterance: str, text: str) -> None:
        """In a thread: nobody waits for it."""
        if self._shared is not None:
            self._threads.submit(partial(self._shared.put, _key(tenant, utterance), text.encode(), group=tenant))

    async def _of_others(self, tenant: str, utterance: str) -> str | None:
        known = UTTERANCE.fullmatch(utterance)
        if self._shared is None or known is None:
            return None
        get = partial(self._shared.get, _key(tenant, utterance), group=tenant)
        until, look_s, loop = int(known[1], 16) + WAIT_S, LOOK_S, asyncio.get_running_loop()
        while True:
            if (blob := await loop.run_in_executor(self._threads, get)) is not None:
                return blob.decode()
            if self._shared.away:
                raise StoreError("the store of captions does not answer; try again in a moment")
            if not 0 < until - time.time() < 2 * WAIT_S or until - WAIT_S <= self._cleared.get(tenant, 0.0):
                return None  # over for long, cleared, or not an id of ours
            await asyncio.sleep(look_s)
            look_s = min(2 * look_s, LOOK_MOST_S)


def _key(tenant: str, utterance: str) -> str:
    return blob_key("captions", tenant, utterance)
