"""What the pipeline calls: the engines and the avatars, however far away they run.

The service calls its replicas, one process its own objects.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from museserve.media.background import Background
from museserve.messages import (
    AvatarRef,
    Conditioning,
    EngineInfo,
    RenderedCrops,
    RenderRequest,
    SpeechChunk,
    SpeechInfo,
    SpeechRequest,
    SpeechWindow,
    VideoRequest,
)

Listen = Callable[[SpeechWindow], Awaitable[Conditioning]]
Render = Callable[[RenderRequest], Awaitable[RenderedCrops]]


@dataclass(frozen=True)
class LipSync:
    """A lip-sync engine: what it is, and its two verbs. Cancelling a call cancels what it waits for."""

    info: EngineInfo
    listen: Listen
    render: Render


class Engines(Protocol):
    """Everything that an utterance needs of others."""

    async def lipsync(self) -> LipSync: ...

    async def speech(self) -> SpeechInfo: ...

    def synthesize(self, request: SpeechRequest) -> AsyncGenerator[SpeechChunk, None]:
        """Chunks in order. Raises TextError, SpeechEngineError."""
        ...


class FilmedAvatar(Protocol):
    """An opened avatar."""

    @property
    def ref(self) -> AvatarRef: ...

    @property
    def uploaded(self) -> bool:
        """Whether it was made of somebody's portrait or clip."""
        ...

    def require(self, engine: EngineInfo) -> None:
        """Raises EngineUnavailableError when the engine that runs cannot draw it."""
        ...

    def background(self, engine: str) -> Background:
        """What the engine's utterances are drawn on. Reads files."""
        ...


OpenAvatar = Callable[[str], FilmedAvatar]
Place = Callable[[VideoRequest], AbstractAsyncContextManager[None]]
"""Held while an utterance is drawn. Entering it waits for its turn, or raises BusyError."""
