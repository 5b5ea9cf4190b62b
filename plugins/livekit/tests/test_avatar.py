"""A real agent's session speaks through the face, is interrupted, and goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from conftest import PATIENCE_S
from livekit.agents import Agent, AgentSession, Plugin
from livekit.agents.metrics.base import AvatarMetrics
from livekit.plugins import museserve
from room import Room, watching


async def test_an_agent_speaks_through_the_face_and_is_interrupted(url: str) -> None:
    room: Any = Room()
    voice = museserve.TTS(url=url)
    session: AgentSession[Any] = AgentSession(tts=voice)
    avatar = museserve.AvatarSession(url=url, patience_s=PATIENCE_S)
    metrics: list[AvatarMetrics] = []
    avatar.on("metrics_collected", metrics.append)
    finished: list[Any] = []
    async with watching(room, 24_000) as watched:
        await avatar.start(session, room=room)
        await avatar.wait_for_join(timeout=60)
        assert avatar.avatar_identity == "agent" and metrics[0].avatar_joined_time
        assert session.output.audio is not None
        session.output.audio.on("playback_finished", finished.append)
        await session.start(Agent(instructions=""), record=False)
        await asyncio.wait_for(session.say("Good morning.").wait_for_playout(), 120)
        assert [(event.interrupted, event.playback_position > 0.5) for event in finished] == [(False, True)]
        assert max(abs(int(sample)) for sample in watched.samples()) > 1_000

        started = asyncio.Event()
        session.output.audio.on("playback_started", lambda event: started.set())
        handle = session.say("Tell me about a project that you are proud of. What made it hard? And who was in the team?")
        await asyncio.wait_for(started.wait(), 120)
        await asyncio.sleep(0.5)
        handle.interrupt()
        await asyncio.wait_for(handle.wait_for_playout(), 60)
        assert len(finished) == 2 and finished[1].interrupted and 0 < finished[1].playback_position < 5
        await asyncio.wait_for(session.say("Go on.").wait_for_playout(), 120)
        assert len(finished) == 3 and not finished[2].interrupted
        await session.aclose()
        await avatar.aclose()
        await voice.aclose()


async def test_a_worker_needs_to_know_livekit(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)
    avatar = museserve.AvatarSession(worker_url="http://127.0.0.1:9")
    with pytest.raises(ValueError, match="LIVEKIT_URL"):
        await avatar.start(AgentSession(), room=Room())  # type: ignore[arg-type]
    assert avatar.avatar_identity == "museserve-avatar" and avatar.provider == "museserve"


def test_the_plugin_is_registered() -> None:
    assert [plugin.version for plugin in Plugin.registered_plugins if plugin.package == "livekit.plugins.museserve"] == [museserve.__version__]
