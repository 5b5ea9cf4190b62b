"""LiveKit's runner, synchronizer and native tracks, with a stand-in for the room alone: what the agent is told, and what comes out of the tracks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from agent import RATE, frames_of
from conftest import until
from livekit.agents.voice import avatar, io
from livekit.plugins.museserve import AvatarRunner, VideoGenerator
from room import Room, Watched, watching


@dataclass
class Agent:
    """What an agent's session does with its output, and what it is told. Times are of perf_counter."""

    output: avatar.QueueAudioOutput
    started: list[float] = field(default_factory=list)
    finished: list[tuple[float, io.PlaybackFinishedEvent]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.output.on("playback_started", lambda event: self.started.append(time.perf_counter()))
        self.output.on("playback_finished", lambda event: self.finished.append((time.perf_counter(), event)))

    async def say(self, pcm: bytes, flush: bool = True) -> None:
        for frame in frames_of(pcm):
            await self.output.capture_frame(frame)
        if flush:
            self.output.flush()

    def interrupt(self) -> float:
        """As `AgentSession` does it, twice. Returns when."""
        at = time.perf_counter()
        self.output.flush()
        self.output.clear_buffer()
        self.output.clear_buffer()
        return at


@asynccontextmanager
async def published(generator: VideoGenerator, kind: type[avatar.AvatarRunner]) -> AsyncIterator[tuple[Agent, Watched]]:
    room, output = Room(), avatar.QueueAudioOutput(sample_rate=RATE, wait_playback_start=True)
    runner = kind(room, audio_recv=output, video_gen=generator, options=generator.options)  # type: ignore[arg-type]
    async with watching(room, RATE) as watched:
        await runner.start()
        await until(lambda: len(watched.pictures) > 5)
        yield Agent(output), watched
        await runner.aclose()


def energy(samples: np.ndarray) -> float:
    return float(np.square(samples.astype(float)).sum())


@pytest.mark.parametrize("kind", [AvatarRunner, avatar.AvatarRunner])
async def test_a_segment_is_told_and_heard_once(generator: VideoGenerator, speech: bytes, kind: type[avatar.AvatarRunner]) -> None:
    async with published(generator, kind) as (agent, watched):
        before = len(watched.pictures)
        for n in (1, 2):
            await agent.say(speech)
            await asyncio.wait_for(agent.output.wait_for_playout(), 60)
            assert (len(agent.started), len(agent.finished)) == (n, n)
            event = agent.finished[-1][1]
            assert not event.interrupted and event.playback_position == pytest.approx(len(speech) / 2 / RATE, abs=0.001)
        await asyncio.sleep(1)
        assert (len(agent.started), len(agent.finished)) == (2, 2) and len(watched.pictures) > before + 25
        assert energy(watched.samples()) == pytest.approx(2 * energy(np.frombuffer(speech, "<i2")), rel=0.1), "all of it came out, once"


@pytest.mark.parametrize("kind", [AvatarRunner, avatar.AvatarRunner])
async def test_an_interruption_is_told_once_with_its_place(generator: VideoGenerator, speech: bytes, kind: type[avatar.AvatarRunner]) -> None:
    async with published(generator, kind) as (agent, watched):
        await agent.say(speech * 2)
        await until(lambda: agent.started)
        await asyncio.sleep(0.8)
        at = agent.interrupt()
        await asyncio.wait_for(agent.output.wait_for_playout(), 60)
        ((_, event),) = agent.finished
        assert event.interrupted and 0 < event.playback_position <= at - agent.started[0] + 0.2
        await asyncio.sleep(1.5)
        assert (len(agent.started), len(agent.finished)) == (1, 1), "a late frame would start it again"
        assert (watched.loud_after(at) or 0) < 1.0
        await agent.say(speech)
        await asyncio.wait_for(agent.output.wait_for_playout(), 60)
        assert (len(agent.started), len(agent.finished)) == (2, 2) and not agent.finished[1][1].interrupted
        assert agent.finished[1][1].playback_position == pytest.approx(len(speech) / 2 / RATE, abs=0.001)


async def test_what_was_taken_back_before_it_was_read_is_told_as_well(generator: VideoGenerator, speech: bytes) -> None:
    async with published(generator, AvatarRunner) as (agent, _):
        await agent.say(speech)
        agent.interrupt()  # before the runner came to read
        await asyncio.wait_for(agent.output.wait_for_playout(), 5)
        assert [(event.playback_position, event.interrupted) for _, event in agent.finished] == [(0.0, True)]
        await agent.say(speech, flush=False)
        await until(lambda: agent.started)
        agent.output.clear_buffer()  # and before the agent ended it
        await agent.say(speech)  # still the same segment
        await asyncio.sleep(1)
        assert len(agent.finished) == 2 and agent.finished[1][1].interrupted and len(agent.started) == 1
        await agent.say(speech)
        await asyncio.wait_for(agent.output.wait_for_playout(), 60)
        assert len(agent.finished) == 3 and not agent.finished[2][1].interrupted


async def test_segments_that_overlap_are_each_told(generator: VideoGenerator, speech: bytes) -> None:
    async with published(generator, AvatarRunner) as (agent, _):
        await agent.say(speech)
        await agent.say(speech[:48_000])
        await asyncio.wait_for(agent.output.wait_for_playout(), 60)
        assert [round(event.playback_position, 2) for _, event in agent.finished] == [round(len(speech) / 2 / RATE, 2), 1.0]
        assert len(agent.started) == 2
