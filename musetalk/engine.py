"""The two verbs of a lip-sync engine. Both engines implement them, so the graph never asks which one runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from museserve.messages import ByteArray, Conditioning, EngineInfo, RenderRequest, SpeechWindow

ANIMATOR, MUSETALK = "animator", "musetalk"  # the engines' names, in `EngineInfo` and in avatars


class LipSyncEngine(Protocol):
    """`listen` hears, `render` draws. Both are synchronous, thread-safe and hold no state of an utterance."""

    info: EngineInfo

    def listen(self, speech: SpeechWindow) -> Conditioning:
        """Rows for frames `speech.first_frame` .. `+ speech.n_frames - 1`."""
        ...

    def render(self, requests: Sequence[RenderRequest]) -> list[ByteArray]:
        """Crops for each request, in order: I420 uint8 (n, h * 3 // 2, w), the avatar's box for this engine."""
        ...

    def check(self) -> None:
        """Raise `EngineError` when the device is lost; the replica is then replaced."""
        ...
