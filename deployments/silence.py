"""Replicas that owe an answer: what the callers of this process tell its routers, and ask them."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol
from weakref import WeakSet


class Router(Protocol):
    """As `deployments.routing.Router`: Serve makes one in each process for each deployment that is called there."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    def sent_to(self, argument: object) -> Any: ...

    def is_silent(self, replica: Any) -> bool: ...

    def suspect(self, replica: Any) -> bool: ...

    async def answers(self, replica: Any) -> bool: ...


_routers: WeakSet[Any] = WeakSet()


def register(router: Router) -> None:
    _routers.add(router)


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
    """Ask the replica that `argument` was sent to whether it is there; one that is not is passed over.

    True also when none was found yet, and when there is no other.
    """
    found = _sent_to(argument)
    if found is None:
        return True
    router, replica = found
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(router.answers(replica), router.loop))


def _sent_to(argument: object) -> tuple[Router, Any] | None:
    for router in list(_routers):
        if (replica := router.sent_to(argument)) is not None:
            return router, replica
    return None
