"""Calls to other deployments: how they fail, which are sent again, and which are sent to a second replica as well."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from itertools import count
from typing import Any, TypeVar

import numpy as np
from grpc.aio import AioRpcError
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from deployments import silence
from museserve.errors import BusyError, DeviceLostError, EngineError, MuseserveError
from museserve.messages import RenderRequest, SpeechWindow
from museserve.runtime.waiting import heard, within

logger = logging.getLogger("ray.serve")

T = TypeVar("T")
A = TypeVar("A", bound=SpeechWindow | RenderRequest)  # arguments that say when they are due

# A replica that died, is starting, fell silent, or refused the call: another one, or the same a moment later, may
# answer.
LOST = (
    RayActorError,
    ReplicaUnavailableError,
    DeploymentUnavailableError,
    BackPressureError,
    TimeoutError,
    asyncio.TimeoutError,  # another class before Python 3.11
    ConnectionError,
    AioRpcError,  # of a stream; Serve makes its own of some alone
)
FIRST_WAIT_S, WAIT_GROWTH = 0.05, 4  # before a call is sent again
QUIET_S = 1.0  # a stream from which nothing came for so long: its replica is asked whether it is there
PATIENCE = 3  # with a replica that says that it is there: to give it up would cut what it is late with
_END = object()


def unwrap(error: BaseException) -> BaseException:
    """Our own error as it was raised on the other side, without the remote traceback in its message; else the error itself."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return cause if isinstance(cause, MuseserveError) else error


async def answered(response: Awaitable[T]) -> T:
    """The answer to a unary call, with our own errors as they were raised.

    Cancelling it cancels the call, down to its queue.
    """
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()  # type: ignore[attr-defined]
        raise
    except Exception as error:
        raise unwrap(error) from None


async def pulled(call: Callable[[], Any], argument: object = None, within_s: float | None = None) -> AsyncGenerator[Any, None]:
    """The items of a streamed call, with our own errors as they were raised.

    Closing it cancels the call, down to what is queued for it.

    Args:
        call: makes it when the first item is wanted: what was closed before that would leave a call that nobody ends.
        argument: the call's first: with it, a replica that falls silent is noticed and raises ConnectionError.
        within_s: longest wait for the first item, after which TimeoutError is raised; `PATIENCE` times that where the
            replica is known to be there.
    """
    responses = call()
    items = aiter(responses)
    began: float | None = time.monotonic()
    try:
        while True:
            waiting = asyncio.ensure_future(_next(items))
            waiting.add_done_callback(heard)
            try:
                while not (await asyncio.wait({waiting}, timeout=QUIET_S))[0]:
                    if argument is not None and not await silence.answers(argument) and not waiting.done():
                        raise ConnectionError("the replica is silent")
                    patience = 1 if argument is None else PATIENCE
                    if began is not None and within_s is not None and time.monotonic() - began > patience * within_s:
                        raise TimeoutError(f"no answer within {patience * within_s:.1f} s")
                item = waiting.result()
            finally:
                waiting.cancel()
                del waiting  # its error has this frame, and the frame all that was sent: megabytes that only the garbage collector would free
            if item is _END:
                return
            began = None
            yield item
    except Exception as error:
        raise unwrap(error) from None
    finally:
        responses.cancel()


async def _next(items: Any) -> Any:
    return await anext(items, _END)


async def repulled(
    ask: Callable[[float | None], AsyncGenerator[T, None]],
    replicas: str,
    *,
    tries: int,
    timeout_s: float,
    failure: type[EngineError] = EngineError,
    on_retry: Callable[[], None] = lambda: None,
) -> AsyncGenerator[T, None]:
    """The items of a streamed call; when its replica is lost, what is missing is asked for again.

    Args:
        ask: makes the call for what is missing now. Its argument is the longest wait for the first item, as `pulled`
            takes it.
        replicas: whose they are, for messages.
        tries: calls in a row that bring nothing.
        timeout_s: longest wait for something after a loss.
    Raises:
        BusyError: all of them are full. `failure`: nothing more comes. MuseserveError: as the method raised it.
    """
    within_s, lost_at, brought = None, 0.0, 0
    for attempt in count(1):
        try:
            async with aclosing(ask(within_s)) as items:
                async for item in items:
                    brought = attempt
                    yield item
            return
        except LOST as error:
            last: BaseException = error
        logger.warning("a stream from the %s replicas broke off: %s: %s", replicas, type(last).__name__, last)
        if brought == attempt or attempt == 1:
            lost_at = time.monotonic()
        within_s = timeout_s - (time.monotonic() - lost_at)
        barren = attempt - brought
        if barren >= tries or within_s <= 0:
            break
        on_retry()
        if barren:
            await asyncio.sleep(FIRST_WAIT_S * WAIT_GROWTH ** (barren - 1))
    if isinstance(last, BackPressureError):
        raise BusyError(f"the {replicas} replicas are full; try again in a moment")
    raise failure(f"the {replicas} replicas were lost, and no other went on within {timeout_s:g} s")


async def retried(
    call: Callable[[], Awaitable[Any]],
    replicas: str,
    *,
    tries: int,
    timeout_s: float,
    failure: type[EngineError] = EngineError,
    on_retry: Callable[[], None] = lambda: None,
) -> Any:
    """Await a call to an idempotent method; send it again when the replica was lost.

    Args:
        replicas: whose they are, for messages: "lip-sync".
    Raises:
        BusyError: all of them are full. `failure`: every try failed. MuseserveError: as the method raised it.
    """
    for attempt in range(1, tries + 1):
        try:
            return await within(call(), timeout_s)
        except LOST as error:
            last: BaseException = error
        except (RayTaskError, MuseserveError) as error:  # which of them depends on the transport
            last = unwrap(error)
            if not isinstance(last, DeviceLostError):  # until its replica is replaced another one may answer
                raise last from None
        logger.warning("%s call %d of %d failed: %s: %s", replicas, attempt, tries, type(last).__name__, last)
        if attempt == tries:
            break
        on_retry()
        await asyncio.sleep(FIRST_WAIT_S * WAIT_GROWTH ** (attempt - 1))
    if isinstance(last, BackPressureError):
        raise BusyError(f"the {replicas} replicas are full; try again in a moment")
    raise failure(f"the {replicas} replicas failed {tries} times, last with {type(last).__name__}")


class Hedges:
    """When a call that has not been answered is sent to a second replica as well.

    A viewer's deadline decides, and the usual time of such a call: a replica that is only busy shall not be asked twice
    for nothing. Of replicas that are not known to be silent only a small share of calls is sent twice.
    """

    LEAST_S = 0.15
    UNKNOWN_S = 0.5  # taken for the usual time until `KNOWN` calls were answered
    KNOWN = 20
    SPARE_S = 0.1
    MOST_S = 3.0  # of a file, which is due much later
    SHARE, BURST = 0.05, 8.0

    def __init__(self) -> None:
        self._took: deque[float] = deque(maxlen=200)
        self._allowed = self.BURST

    def answered(self, seconds: float) -> None:
        """One call, and how long it took."""
        self._took.append(seconds)
        self._allowed = min(self.BURST, self._allowed + self.SHARE)

    def wait_s(self, due_s: float) -> float:
        """How long to wait for an answer that is needed in `due_s` seconds.

        So that a second call would make it, but not before the first should have.
        """
        usual = float(np.percentile(self._took, 95)) if len(self._took) >= self.KNOWN else self.UNKNOWN_S
        return max(self.LEAST_S, 2 * usual, min(due_s - usual - self.SPARE_S, self.MOST_S))

    def allow(self, argument: object) -> bool:
        """Whether a call that waited so long may be sent to another replica.

        If so, its own is passed over until it answers again.

        argument: the call's first.
        """
        silent = silence.is_silent(argument)
        if (not silent and self._allowed < 1) or not silence.suspect(argument):
            return False
        if not silent:
            self._allowed -= 1
        return True

    async def first_of(self, call: Callable[[A], Awaitable[T]], argument: A, on_hedge: Callable[[], None]) -> T:
        """The first answer to an idempotent call, of one replica or, when that is late, of two.

        The other call is cancelled.

        Args:
            call: sends it with its argument, whose `due_s` a second call has as it is by then.
        """
        under_way: dict[asyncio.Task[T], float] = {}
        began = time.monotonic()

        def send(argument: A) -> None:
            task = asyncio.create_task(answered(call(argument)))
            task.add_done_callback(heard)
            under_way[task] = time.monotonic()

        send(argument)
        try:
            wait_s: float | None = self.wait_s(argument.due_s)
            while True:
                done, _ = await asyncio.wait(under_way, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                for answer in done:
                    sent = under_way.pop(answer)
                    if not under_way or answer.exception() is None:
                        result = answer.result()
                        self.answered(time.monotonic() - sent)
                        return result
                if not done and self.allow(argument):
                    on_hedge()
                    send(replace(argument, due_s=argument.due_s - (time.monotonic() - began)))
                    wait_s = None
        finally:
            for answer in under_way:
                answer.cancel()
