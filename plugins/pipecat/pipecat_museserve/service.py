"""The processor that stands between a TTS service and the output transport."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from dataclasses import dataclass
from typing import Any

from loguru import logger
from museserve_client import Client, UnreachableError
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    StartFrame,
    SystemFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.ai_service import AIService
from pipecat.services.settings import ServiceSettings
from pipecat.utils.errors import ErrorCategory

from pipecat_museserve.speech import Speech
from pipecat_museserve.talking import Stats, Step, TalkingFace

DEFAULT_URL = "http://127.0.0.1:8001"
# Turns of the event loop in which the next processor takes what was pushed out of its input queue: there an interruption would overtake it, and not
# clear it.
SETTLED_TURNS = 4
CUT_CONTEXTS = 64  # that are remembered: a TTS service may still send of them


@dataclass
class MuseserveVideoSettings(ServiceSettings):
    """Nothing can be changed while it runs."""


class MuseserveVideoService(AIService):
    """Gives what a TTS service says a talking face: `Pipeline([..., tts, MuseserveVideoService(), transport.output()])`.

    In go `TTSStartedFrame`, `TTSAudioRawFrame`, `TTSStoppedFrame` and `InterruptionFrame`. Out come the very samples that went in, as
    `TTSAudioRawFrame`, and before each 40 ms of them the picture that was drawn for it, an `OutputImageRawFrame` (RGB) with `sync_with_audio`.
    Between and before contexts there are pictures of the idle loop. All other frames keep their places among the sound; those with a time are told
    later by as much as the sound is. Where the service is away, the sound goes on with idle pictures, and an `ErrorFrame` that is not fatal says so
    once.
    """

    Settings = MuseserveVideoSettings
    _settings: MuseserveVideoSettings

    def __init__(
        self,
        *,
        url: str | None = None,
        key: str | None = None,
        avatar: str | None = None,
        patience_s: float = 1.5,
        client: Client | None = None,
        settings: MuseserveVideoSettings | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            url, key: of museserve; MUSESERVE_URL and MUSESERVE_KEY where they are not given.
            avatar: an id of `GET /v1/avatars`; the service's default where it is not given.
            patience_s: how long sound waits for its pictures. Then it is heard without them.
            client: to use instead of an own one; it is left open.
        """
        default_settings = self.Settings(model=None)
        if settings is not None:
            default_settings.apply_update(settings)
        super().__init__(settings=default_settings, **kwargs)
        self._own_client = client is None
        self._client = client or Client(url or os.getenv("MUSESERVE_URL") or DEFAULT_URL, key or os.getenv("MUSESERVE_KEY"))
        self._face = TalkingFace(self._client, avatar, patience_s, self._tell_away, self._tell_back)
        self._pushing = asyncio.Lock()  # between a picture and an interruption nothing is half pushed
        self._cut: deque[str] = deque(maxlen=CUT_CONTEXTS)
        self._shower: asyncio.Task[None] | None = None

    @property
    def stats(self) -> Stats:
        return self._face.stats

    def can_generate_metrics(self) -> bool:
        """TTFB: from the first sound of a context that came to the first that went on with its picture."""
        return True

    # --- begin and end --------------------------------------------------------------------------------------------

    async def stop(self, frame: EndFrame) -> None:
        """What was said before is heard first."""
        await super().stop(frame)
        for speech in self._face.line:
            await speech.end()
        self._face.wrote()
        await self._face.wait_silent()
        await self._close()

    async def cancel(self, frame: CancelFrame) -> None:
        await super().cancel(frame)
        await self._close()

    async def cleanup(self) -> None:
        await super().cleanup()
        await self._close()

    async def _close(self) -> None:
        shower, self._shower = self._shower, None
        if shower is not None:
            await self.cancel_task(shower)
        await self._face.aclose()
        if self._own_client:
            await self._client.aclose()

    # --- what comes -----------------------------------------------------------------------------------------------

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, StartFrame):
            await self.push_frame(frame, direction)
            self._face.start()
            self._shower = self.create_task(self._show())
        elif isinstance(frame, InterruptionFrame):
            await self._interrupt(frame, direction)
        elif direction is FrameDirection.UPSTREAM or isinstance(frame, (SystemFrame, EndFrame)) or self._shower is None:
            await self.push_frame(frame, direction)
        elif isinstance(frame, TTSAudioRawFrame):
            await self._hear(frame)
        elif isinstance(frame, TTSStartedFrame) and frame.context_id is not None and frame.context_id in self._cut:
            self._cut.remove(frame.context_id)  # of a voice that calls all its contexts the same
            await self._hold(frame)
        elif not self._is_cut(frame):
            await self._hold(frame)

    async def _hear(self, frame: TTSAudioRawFrame) -> None:
        if not frame.audio or self._is_cut(frame):
            return
        now = asyncio.get_running_loop().time()
        speech = self._face.speaking
        if speech is None or not speech.fits(frame):
            if speech is not None:
                await self._end(speech)
            speech = Speech(frame, now)
            if not self._face.line:
                await self.start_ttfb_metrics()
            self._face.add(speech)
        elif speech.played_out:
            speech.since = now  # its speaker had paused
        await speech.push(frame)
        self._face.wrote()

    async def _hold(self, frame: Frame) -> None:
        """Behind the sound that it follows."""
        context = getattr(frame, "context_id", None)
        speech = self._face.of_context(context) if frame.pts else self._face.speaking
        if speech is None:
            await self.push_frame(frame)
            return
        speech.hold(frame)
        if isinstance(frame, TTSStoppedFrame) and context in (speech.context, None):
            await self._end(speech)

    async def _end(self, speech: Speech) -> None:
        await speech.end()
        self._face.wrote()

    def _is_cut(self, frame: Frame) -> bool:
        """Whether it is of a context that was interrupted."""
        return frame.interruptible and getattr(frame, "context_id", None) in self._cut

    async def _interrupt(self, frame: InterruptionFrame, direction: FrameDirection) -> None:
        async with self._pushing:
            cleared = self._face.clear()
            self._cut.extend(speech.context for speech in cleared if speech.context is not None)
            for _ in range(SETTLED_TURNS):
                await asyncio.sleep(0)
            await self.push_frame(frame, direction)
            for speech in cleared:
                for held in speech.uninterruptible():
                    await self.push_frame(held)

    # --- what goes on ---------------------------------------------------------------------------------------------

    async def _show(self) -> None:
        async for step in self._face.steps():
            async with self._pushing:
                await self._push(step)

    async def _push(self, step: Step) -> None:
        if step.picture is not None and step.epoch == self._face.epoch:
            picture = step.picture
            image = OutputImageRawFrame(picture.data, (picture.width, picture.height), "RGB")
            image.sync_with_audio = True
            await self.push_frame(image)
        speech = step.speech
        if speech is None or speech.cleared:
            return
        if step.begins:
            await self.stop_ttfb_metrics()
        if step.sound is not None:
            await self.push_frame(step.sound)
        for frame in speech.released(asyncio.get_running_loop().time()):
            await self.push_frame(frame)

    def _tell_away(self, why: str, error: Exception | None) -> None:
        category = ErrorCategory.CONNECTIVITY if error is None or isinstance(error, UnreachableError) else None
        self.create_task(self.push_error(f"museserve is away: {why}", exception=error, category=category))

    def _tell_back(self) -> None:
        logger.info(f"{self}: museserve is back")
