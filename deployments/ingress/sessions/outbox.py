"""What a session has to send: numbered, kept until acknowledged, bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from deployments.ingress.sessions.protocol import ServerMessage

Payload = str | bytes


@dataclass(frozen=True)
class Entry:
    """seq 0: belongs to a connection, and is not sent again after it. n, first_frame: of a fragment; n = 0 for all else."""

    seq: int
    payload: Payload
    n: int = 0
    first_frame: int = 0


class Outbox:
    """One writer takes entries with `next`; whoever produces much awaits `room` first.

    Args:
        window_bytes: taken and waiting entries together, from which on there is no room.
        keep: keep what was taken until `acknowledge`, so that `rewind` can send it again.
    """

    def __init__(self, window_bytes: int, keep: bool = True) -> None:
        self._window, self._keep = window_bytes, keep
        self._taken: deque[Entry] = deque()
        self._waiting: deque[Entry] = deque()
        self._changed = asyncio.Event()  # something waits
        self._emptied = asyncio.Event()
        self._freed = asyncio.Event()
        self._freed.set()
        self.last_seq = 0
        self.acknowledged = 0
        self._sent = 0  # highest number that a writer took
        self.held_bytes = 0

    @property
    def full(self) -> bool:
        return self.held_bytes >= self._window

    def post(self, make: Callable[[int], Payload], n: int = 0, first_frame: int = 0) -> None:
        """Add what `make` builds from the sequence number that it gets. n, first_frame: when it is a fragment."""
        self.last_seq += 1
        self._add(Entry(self.last_seq, make(self.last_seq), n, first_frame))

    def say(self, message: ServerMessage) -> None:
        """Add a numbered JSON message."""
        self.post(lambda seq: message.model_copy(update={"seq": seq}).model_dump_json(exclude_none=True))

    def say_once(self, message: ServerMessage) -> None:
        """Add a JSON message about this connection."""
        self._add(Entry(0, message.model_dump_json(exclude_none=True)))

    def say_first(self, message: ServerMessage) -> None:
        """Add a JSON message about this connection, ahead of all that waits."""
        entry = Entry(0, message.model_dump_json(exclude_none=True))
        self._waiting.appendleft(entry)
        self.held_bytes += len(entry.payload)
        self._changed.set()

    async def next(self) -> Payload:
        """The next entry to send, when there is one."""
        while not self._waiting:
            self._changed.clear()
            await self._changed.wait()
        entry = self._waiting.popleft()
        self._sent = entry.seq or self._sent
        if not self._waiting:
            self._emptied.set()
        if self._keep and entry.seq:
            self._taken.append(entry)
        else:
            self._drop(entry)
        return entry.payload

    async def drained(self) -> None:
        """Wait until all was taken."""
        while self._waiting:
            self._emptied.clear()
            await self._emptied.wait()

    async def room(self) -> None:
        """Wait until less than the window is held."""
        while self.full:
            self._freed.clear()
            await self._freed.wait()

    def acknowledge(self, seq: int) -> bool:
        """Forget what the client has. False when it cannot have that."""
        if seq > self._sent:
            return False
        while self._taken and self._taken[0].seq <= seq:
            self._drop(self._taken.popleft())
        self.acknowledged = max(self.acknowledged, seq)
        return True

    def rewind(self, seq: int) -> bool:
        """Send all numbered entries after `seq` again, to a new connection. False when that cannot be: they are gone, or never were."""
        if not self._keep or seq < self.acknowledged or seq > self.last_seq:
            return False
        entries = [entry for entry in (*self._taken, *self._waiting) if entry.seq > seq]
        self._taken.clear()
        self._waiting = deque(entries)
        self.held_bytes = sum(len(entry.payload) for entry in entries)
        self.acknowledged = self._sent = seq
        self._freed.set()
        self._changed.set()
        return True

    def drop(self, n: int) -> int | None:
        """Forget the fragments of utterance n. Returns the first frame of those that no writer had taken, None when there is none."""
        dropped = [entry for entry in self._waiting if entry.n == n]
        self._taken = deque(entry for entry in self._taken if entry.n != n)
        self._waiting = deque(entry for entry in self._waiting if entry.n != n)
        self.held_bytes = sum(len(entry.payload) for entry in (*self._taken, *self._waiting))
        if not self.full:
            self._freed.set()
        return min((entry.first_frame for entry in dropped), default=None)

    def _add(self, entry: Entry) -> None:
        self._waiting.append(entry)
        self.held_bytes += len(entry.payload)
        self._changed.set()

    def _drop(self, entry: Entry) -> None:
        self.held_bytes -= len(entry.payload)
        if not self.full:
            self._freed.set()
