"""Sound that is sent while it is made: parts, pauses, and how far it was played. The graph is one that draws what it is told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from configs.models import AppConfig
from deployments.ingress.sessions import protocol as p
from deployments.ingress.sessions.live_sound import BYTES_A_SAMPLE, PIECE_S, SentSound, SoundPart
from deployments.ingress.sessions.session import Session
from museserve.messages import Fragment, FragmentHead, VideoRequest
from museserve.timebase import FPS, SEGMENT_FRAMES, whole_segments
from tests.deployments.ingress.sessions.test_delayed import AVATAR, Nobody, said

RATE = 24_000
FRAME = RATE // FPS * BYTES_A_SAMPLE  # bytes
DATA = b"initmoof" + 2 * (b"tfdt" + bytes(12))  # what can be moved


class Mirror:
    """Films sound as soon as it is there, in whole segments. heard: of each call, what came."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.asked: list[VideoRequest] = []

    async def film(self, request: VideoRequest, sound: SoundPart | None = None) -> AsyncGenerator[Fragment, None]:
        self.asked.append(request)
        self.heard.append(b"")
        head: FragmentHead | None = FragmentHead("avc1", {})
        drawn = 0
        if sound is None:
            yield Fragment(DATA, 0, 8, total_frames=8, head=head)
            return
        while True:
            pcm, final = await sound.after(len(self.heard[-1]) // BYTES_A_SAMPLE)
            self.heard[-1] += pcm
            frames = -(-len(self.heard[-1]) // FRAME)
            ready = whole_segments(frames) if final else frames - frames % SEGMENT_FRAMES
            while drawn < ready:
                last = final and drawn + SEGMENT_FRAMES == ready
                yield Fragment(DATA, drawn, SEGMENT_FRAMES, total_frames=ready if last else None, head=head)
                head, drawn = None, drawn + SEGMENT_FRAMES
            if final:
                return


def session(graph: Mirror) -> Session:
    return Session(p.Start(captions=False), AVATAR, AppConfig(), graph.film, Nobody(), "s_1")


def say(live: Session, **message: Any) -> None:
    live.handle(json.dumps(message))


async def test_it_is_spoken_while_it_comes_however_it_is_cut() -> None:
    graph, sound = Mirror(), bytes(range(250)) * 96  # 12.5 frames
    live = session(graph)
    say(live, type="speak", id="a", pcm=RATE, phase=80)
    for at in range(0, len(sound), 333):
        live.handle_bytes(sound[at : at + 333])
    started = (await said(live.outbox, "started"))[-1]
    assert started["phase"] == 80  # before its end was told
    say(live, type="audio_end", id="a")
    finished = (await said(live.outbox, "finished"))[-1]
    assert finished["frames"] == 16 and finished["sound_ms"] == 500
    assert graph.heard == [sound]
    await live.aclose()


@pytest.mark.parametrize("named", [200, None])
async def test_a_pause_ends_a_part_and_the_next_joins_where_the_client_says_or_its_idle_loop_must_be(named: int | None) -> None:
    graph = Mirror()
    live = session(graph)
    say(live, type="speak", id="a", pcm=RATE, phase=0)
    live.handle_bytes(bytes(FRAME * 10))
    waiting = (await said(live.outbox, "waiting"))[-1]
    assert waiting["frames"] == 16 and waiting["sound_ms"] == 400
    await asyncio.sleep(1.0)
    if named is not None:
        say(live, type="played", id="a", frames=16, phase=named)
    live.handle_bytes(bytes(FRAME * 8))
    say(live, type="audio_end", id="a")
    messages = await said(live.outbox, "finished")
    again = next(m for m in messages if m["type"] == "started")
    assert again["first_frame"] == 16
    if named is not None:
        assert again["phase"] == named
    else:
        assert 10 <= again["phase"] - waiting["phase"] < 40
    assert messages[-1]["frames"] == 24 and messages[-1]["sound_ms"] == 720
    assert [len(heard) for heard in graph.heard] == [FRAME * 10, FRAME * 8] and [request.begun for request in graph.asked] == [False, True]
    await live.aclose()


async def test_a_client_that_is_far_ahead_may_pause() -> None:
    """Its sound is one part as long as there is something left to play."""
    graph = Mirror()
    live = session(graph)
    say(live, type="speak", id="a", pcm=RATE, phase=0)
    live.handle_bytes(bytes(FRAME * 80))
    await asyncio.sleep(0.6)
    live.handle_bytes(bytes(FRAME * 8))
    say(live, type="audio_end", id="a")
    await said(live.outbox, "finished")
    assert [len(heard) for heard in graph.heard] == [FRAME * 88]
    await live.aclose()


async def test_interrupted_tells_how_far_it_was_played() -> None:
    live = session(Mirror())
    say(live, type="speak", id="a", pcm=RATE)
    live.handle_bytes(bytes(FRAME * 40))
    await said(live.outbox, "started")
    say(live, type="played", id="a", frames=33)
    say(live, type="interrupt")
    interrupted = (await said(live.outbox, "interrupted"))[-1]
    assert interrupted["played_ms"] == 33 * 40 and interrupted["played_told"] is True
    live.handle_bytes(bytes(FRAME))  # is on its way, and passed over
    say(live, type="speak", id="b", pcm=RATE)
    live.handle_bytes(bytes(FRAME * 40))
    await said(live.outbox, "started")
    await asyncio.sleep(0.4)
    say(live, type="interrupt", id="b")
    estimated = (await said(live.outbox, "interrupted"))[-1]
    assert estimated["played_told"] is False and 320 <= estimated["played_ms"] < 1_600
    await live.aclose()


async def test_a_finished_one_may_be_playing_still() -> None:
    live = session(Mirror())
    say(live, type="speak", id="a", pcm=RATE)
    live.handle_bytes(bytes(FRAME * 40))
    say(live, type="audio_end", id="a")
    await said(live.outbox, "finished")
    say(live, type="played", id="a", frames=7)
    say(live, type="interrupt")
    told = (await said(live.outbox, "nothing_to_interrupt"))[-1]
    assert told["played_ms"] == 280 and told["played_told"] is True
    say(live, type="played", id="a", frames=41)
    assert (await said(live.outbox, "error"))[-1]["code"] == "out_of_place"
    await live.aclose()


async def test_what_cannot_be_taken_ends_it_and_the_next_is_spoken() -> None:
    config = AppConfig.model_validate({"limits": {"max_audio_s": 1.0}})
    live = Session(p.Start(captions=False), AVATAR, config, Mirror().film, Nobody(), "s_1")
    say(live, type="speak", id="long", pcm=RATE)
    live.handle_bytes(bytes(FRAME * 20))
    await said(live.outbox, "started")
    live.handle_bytes(bytes(FRAME * 6))
    assert (await said(live.outbox, "interrupted"))[-1]["by"] == "error"
    say(live, type="speak", id="empty", pcm=RATE)
    await asyncio.sleep(0.05)
    say(live, type="audio_end", id="empty")
    assert [m["code"] for m in await said(live.outbox, "interrupted") if m["type"] == "error"] == ["bad_audio"]
    say(live, type="speak", id="none", audio=True)
    await asyncio.sleep(0.05)  # it is its turn
    say(live, type="audio_end", id="none")
    await said(live.outbox, "interrupted")
    say(live, type="speak", id="text", text="Go on.")
    assert (await said(live.outbox, "finished"))[-1]["id"] == "text"
    await live.aclose()


async def test_it_goes_on_where_another_session_had_come_to() -> None:
    graph = Mirror()
    live = session(graph)
    part = {"first_frame": 16, "phase": 40, "first_word": 0, "first_cue": 0, "sound_ms": 400}
    say(live, type="speak", id="a", pcm=RATE, received={"frames": 16, "part": part})
    live.handle_bytes(b"\1\0" * (FRAME * 10 // 2) + b"\2\0" * (FRAME * 8 // 2))
    say(live, type="audio_end", id="a")
    finished = (await said(live.outbox, "finished"))[-1]
    assert finished["frames"] == 24 and finished["sound_ms"] == 720
    assert graph.heard == [b"\2\0" * (FRAME * 8 // 2)]
    await live.aclose()


async def test_a_long_sound_that_is_there_at_once_goes_in_pieces() -> None:
    part, pcm = SoundPart(RATE, 0), bytes(range(256)) * (RATE // 40)  # 3.2 s
    part.add(pcm)
    part.close()
    pieces: list[bytes] = []
    final = False
    while not final:
        piece, final = await part.after(sum(map(len, pieces)) // BYTES_A_SAMPLE)
        pieces.append(piece)
    assert b"".join(pieces) == pcm and [len(piece) for piece in pieces[:-1]] == [round(PIECE_S * RATE) * BYTES_A_SAMPLE] * 3


def test_where_in_the_sound_a_frame_is() -> None:
    sound = SentSound(RATE)
    sound.add(bytes(FRAME * 10))
    first = sound.take()
    sound.pause()
    sound.add(bytes(FRAME * 10))
    second = sound.take()
    assert first is not None and second is not None
    second.first_frame = 16
    assert [sound.ms_at(frame) for frame in (0, 9, 10, 15, 16, 17, 26, 30)] == [0, 360, 400, 400, 400, 440, 800, 800]
