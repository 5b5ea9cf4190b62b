"""When speech begins: with enough pictures in hand, by what was seen of those before."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from museserve_client import Client, Finished
from museserve_client.face import FPS, Take
from museserve_client.pictures import Picture
from museserve_client.sound import Sound
from museserve_client.talk import BEGIN_FRAMES, LOOKED, Talk, TalkStats, _Coming

IN_TIME_S, TOO_LATE_S = 1.4 / FPS, 1.6 / FPS  # for the rest, where two pictures are in hand


class Quiet(Talk[Sound]):
    def __init__(self, client: Client) -> None:
        super().__init__(client, None, 1.5, "yuv420p", logging.getLogger(__name__).log)
        self.stats = TalkStats()


@pytest.fixture
async def talk() -> AsyncIterator[Quiet]:
    async with Client("http://127.0.0.1:9") as client:
        yield Quiet(client)


def take(pictures: int, start: int = 0) -> Take[Sound]:
    made = Take(Sound(24_000), start, 248)
    made.add([Picture(number, 2, 2, b"") for number in range(pictures)])
    return made


async def test_speech_begins_with_a_segment_in_hand_or_with_all_that_comes(talk: Quiet) -> None:
    assert [talk._may_begin(take(n)) for n in (0, 2, BEGIN_FRAMES - 1, BEGIN_FRAMES)] == [False, False, False, True]
    short = take(2)
    short.close(Finished("a", 1, 2, 0))
    assert talk._may_begin(short)


async def test_it_begins_sooner_where_the_rest_came_in_time_every_time(talk: Quiet) -> None:
    talk._rest_s.extend([IN_TIME_S, 0.0])
    assert talk._may_begin(take(2)) and not talk._may_begin(take(1)) and not talk._may_begin(take(0))
    assert not talk._may_begin(take(2, start=960)), "nobody waits for what follows other sound"
    talk._rest_s.append(TOO_LATE_S)
    assert not talk._may_begin(take(2)) and talk._may_begin(take(3))
    talk._rest_s.extend([IN_TIME_S] * LOOKED)
    assert talk._may_begin(take(2)), "what was long ago is forgotten"


async def test_what_is_learned_of_pictures_is_learned_once(talk: Quiet) -> None:
    now = asyncio.get_running_loop().time()
    coming, whole, before = _Coming(now - 1.0), take(BEGIN_FRAMES), talk._latency_s
    talk._learn(take(2), coming, now - 2.0)
    assert not talk._rest_s and talk._latency_s == before, "there is nothing to begin with"
    talk._learn(whole, coming, now - 2.0)
    learned = talk._latency_s
    assert learned > before and len(talk._rest_s) == 1 and talk._rest_s[0] >= 1.0
    talk._learn(whole, coming, now - 2.0)
    assert talk._latency_s == learned and len(talk._rest_s) == 1
