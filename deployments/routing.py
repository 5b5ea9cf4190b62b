"""Which replica a call goes to: by queue length, as Serve's own router does, those on the caller's node first.

Serve's own sends work to a replica that fell silent (a node without its network, a stopped process) until Ray gives it up,
after a minute. Here a caller that misses an answer says so, through `deployments.silence`; the replica is passed over until
it answers again.

Some calls must reach the replica that another one runs on: the other's first argument has a name in `leads`, theirs has it in `follows`.

Serve pickles this module by value, as a copy: nothing that others share may live in it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import Any
from weakref import ref

from ray.serve.config import RequestRouterConfig
from ray.serve.exceptions import ReplicaUnavailableError
from ray.serve.request_router import FIFOMixin, PendingRequest, ReplicaID, RequestRouter, RunningReplica

from deployments import silence
from museserve.runtime.waiting import within

logger = logging.getLogger("ray.serve")

REFUSED_S = 0.02  # until a full replica is asked again
ASK_EVERY_S = 0.5  # a silent replica is asked whether it is back
ANSWERS_IN_S = 3.0  # a replica that is there, however busy: to begin anew elsewhere is more work than to wait
COMPARED = 2  # others that are asked, too, before one is called silent
LOCAL_SHARE = 0.5  # of its requests at once, up to which a replica on the caller's node is preferred


def router_config(*, local: bool) -> RequestRouterConfig:
    """local: prefer replicas on the caller's node, for calls that carry much."""
    return RequestRouterConfig.model_validate({"request_router_class": "deployments.routing.Router", "request_router_kwargs": {"local": local}})


class Router(FIFOMixin, RequestRouter):
    """Made by Serve, one in each process for each deployment that is called there."""

    def __init__(self, *args: Any, self_node_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._node, self._local = self_node_id, False
        # id() of a call's first argument: a weak reference to it, and where it went.
        self._sent: dict[int, tuple[Any, RunningReplica]] = {}
        self._led: dict[str, tuple[Any, RunningReplica]] = {}  # the same of those that others follow, by their name
        self._awaited: dict[str, asyncio.Event] = {}  # those that have not gone out
        self._silent: dict[ReplicaID, asyncio.Task[None] | None] = {}
        silence.register(self)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = self._event_loop
        return loop

    def initialize_state(self, **kwargs: Any) -> None:
        self._local = bool(kwargs.get("local", False))

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True
        heard = [replica for replica in candidate_replicas if replica.replica_id not in self._silent] or candidate_replicas
        near = [replica for replica in heard if self._is_near(replica)]
        return [random.sample(some, min(2, len(some))) for some in (near, heard) if some]

    async def _choose_replica_for_request(self, pending_request: PendingRequest, *, is_retry: bool = False) -> RunningReplica:
        argument = pending_request.args[0] if pending_request.args else None
        if leader := getattr(argument, "follows", ""):
            return await self._replica_of(leader, is_retry)
        replica = await super()._choose_replica_for_request(pending_request, is_retry=is_retry)
        if argument is not None:
            key, name = id(argument), getattr(argument, "leads", "")
            with suppress(TypeError):  # a text or the like has no weak references
                self._sent[key] = ref(argument, lambda _: self._sent.pop(key, None)), replica
                if name:
                    self._led[name] = ref(argument, lambda _: self._led.pop(name, None)), replica
                    if name in self._awaited:
                        self._awaited[name].set()
        return replica

    async def _replica_of(self, leader: str, is_retry: bool) -> RunningReplica:
        """Where a call went, also if the replica is draining. Waits until it goes out. Raises ReplicaUnavailableError."""
        if is_retry:
            await asyncio.sleep(REFUSED_S)
        if leader not in self._led:
            try:
                await self._awaited.setdefault(leader, asyncio.Event()).wait()
            finally:
                self._awaited.pop(leader, None)
        replica = self._led[leader][1]
        if is_retry and replica.replica_id not in self.curr_replicas:
            raise ReplicaUnavailableError(str(replica.replica_id))
        return replica

    def sent_to(self, argument: object) -> RunningReplica | None:
        _, replica = self._sent.get(id(argument), (None, None))
        return replica

    def is_silent(self, replica: RunningReplica) -> bool:
        return replica.replica_id in self._silent

    def suspect(self, replica: RunningReplica) -> bool:
        """From any thread. Whether there is another; if not, it goes on getting calls."""
        name = replica.replica_id
        others = any(other != name and other not in self._silent for other in list(self.curr_replicas))
        if others and name in self.curr_replicas and name not in self._silent:
            self._silent[name] = None
            self.loop.call_soon_threadsafe(self._watch, name)
        return others

    async def answers(self, replica: RunningReplica) -> bool:
        """Also of a replica that is draining, which gets nothing new.

        Where no other answers in the same time either, it is waited for: it is the machine that is busy, and to begin
        anew elsewhere would be more work for it.
        """
        others = [other for name, other in self.curr_replicas.items() if name != replica.replica_id and name not in self._silent]
        asked = [replica, *random.sample(others, min(COMPARED, len(others)))]
        there, *others_there = await asyncio.gather(*map(self._asked, asked))
        if there or not any(others_there):
            return True
        return not self.suspect(replica)

    def _watch(self, replica: ReplicaID) -> None:
        self._silent[replica] = asyncio.ensure_future(self._until_it_answers(replica))

    async def _until_it_answers(self, replica_id: ReplicaID) -> None:
        told = False
        try:
            await asyncio.sleep(ASK_EVERY_S)
            while (replica := self.curr_replicas.get(replica_id)) is not None and not await self._asked(replica):
                if not told:
                    logger.warning("%s is silent; others are asked until it answers", replica_id)
                    told = True
                await asyncio.sleep(ASK_EVERY_S)
        finally:
            self._silent.pop(replica_id, None)

    async def _asked(self, replica: RunningReplica) -> bool:
        try:
            await within(replica.get_queue_len(deadline_s=ANSWERS_IN_S), ANSWERS_IN_S)
        except Exception:  # late, or an error of Ray's about an actor that is gone
            return False
        return True

    def _is_near(self, replica: RunningReplica) -> bool:
        if not self._local or replica.node_id != self._node:
            return False
        queue_length = self.replica_queue_len_cache.get(replica.replica_id)
        return queue_length is None or queue_length < LOCAL_SHARE * replica.max_ongoing_requests
