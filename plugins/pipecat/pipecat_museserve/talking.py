"""One face that talks: 25 pictures a second, and beside them the sound that they were drawn for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from loguru import logger
from museserve_client import Client
from museserve_client.face import FPS, ROUNDED_S
from museserve_client.pictures import Picture
from museserve_client.talk import Talk, TalkStats
from pipecat.frames.frames import TTSAudioRawFrame

from pipecat_museserve.speech import Speech

FRAME_S = 1 / FPS
LEAD_S = 0.12  # speech goes on before it is heard, pictures and sound alike: the event loop may stand for so long
POLL_S = 0.005  # for a picture that is late, within that lead
LATE_S = 0.2  # behind its time by more, the clock is set anew


@dataclass
class Stats(TalkStats):
    """Since the start."""

    contexts: int = 0
    pictures: int = 0


@dataclass(frozen=True)
class Step:
    """What goes on now. picture: None while there is no face. begins: `sound` is the first of `speech`. over: `speech` was heard to its end.

    epoch: of the clears; a picture of an earlier one is not wanted any more, nor anything of a `speech` that was cleared.
    """

    epoch: int
    picture: Picture | None
    speech: Speech | None = None
    sound: TTSAudioRawFrame | None = None
    begins: bool = False
    over: bool = False


class TalkingFace(Talk[Speech]):
    """`start`, then iterate over `steps` once; `aclose` at the end.

    on_away: told once when what is said goes on without lips, or there is no face, and why. on_back: told when lips move again.
    """

    def __init__(
        self, client: Client, avatar: str | None, patience_s: float, on_away: Callable[[str, Exception | None], None], on_back: Callable[[], None]
    ) -> None:
        super().__init__(client, avatar, patience_s, "rgb24", lambda level, message: logger.log(logging.getLevelName(level), message))
        self.stats: Stats = Stats()
        self.epoch = 0  # of clears
        self._on_away, self._on_back = on_away, on_back
        self._away = False
        self._silent = asyncio.Event()
        self._silent.set()
        self._due = 0.0

    def start(self) -> None:
        self._due = asyncio.get_running_loop().time()
        self.keep_session()

    async def aclose(self) -> None:
        await self.close()
        self._silent.set()

    def be_away(self, why: str, error: Exception | None = None) -> None:
        if not self._away:
            self._away = True
            self._on_away(why, error)

    def be_back(self) -> None:
        if self._away:
            self._away = False
            self._on_back()

    # --- what is said ---------------------------------------------------------------------------------------------

    @property
    def speaking(self) -> Speech | None:
        """What is said, or what is said last where more waits."""
        return self.line[-1] if self.line else None

    def of_context(self, context: str | None) -> Speech | None:
        """What is said of a TTS context, else as `speaking`."""
        return next((speech for speech in reversed(self.line) if context is not None and speech.context == context), self.speaking)

    def add(self, speech: Speech) -> None:
        self.line.append(speech)
        self._silent.clear()
        self.stats.contexts += 1

    async def wait_silent(self) -> None:
        """Until all was heard."""
        await self._silent.wait()

    # --- interruptions --------------------------------------------------------------------------------------------

    def clear(self) -> list[Speech]:
        """Nothing of what may be interrupted goes on any more. Returns that."""
        now = asyncio.get_running_loop().time()
        cleared = [speech for speech in self.line if speech.interruptible]
        if not cleared:
            return []
        self.epoch += 1
        self.stats.interrupted += len(cleared)
        take = self._showing
        if take is not None and take.segment in cleared and self._idle is not None:
            # What went on and was not heard is not seen either.
            ahead = max(0, int((self._due - now) * FPS))
            shown = max(0, take.shown - ahead)
            self._idle.seek((take.grid + shown) % self._idle.frames)
            if take.utterance is not None:
                take.utterance.played(shown)
        self._due = min(self._due, now + FRAME_S)
        for speech in cleared:
            self.line.remove(speech)
            speech.cleared = True
        self._forget([take for take in self._takes if take.segment in cleared])
        if not self.line:
            self._silent.set()
        return cleared

    # --- what goes on ---------------------------------------------------------------------------------------------

    async def steps(self) -> AsyncIterator[Step]:
        """25 a second, for ever."""
        while True:
            await self._wait_due()
            epoch = self.epoch
            picture = await self.picture()
            now = asyncio.get_running_loop().time()
            speech = self.line[0] if self.line else None
            begins = speech is not None and not speech.out.sent
            sound = None if speech is None else self._sound(speech, now)
            over = speech is not None and speech.over(now)
            if over:
                self._next_in_line(now)
            self._due = max(self._due, now - LATE_S) + FRAME_S
            self.stats.pictures += picture is not None
            yield Step(epoch, picture, speech, sound, begins and sound is not None, over)

    async def _wait_due(self) -> None:
        """Speech that goes on goes before its time, as soon as there are pictures of it."""
        loop = asyncio.get_running_loop()
        speech = self.line[0] if self.line else None
        if speech is not None and speech.out.sent and not speech.played_out:
            await asyncio.sleep(self._due - LEAD_S - loop.time())
            while not self._may_go(speech) and loop.time() < self._due:  # noqa: ASYNC110  # what it waits for comes in three ways
                await asyncio.sleep(POLL_S)
        else:
            await asyncio.sleep(self._due - loop.time())

    def _may_go(self, speech: Speech) -> bool:
        """Whether the next step has sound that follows what is heard now."""
        take = self._showing
        if speech.through or take is None or take.segment is not speech:
            return speech.through
        return take.ready > 0 and speech.place(min(take.sample_at(take.shown + 1), take.drawn_upto())) > speech.out.sent

    def _next_in_line(self, now: float) -> None:
        self.line.popleft()
        if self.line:
            self.line[0].since = now
        else:
            self._silent.set()

    def _sound(self, speech: Speech, now: float) -> TTSAudioRawFrame | None:
        """What goes on beside the picture that is seen when `_due` comes."""
        take, out, before = self._showing, speech.out, speech.out.sent
        if speech.through:
            upto = before + out.rate // FPS
        elif speech.ended and out.samples - before <= ROUNDED_S * out.rate:
            upto = out.samples
        elif take is None or take.segment is not speech or self._stalled:
            return None
        else:
            upto = speech.place(min(take.sample_at(take.shown), take.drawn_upto()))
        sound = speech.step(upto)
        if sound is not None:
            self._due = max(self._due, now)  # sound that is late is heard late, and what follows it, too
            speech.hear(self._due, before)
        return sound
