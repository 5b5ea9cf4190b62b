"""Our router on Serve's own machinery, without a cluster: which replica is chosen, and which is passed over."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from ray.serve._private.common import DeploymentHandleSource, DeploymentID, RequestMetadata
from ray.serve.exceptions import ReplicaUnavailableError
from ray.serve.request_router import PendingRequest, ReplicaID

from deployments import routing, silence
from deployments.routing import Router

HERE, THERE = "here", "there"
DEPLOYMENT = DeploymentID("LipSync", "museserve")


@dataclass(frozen=True)
class Argument:
    text: str = "equal to any other"


class Replica:
    """What the router asks of one. queue: its length; None = it does not answer."""

    is_cross_language = False
    multiplexed_model_ids: frozenset[str] = frozenset()
    availability_zone = None

    def __init__(self, name: str, node_id: str = THERE, queue: int | None = 0, most: int = 64) -> None:
        self.replica_id = ReplicaID(name, DEPLOYMENT)
        self.node_id, self.queue, self.max_ongoing_requests = node_id, queue, most
        self.asked = 0

    async def get_queue_len(self, *, deadline_s: float) -> int:
        self.asked += 1
        if self.queue is None:
            await asyncio.sleep(3_600)
        return int(self.queue or 0)


async def router(*replicas: Replica, local: bool = True) -> Router:
    made = Router(
        deployment_id=DEPLOYMENT,
        handle_source=DeploymentHandleSource.REPLICA,
        self_node_id=HERE,
        use_replica_queue_len_cache=True,
        prefer_local_node_routing=False,
    )
    made.initialize_state(local=local)
    made.update_replicas(list(replicas))  # type: ignore[arg-type]
    await asyncio.sleep(0.02)  # their queues are known
    return made


async def send(to: Router, argument: object) -> str:
    """The name of the replica that it goes to."""
    metadata = RequestMetadata(request_id="r", internal_request_id=f"i{id(argument)}", call_method="render")
    replica: Any = await asyncio.wait_for(to._choose_replica_for_request(PendingRequest([argument], {}, metadata)), 3)
    return str(replica.replica_id.unique_id)


async def share(to: Router, calls: int = 60) -> Counter[str]:
    return Counter([await send(to, Argument()) for _ in range(calls)])


@pytest.mark.parametrize(("local", "expected"), [(True, {"near"}), (False, {"near", "far", "further"})])
async def test_the_callers_own_node_comes_first_where_that_is_wanted(local: bool, expected: set[str]) -> None:
    made = await router(Replica("near", HERE), Replica("far"), Replica("further"), local=local)
    assert set(await share(made)) == expected


async def test_a_busy_local_replica_is_not_preferred_and_a_full_one_not_chosen() -> None:
    busy, full = Replica("near", HERE, queue=40), Replica("full", HERE, queue=64)
    assert set(await share(await router(busy, full, Replica("far")))) <= {"near", "far"}
    assert set(await share(await router(full, Replica("far")))) == {"far"}


async def test_without_one_on_its_node_a_caller_takes_any() -> None:
    assert set(await share(await router(Replica("a"), Replica("b")))) == {"a", "b"}


async def test_who_owes_an_answer_is_passed_over_until_it_answers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "ASK_EVERY_S", 0.05)
    near, far = Replica("near", HERE), Replica("far")
    made = await router(near, far)
    argument, equal = Argument(), Argument()
    assert await send(made, argument) == "near"
    assert not silence.is_silent(argument) and not silence.suspect(equal), "equal is not the same"
    near.queue = None
    assert silence.suspect(argument) and silence.is_silent(argument)
    assert set(await share(made)) == {"far"}
    await asyncio.sleep(1.2)
    assert silence.is_silent(argument) and near.asked > 1
    near.queue = 0
    for _ in range(60):
        await asyncio.sleep(0.05)
        if not silence.is_silent(argument):
            break
    assert set(await share(made)) == {"near"}


def test_the_copy_of_the_router_that_serve_sends_about_tells_the_registry_of_its_process() -> None:
    """Serve pickles the router with its module, by value."""
    pickled = routing.router_config(local=True).get_serialized_request_router_cls()
    code = (
        "import pickle, sys; copy = pickle.load(sys.stdin.buffer)\n"
        "from deployments import routing, silence; names = copy.__init__.__globals__\n"
        "assert copy is not routing.Router and names is not vars(routing) and names['silence'] is silence"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


async def test_the_only_replica_is_never_passed_over() -> None:
    made = await router(Replica("near", HERE))
    argument = Argument()
    await send(made, argument)
    assert not silence.suspect(argument), "nobody else could be asked"
    assert await silence.answers(argument)
    assert set(await share(made, 3)) == {"near"}


async def test_a_silent_replica_does_not_answer_and_a_draining_one_does() -> None:
    near, far = Replica("near", HERE), Replica("far")
    made = await router(near, far)
    argument = Argument()
    await send(made, argument)
    assert await silence.answers(argument)
    made.update_replicas([far])  # type: ignore[list-item]
    assert await silence.answers(argument), "it gets nothing new, and ends what it has"
    near.queue = None
    assert not await silence.answers(argument)
    assert await silence.answers(Argument()), "of a call that waits for a replica nothing can be said"


async def test_one_is_not_silent_where_no_other_answers_either() -> None:
    near, far = Replica("near", HERE), Replica("far")
    made = await router(near, far)
    argument = Argument()
    await send(made, argument)
    near.queue = far.queue = None
    assert await silence.answers(argument) and not silence.is_silent(argument)
    far.queue = 0
    assert not await silence.answers(argument) and silence.is_silent(argument)


async def test_nothing_is_kept_of_calls_that_are_over() -> None:
    made = await router(Replica("near", HERE))
    await share(made)
    await send(made, "a text")
    gc.collect()
    assert len(made._sent) == 0


@dataclass(frozen=True)
class Stream:
    leads: str


@dataclass(frozen=True)
class Piece:
    follows: str


async def test_what_follows_a_call_goes_where_that_went() -> None:
    made = await router(Replica("a"), Replica("b"), Replica("c"))
    early = asyncio.create_task(send(made, Piece("s")))
    await asyncio.sleep(0.05)
    assert not early.done()  # nobody knows where to
    stream, other = Stream("s"), Stream("t")
    led, elsewhere = await send(made, stream), await send(made, other)
    assert await early == led
    assert {await send(made, Piece("s")) for _ in range(20)} == {led}
    assert {await send(made, Piece("t")) for _ in range(20)} == {elsewhere}
    made.update_replicas([])  # all are draining: the stream goes on, and what belongs to it
    assert await send(made, Piece("s")) == led
    with pytest.raises(ReplicaUnavailableError):
        metadata = RequestMetadata(request_id="r", internal_request_id="i", call_method="feed")
        await made._choose_replica_for_request(PendingRequest([Piece("s")], {}, metadata), is_retry=True)
    del stream
    gc.collect()
    assert "s" not in made._led and "t" in made._led
