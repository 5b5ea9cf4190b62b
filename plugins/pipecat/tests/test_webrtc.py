"""What a browser sees and hears of the bot, through Pipecat's WebRTC transport."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("aiortc", reason="NO AIORTC in this environment: pip install 'pipecat-ai[webrtc]'")

from bot import PATIENCE_S, RATE, talking  # noqa: E402
from peer import received  # noqa: E402
from pipecat.frames.frames import BotStartedSpeakingFrame, BotStoppedSpeakingFrame, InterruptionFrame  # noqa: E402
from pipecat_museserve import MuseserveVideoService  # noqa: E402

from tests.peer_media import at_48_khz, found, last_loud  # noqa: E402


def largest_motion(pictures: list[np.ndarray]) -> float:
    """Of the mouth, from one picture to the next. Not their mean: on a machine that is busy most that come are the same once more."""
    mouths = [picture[64:100, 44:84].astype(int) for picture in pictures]
    return float(max(np.abs(a - b).mean() for a, b in zip(mouths, mouths[1:], strict=False)))


def heard(wanted: np.ndarray, sound: np.ndarray) -> float:
    """How well a fifth of a second of it correlates with what was received, in the middle of all. Another sound has 0.3.

    On a machine that is busy there are gaps between, so it is not looked for in one piece.
    """
    pieces = [wanted[at : at + 9_600] for at in range(0, len(wanted) - 9_600, 9_600)]
    return float(np.median([found(piece, sound)[1] for piece in pieces if np.abs(piece).max() > 500]))


async def test_a_peer_sees_the_lips_and_hears_the_sound_until_it_is_interrupted(url: str, pcm: bytes) -> None:
    service = MuseserveVideoService(url=url, patience_s=PATIENCE_S)
    async with received() as (transport, got), talking(service, transport.output()) as bot:
        await bot.until(lambda: len(got.pictures) > 40)
        assert np.abs(got.samples()).max() < 300, "it is silent before it says something"
        idle = [picture for _, picture in got.pictures[-30:]]
        before = time.perf_counter()
        await bot.say(pcm, "a")
        await bot.until(lambda: bot.stopped("a") and BotStoppedSpeakingFrame in map(type, bot.upstream))
        assert heard(at_48_khz(pcm), got.samples()) > 0.6
        spoken = [picture for came, picture in got.pictures if came > before]
        assert largest_motion(spoken) > 2 * largest_motion(idle)
        assert [type(frame) for frame in bot.upstream if isinstance(frame, (BotStartedSpeakingFrame, BotStoppedSpeakingFrame))] == [
            BotStartedSpeakingFrame,
            BotStoppedSpeakingFrame,
        ]
        await bot.say(pcm * 2, "b")
        await bot.until(lambda: len(bot.sound("b")) > RATE)
        await bot.send(InterruptionFrame())
        await bot.until(lambda: bot.came(InterruptionFrame))
        cut = bot.came(InterruptionFrame)[0]
        pictures = len(got.pictures)
        await bot.until(lambda: len(got.pictures) > pictures + 30)
        assert last_loud(got.sound) - cut < 1.0, "on a machine that is busy; benchmarks measure it"
