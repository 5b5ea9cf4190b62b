"""Which utterances may begin: no more than the replicas that run now draw as fast as they are watched.

Each Mux replica tells every LipSync replica once a second what it has; each of those answers with what all Mux replicas
told it, and with how much it draws itself. So LipSync is the board on which Mux replicas read of one another, there is
nothing else that could fail, and what a dead replica had is forgotten by itself.

What was measured at the start is a guess: a machine is slowed by its neighbours, and a voice may cost more than another. So
a Mux replica whose live streams have little in hand lets others wait for some seconds, and then refuses them.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from configs.models import CapacityConfig
from museserve.errors import BusyError
from museserve.messages import VideoRequest
from museserve.runtime.waiting import within

logger = logging.getLogger("ray.serve")

ASK_S = 1.0  # between two looks at the board
KEPT_S = 3.5  # what was posted so long ago belongs to a replica that is gone
DECISION_S = 5.0  # until the autoscaler has seen the load, and a process for the replica runs
CLAIMED = 0.5  # of the room again, for sessions that say that they come from a replica which was lost or is being stopped
TIGHT_S = 2.0  # for so long nobody begins after a live stream had little in hand
LOOK_S = 0.05  # between two looks at whether they have more
TIGHT_WAIT_S = 5.0  # for which who would begin then waits
RETRY_S = 2  # for a caller, when no more replicas can come: an utterance may end


@dataclass(frozen=True)
class Note:
    """What a Mux replica has. streams: watched while they are made; films: finished videos, which nobody waits to see."""

    mux: str
    streams: int
    films: int


@dataclass(frozen=True)
class Posted:
    """What a LipSync replica draws in time, how long it took to start, and what all Mux replicas told it last."""

    streams: float
    start_s: float
    notes: tuple[Note, ...]


class Board:
    """Kept by a LipSync replica. streams: how many it draws in time."""

    def __init__(self, streams: float, start_s: float) -> None:
        self.streams, self.start_s = streams, start_s
        self._notes: dict[str, tuple[float, Note]] = {}

    def post(self, note: Note) -> Posted:
        now = time.monotonic()
        self._notes[note.mux] = now, note
        self._notes = {mux: kept for mux, kept in self._notes.items() if now - kept[0] < KEPT_S}
        return Posted(self.streams, self.start_s, tuple(kept[1] for kept in self._notes.values()))


@dataclass(frozen=True)
class Room:
    """What the graph draws in time, as one Mux replica knows it. streams: of all LipSync replicas together."""

    streams: int
    lipsync_replicas: int
    mux_replicas: int
    streams_elsewhere: int
    films_elsewhere: int
    start_s: float

    @property
    def share(self) -> int:
        """Of one Mux replica."""
        return math.ceil(self.streams / self.mux_replicas)

    @classmethod
    def of(cls, posted: Sequence[Posted], mux: str) -> Room:
        notes = {note.mux: note for answer in posted for note in answer.notes if note.mux != mux}
        return cls(
            max(1, math.floor(sum(answer.streams for answer in posted))),
            len(posted),
            len(notes) + 1,
            sum(note.streams for note in notes.values()),
            sum(note.films for note in notes.values()),
            max(answer.start_s for answer in posted),
        )


class Admission:
    """Kept by a Mux replica. `place` is held by each utterance while it is drawn.

    Args:
        ask: posts a note with every LipSync replica that runs; their answers. Raises what it likes, also when none runs.
        mux: a name that no other replica has.
        most_lipsync: to how many replicas LipSync may grow.
    """

    def __init__(self, ask: Callable[[Note], Awaitable[Sequence[Posted]]], mux: str, config: CapacityConfig, most_lipsync: int) -> None:
        self._ask, self._mux = ask, mux
        self.streams = self.films = self._waiting = 0
        self.room: Room | None = None
        self._known = asyncio.Event()
        self._freed = asyncio.Condition()
        self._full_since: float | None = None
        self._tight_until = -math.inf
        self._watching: asyncio.Task[None] | None = None
        # Serve cancels what a request started, by its context; looking at the board belongs to none.
        self._context = contextvars.copy_context()
        self.configure(config, most_lipsync)

    def configure(self, config: CapacityConfig, most_lipsync: int) -> None:
        self._config, self._most_lipsync = config, most_lipsync

    @asynccontextmanager
    async def place(self, request: VideoRequest) -> AsyncIterator[None]:
        """A place among what is drawn. A finished video waits for it, for at most `capacity.wait_s`; a stream only while others have little in hand.

        Raises BusyError: there is none; with when to come again.
        """
        await self.look()
        if request.paced:
            goes_on = request.begun or request.first_frame > 0
            if not goes_on:
                await self._loosened()
            if (request.claimed or not goes_on) and not self._holds(self.streams, self._elsewhere(films=False), over=goes_on):
                raise self._full()
            self.streams += 1
        else:
            await self._room_for_film()
            self.films += 1
        try:
            yield
        finally:
            if request.paced:
                self.streams -= 1
            else:
                self.films -= 1
            await self._tell_waiting()

    def tighten(self) -> None:
        """A live stream of this replica has little in hand."""
        self._tight_until = time.monotonic() + TIGHT_S

    @property
    def tight(self) -> bool:
        """Whether a live stream had little in hand just now. Where none is live, nobody is hurt by another."""
        return self.streams > 0 and time.monotonic() < self._tight_until

    def watch(self) -> None:
        """Look at the board each second from now on, and be seen there. To be called in a running loop."""
        if self._watching is None or self._watching.done():
            self._watching = self._context.copy().run(asyncio.create_task, self._watch())

    async def look(self) -> Room | None:
        """What is known of the graph. None: no LipSync replica has answered yet."""
        self.watch()
        await self._known.wait()
        return self.room

    async def summary(self) -> dict[str, int]:
        """The same for people: streams that are drawn in time and that are live, and by how many replicas."""
        room = await self.look()
        if room is None:
            return {}
        live = self.streams + room.streams_elsewhere
        return {"streams": room.streams, "live": live, "lipsync_replicas": room.lipsync_replicas, "mux_replicas": room.mux_replicas}

    def _holds(self, here: int, elsewhere: int, *, over: bool = False) -> bool:
        """Whether one more fits: into this replica, into its share of what LipSync draws, and into the whole.

        The share is for what other Mux replicas admit at this moment. over: it says that it goes on with a stream of a
        lost replica. That may be, and may not: it fits into `CLAIMED` of all that as well, which new streams leave free.
        """
        times = 1 + CLAIMED if over else 1.0
        if here >= self._config.mux_streams * times:
            return False
        room = self.room
        if room is None:
            return True
        return here < room.share * times and here + elsewhere < room.streams * times

    def _elsewhere(self, *, films: bool) -> int:
        if self.room is None:
            return 0
        return self.room.streams_elsewhere + (self.room.films_elsewhere if films else 0)

    async def _loosened(self) -> None:
        """Until the live streams have enough in hand. Raises BusyError."""
        until = time.monotonic() + TIGHT_WAIT_S
        while self.tight:
            if time.monotonic() > until:
                raise self._full()
            await asyncio.sleep(LOOK_S)

    async def _room_for_film(self) -> None:
        def free() -> bool:
            return not self.tight and self._holds(self.streams + self.films, self._elsewhere(films=True))

        if self._waiting >= self._config.mux_streams:  # they would fill the replica's requests, and streams would queue behind
            raise self._full()

        async def freed() -> None:
            async with self._freed:
                await self._freed.wait_for(free)

        self._waiting += 1
        try:
            await within(freed(), self._config.wait_s)
        except TimeoutError:
            raise self._full() from None
        finally:
            self._waiting -= 1

    async def _tell_waiting(self) -> None:
        async with self._freed:
            self._freed.notify_all()

    async def _watch(self) -> None:
        failed = False
        while True:
            try:
                posted = await self._ask(Note(self._mux, self.streams, self.films))
                self._learn(Room.of(posted, self._mux))
                failed = False
            except Exception as error:  # none runs, or one is silent: what was known last is the best guess
                if not failed and self.room is not None:  # before, they are starting
                    logger.warning("the lip-sync replicas do not say what they draw: %s: %s", type(error).__name__, error)
                failed = True
            self._known.set()
            await self._tell_waiting()
            await asyncio.sleep(ASK_S)

    def _learn(self, room: Room) -> None:
        if self.room is None or room.lipsync_replicas > self.room.lipsync_replicas:
            self._full_since = None  # what was promised has come
        self.room = room

    def _full(self) -> BusyError:
        seconds, room = self._retry_after_s(), self.room
        live = self.streams + self._elsewhere(films=False)
        if self.tight:
            by = "they have little in hand"
        elif room is None:
            by = "one Mux replica carries no more"
        else:
            by = f"the {room.lipsync_replicas} lip-sync replicas that run draw {room.streams} in time"
            by += f", {room.share} of them for each of {room.mux_replicas} Mux replicas" if room.mux_replicas > 1 else ""
        error = BusyError(f"{live} streams are live, and {by}; try again in {seconds} s")
        error.retry_after_s = seconds
        return error

    def _retry_after_s(self) -> int:
        room, now = self.room, time.monotonic()
        if room is None or room.lipsync_replicas >= self._most_lipsync:
            return RETRY_S
        if self._full_since is None:
            self._full_since = now
        start_s = self._config.replica_start_s or DECISION_S + room.start_s
        return max(RETRY_S, math.ceil(self._full_since + start_s - now))
