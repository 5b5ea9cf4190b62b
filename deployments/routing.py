"""Which replica a call goes to: Serve's choice by queue length, among those that answer, those on the caller's node first.

Serve's own router sends work to a replica that fell silent (a node without its network, a stopped process) until Ray gives it
up, after a minute. Here a caller that misses an answer says so (`suspect`, `answers`); the replica is passed over until it
answers again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any
from weakref import WeakSet, ref

from ray.serve.config import RequestRouterConfig
from ray.serve.request_router import FIFOMixin, PendingRequest, ReplicaID, RequestRouter, RunningReplica

logger = logging.getLogger("ray.serve")

ASK_EVERY_S = 0.5  # a silent replica is asked whether it is back
ASK_BACKOFF = 3  # eight times Serve's deadline for a queue length, of 0.1 s: a busy replica answers by then
LOCAL_SHARE = 0.5  # of its requests at once, up to which a replica on the caller's node is preferred

_routers: WeakSet[Router] = WeakSet()  # of this process: one for each deployment that it calls


def router_config(*, local: bool) -> RequestRouterConfig:
    """local: prefer replicas on the caller's node, for calls that carry much."""
    return RequestRouterConfig.model_validate({"request_router_class": "deployments.routing.Router", "request_router_kwargs": {"local": local}})


def suspect(argument: object) -> bool:
    """Pass over the replica that `argument` was sent to and that has not answered. Whether another can be asked.

    argument: the very object that was the call's first argument.
    """
    found = _sent_to(argument)
    return found is not None and found[0].suspect(found[1])


def is_silent(argument: object) -> bool:
    """Whether the replica that `argument` was sent to is passed over."""
    found = _sent_to(argument)
    return found is not None and found[0].is_silent(found[1])


async def answers(argument: object) -> bool:
    """Ask the replica that `argument` was sent to whether it is there; one that is not is passed over. True when none was found yet."""
    found = _sent_to(argument)
    if found is None:
        return True
    router, replica = found
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(router.answers(replica), router.loop))


def _sent_to(argument: object) -> tuple[Router, RunningReplica] | None:
    for router in list(_routers):
        if (replica := router.sent_to(argument)) is not None:
            return router, replica
    return None


class Router(FIFOMixin, RequestRouter):
    """Made by Serve, one in each process for each deployment that is called there."""

    def __init__(self, *args: Any, self_node_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._node, self._local = self_node_id, False
        self._sent: dict[int, tuple[Any, RunningReplica]] = {}  # id() of a call's first argument: a weak reference to it, and where it went
        self._silent: dict[ReplicaID, asyncio.Task[None] | None] = {}
        _routers.add(self)

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
        replica = await super()._choose_replica_for_request(pending_request, is_retry=is_retry)
        if pending_request.args:
            key = id(pending_request.args[0])
            gone = ref(pending_request.args[0], lambda _: self._sent.pop(key, None))
            self._sent[key] = gone, replica
        return replica

    def sent_to(self, argument: object) -> RunningReplica | None:
        _, replica = self._sent.get(id(argument), (None, None))
        return replica

    def is_silent(self, replica: RunningReplica) -> bool:
        return replica.replica_id in self._silent

    def suspect(self, replica: RunningReplica) -> bool:
        """From any thread. Whether there is another."""
        if replica.replica_id in self.curr_replicas and replica.replica_id not in self._silent:
            self._silent[replica.replica_id] = None
            self.loop.call_soon_threadsafe(self._watch, replica.replica_id)
        return any(other not in self._silent for other in list(self.curr_replicas))

    async def answers(self, replica: RunningReplica) -> bool:
        """Also of a replica that is draining, which gets nothing new."""
        if not self.is_silent(replica) and await self._asked(replica):
            return True
        self.suspect(replica)
        return False

    def _watch(self, replica: ReplicaID) -> None:
        self._silent[replica] = asyncio.ensure_future(self._until_it_answers(replica))

    async def _until_it_answers(self, replica_id: ReplicaID) -> None:
        began = self.loop.time()
        try:
            await asyncio.sleep(ASK_EVERY_S)
            while (replica := self.curr_replicas.get(replica_id)) is not None and not await self._asked(replica):
                if began:
                    logger.warning("%s is silent; others are asked until it answers", replica_id)
                    began = 0.0
                await asyncio.sleep(ASK_EVERY_S)
        finally:
            self._silent.pop(replica_id, None)

    async def _asked(self, replica: RunningReplica) -> bool:
        ((_, queue_length),) = await self._probe_queue_lens([replica], ASK_BACKOFF)
        return queue_length is not None

    def _is_near(self, replica: RunningReplica) -> bool:
        if not self._local or replica.node_id != self._node:
            return False
        queue_length = self.replica_queue_len_cache.get(replica.replica_id)
        return queue_length is None or queue_length < LOCAL_SHARE * replica.max_ongoing_requests
