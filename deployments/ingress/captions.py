"""Captions of the videos that this replica made last."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from typing import TypeVar

from starlette.exceptions import HTTPException

from museserve.media.captions import cues, webvtt
from museserve.messages import FilmHead, Fragment, Word

KEPT = 512

T = TypeVar("T")


class Captions:
    """The words of one utterance as its video tells them; `known` once all are."""

    def __init__(self) -> None:
        self._words: list[Word] = []
        self._known = asyncio.Event()

    async def heard(self, video: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """The items of the video, which are listened to."""
        try:
            async for item in video:
                if isinstance(item, Fragment | FilmHead):
                    self._words.extend(item.words)
                    if isinstance(item, FilmHead) or item.words_final:
                        self._known.set()
                yield item
        finally:
            self._known.set()
            await video.aclose()

    async def webvtt(self) -> str:
        await self._known.wait()
        return webvtt(cues(self._words))


class CaptionsStore:
    """The captions of the last `KEPT` utterances."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Captions] = OrderedDict()

    def keep(self, utterance: str) -> Captions:
        captions = self._kept[utterance] = Captions()
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return captions

    def drop(self, utterance: str) -> None:
        self._kept.pop(utterance, None)

    def get(self, utterance: str) -> Captions:
        """Raises HTTPException 404."""
        if utterance not in self._kept:
            raise HTTPException(404, f"no captions are kept for utterance {utterance!r}; the last {KEPT} are")
        return self._kept[utterance]
