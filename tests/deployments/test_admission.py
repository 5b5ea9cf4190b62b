"""Places among what is drawn: several Mux replicas in one process, with the boards of real LipSync replicas between them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from configs.models import CapacityConfig
from deployments import admission
from deployments.admission import Admission, Board, Note, Posted
from deployments.ingress.graph_client import asked_again
from museserve.errors import BusyError
from museserve.messages import VideoRequest

STREAM = VideoRequest("u", "woman")
FILM = VideoRequest("u", "woman", paced=False)
BEGUN = VideoRequest("u", "woman", begun=True)


class Graph:
    """Boards, and Mux replicas that ask them. `silent`: whether the boards answer."""

    def __init__(self, *streams: float, start_s: float = 3.0, most: int = 8) -> None:
        self.boards = [Board(n, start_s) for n in streams]
        self.silent, self._most = False, most
        self.stack = AsyncExitStack()

    async def ask(self, note: Note) -> Sequence[Posted]:
        if self.silent or not self.boards:
            raise TimeoutError("none answers")
        return [board.post(note) for board in self.boards]

    def mux(self, name: str = "a", **capacity: float) -> Admission:
        return Admission(self.ask, name, CapacityConfig.model_validate(capacity), self._most)

    async def enter(self, mux: Admission, request: VideoRequest, times: int = 1) -> None:
        for _ in range(times):
            await self.stack.enter_async_context(mux.place(request))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "ASK_S", 0.02)
    monkeypatch.setattr(admission, "KEPT_S", 0.2)


@asynccontextmanager
async def left(graph: Graph) -> AsyncIterator[Graph]:
    async with graph.stack:
        yield graph
    current = asyncio.current_task()
    for task in asyncio.all_tasks() - {current}:
        task.cancel()


async def test_as_many_as_are_drawn_in_time(quick: None) -> None:
    async with left(Graph(3.5, 2.0)) as graph:
        mux = graph.mux()
        await graph.enter(mux, STREAM, 5)
        with pytest.raises(BusyError, match="5 streams are live, and the 2 lip-sync replicas that run draw 5") as refused:
            await graph.enter(mux, STREAM)
        assert refused.value.retry_after_s == 8  # 3 to start, 5 until it is decided
        assert mux.streams == 5


async def test_who_only_says_that_it_goes_on_gets_half_of_the_room_again(quick: None) -> None:
    claims = replace(STREAM, first_frame=64, claimed=True)
    async with left(Graph(4.0)) as graph:
        mux = graph.mux()
        await graph.enter(mux, STREAM, 4)
        await graph.enter(mux, claims, 2)
        with pytest.raises(BusyError):
            await graph.enter(mux, claims)
        with pytest.raises(BusyError):
            await graph.enter(mux, replace(claims, begun=True))  # that, too, is by its word: a part's number
        await graph.enter(mux, replace(STREAM, first_frame=64))  # the service itself knows: a Mux was lost
        assert mux.streams == 7


async def test_a_place_is_given_back(quick: None) -> None:
    async with left(Graph(1.0)) as graph:
        mux = graph.mux()
        for _ in range(3):
            async with mux.place(STREAM):
                with pytest.raises(BusyError):
                    await graph.enter(mux, STREAM)
        with pytest.raises(ZeroDivisionError):
            async with mux.place(STREAM):
                1 / 0  # noqa: B018
        assert mux.streams == 0


async def test_what_has_begun_goes_on(quick: None) -> None:
    async with left(Graph(2.0)) as graph:
        mux = graph.mux()
        await graph.enter(mux, STREAM, 2)
        await graph.enter(mux, BEGUN)
        await graph.enter(mux, replace(STREAM, first_frame=16))
        assert mux.streams == 4
        with pytest.raises(BusyError):
            await graph.enter(mux, STREAM)


async def test_mux_replicas_share(quick: None) -> None:
    """Neither takes more than its half, also before it reads of the other's."""
    async with left(Graph(6.0)) as graph:
        one, other = graph.mux("one"), graph.mux("other")
        await one.look(), await other.look()
        await asyncio.sleep(0.1)
        await graph.enter(one, STREAM, 3)
        with pytest.raises(BusyError):
            await graph.enter(one, STREAM)
        await graph.enter(other, STREAM, 3)
        with pytest.raises(BusyError):
            await graph.enter(other, STREAM)


async def test_a_new_mux_replica_takes_only_what_is_left(quick: None) -> None:
    async with left(Graph(6.0)) as graph:
        old = graph.mux("old")
        await graph.enter(old, STREAM, 6)
        await asyncio.sleep(0.1)
        new = graph.mux("new")
        with pytest.raises(BusyError):
            await graph.enter(new, STREAM)


async def test_what_a_lost_mux_replica_had_is_forgotten(quick: None) -> None:
    async with left(Graph(4.0)) as graph:
        lost, other = graph.mux("lost"), graph.mux("other")
        await graph.enter(lost, STREAM, 4)
        await asyncio.sleep(0.05)
        with pytest.raises(BusyError):
            await graph.enter(other, STREAM)
        assert lost._watching is not None
        lost._watching.cancel()
        await asyncio.sleep(0.4)
        await graph.enter(other, STREAM, 4)


async def test_more_replicas_make_room_within_a_look(quick: None) -> None:
    async with left(Graph(1.0)) as graph:
        mux = graph.mux()
        await graph.enter(mux, STREAM)
        with pytest.raises(BusyError):
            await graph.enter(mux, STREAM)
        graph.boards.append(Board(1.0, 3.0))
        await asyncio.sleep(0.1)
        await graph.enter(mux, STREAM)


async def test_a_mux_replica_has_its_own_bound(quick: None) -> None:
    async with left(Graph(100.0)) as graph:
        mux = graph.mux(mux_streams=2)
        await graph.enter(mux, STREAM, 2)
        with pytest.raises(BusyError):
            await graph.enter(mux, STREAM)
        mux.configure(CapacityConfig(mux_streams=3), 8)
        await graph.enter(mux, STREAM)


async def test_nobody_begins_while_a_live_stream_has_little_in_hand(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """He waits for it, and is refused when it takes too long; what has begun goes on. Where none is live, none is hurt."""
    monkeypatch.setattr(admission, "TIGHT_S", 0.6)
    async with left(Graph(9.0)) as graph:
        mux = graph.mux()
        async with mux.place(STREAM):
            mux.tighten()
            waiting = [asyncio.create_task(graph.enter(mux, request)) for request in (STREAM, FILM)]
            await graph.enter(mux, BEGUN)
            await graph.enter(mux, replace(STREAM, first_frame=16))
            assert (mux.streams, mux.films) == (3, 0)
            await asyncio.wait_for(asyncio.gather(*waiting), 5)
            assert (mux.streams, mux.films) == (4, 1)
            monkeypatch.setattr(admission, "TIGHT_S", math.inf)
            monkeypatch.setattr(admission, "TIGHT_WAIT_S", 0.1)
            mux.tighten()
            with pytest.raises(BusyError, match="4 streams are live, and they have little in hand; try again in"):
                await graph.enter(mux, STREAM)
        await graph.stack.aclose()
        async with mux.place(STREAM):
            assert mux.streams == 1


async def test_films_wait_for_streams(quick: None) -> None:
    async with left(Graph(2.0)) as graph:
        mux = graph.mux()
        async with mux.place(STREAM):
            await graph.enter(mux, STREAM)
            waiting = asyncio.create_task(graph.enter(mux, FILM))
            await asyncio.sleep(0.1)
            assert not waiting.done() and mux.films == 0
        await asyncio.wait_for(waiting, 1)
        assert (mux.streams, mux.films) == (1, 1)
        await graph.enter(mux, STREAM)  # a film takes no place from a stream
        assert mux.streams == 2


async def test_a_film_waits_for_so_long(quick: None) -> None:
    async with left(Graph(1.0)) as graph:
        mux = graph.mux(wait_s=0.1)
        await graph.enter(mux, STREAM)
        with pytest.raises(BusyError):
            await graph.enter(mux, FILM)


async def test_only_so_many_films_wait(quick: None) -> None:
    async with left(Graph(1.0)) as graph:
        mux = graph.mux(mux_streams=2)
        await graph.enter(mux, STREAM)
        waiting = [asyncio.create_task(graph.enter(mux, FILM)) for _ in range(3)]
        done, _ = await asyncio.wait(waiting, timeout=0.2)
        assert len(done) == 1 and isinstance(done.pop().exception(), BusyError)
        for task in waiting:
            task.cancel()


async def test_a_film_that_is_given_up_leaves_nothing(quick: None) -> None:
    async with left(Graph(1.0)) as graph:
        mux = graph.mux()
        await graph.enter(mux, STREAM)
        waiting = asyncio.create_task(graph.enter(mux, FILM))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert mux.films == 0


async def test_boards_that_fall_silent_leave_what_was_known(quick: None) -> None:
    async with left(Graph(2.0)) as graph:
        mux = graph.mux()
        await graph.enter(mux, STREAM)
        graph.silent = True
        await asyncio.sleep(0.1)
        await graph.enter(mux, STREAM)
        with pytest.raises(BusyError):
            await graph.enter(mux, STREAM)


async def test_without_a_board_its_own_bound_counts(quick: None) -> None:
    """LipSync has no replica yet: those who come wait for the first one."""
    async with left(Graph()) as graph:
        mux = graph.mux(mux_streams=2)
        await graph.enter(mux, STREAM, 2)
        with pytest.raises(BusyError, match="carries no more"):
            await graph.enter(mux, STREAM)
        assert await mux.summary() == {}


async def test_when_to_come_again(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async with left(Graph(1.0, start_s=20.0, most=2)) as graph:
        mux = graph.mux()
        await graph.enter(mux, STREAM)

        async def told() -> int | None:
            with pytest.raises(BusyError) as refused:
                await graph.enter(mux, STREAM)
            return refused.value.retry_after_s

        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now)
        assert await told() == 25
        now += 10
        assert await told() == 15
        now += 100
        assert await told() == 2
        mux.configure(CapacityConfig(replica_start_s=200), 2)
        assert await told() == 90
        graph.boards.append(Board(0.1, 20.0))
        mux._learn(admission.Room.of([board.post(Note("a", 1, 0)) for board in graph.boards], "a"))
        assert await told() == 2, "there can be no more"


async def test_a_replica_that_draws_less_than_a_stream_draws_one(quick: None) -> None:
    async with left(Graph(0.4)) as graph:
        mux = graph.mux()
        await graph.enter(mux, STREAM)
        with pytest.raises(BusyError):
            await graph.enter(mux, STREAM)


async def test_it_is_told_to_people(quick: None) -> None:
    async with left(Graph(4.0, 3.0)) as graph:
        mux = graph.mux()
        await graph.enter(mux, STREAM, 2)
        assert await mux.summary() == {"streams": 7, "live": 2, "lipsync_replicas": 2, "mux_replicas": 1}


@pytest.mark.parametrize(("refusals", "got"), [(0, [1]), (1, [2]), (2, [])])
async def test_an_ingress_asks_once_more(refusals: int, got: list[int]) -> None:
    asked = 0

    async def ask() -> AsyncGenerator[int, None]:
        nonlocal asked
        asked += 1
        if asked <= refusals:
            raise BusyError("no more")
        yield asked

    seen: list[int] = []
    try:
        async for item in asked_again(ask):
            seen.append(item)
    except BusyError:
        assert refusals == 2
    assert seen == got and asked == min(refusals + 1, 2)
