"""Calls to other deployments: how they fail, and which are sent again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from museserve.errors import BusyError, DeviceLostError, EngineError, MuseserveError

logger = logging.getLogger("ray.serve")

T = TypeVar("T")

# A replica that died, is starting, or refused the call: another one, or the same a moment later, may answer.
LOST = (
    RayActorError,
    ReplicaUnavailableError,
    DeploymentUnavailableError,
    BackPressureError,
    TimeoutError,
    ConnectionError,
)
FIRST_WAIT_S, WAIT_GROWTH = 0.05, 4  # before a call is sent again


def unwrap(error: BaseException) -> BaseException:
    """Our own error as it was raised on the other side, without the remote traceback in its message; else the error itself."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return cause if isinstance(cause, MuseserveError) else error


async def answered(response: Awaitable[T]) -> T:
    """The answer to a unary call, with our own errors as they were raised."""
    try:
        return await response
    except Exception as error:
        raise unwrap(error) from None


async def pulled(responses: Any) -> AsyncGenerator[Any, None]:
    """The items of a streamed call, with our own errors as they were raised. Closing it cancels the call, down to what is queued for it."""
    try:
        async for item in responses:
            yield item
    except Exception as error:
        raise unwrap(error) from None
    finally:
        responses.cancel()


async def retried(
    call: Callable[[], Awaitable[Any]],
    replicas: str,
    *,
    tries: int,
    timeout_s: float,
    failure: type[EngineError] = EngineError,
    on_retry: Callable[[], None] = lambda: None,
) -> Any:
    """Await a call to an idempotent method; send it again when the replica was lost. Cancelling cancels the call down
    to its queue.

    Args:
        replicas: whose they are, for messages: "lip-sync".
    Raises:
        BusyError: all of them are full. `failure`: every try failed. MuseserveError: as the method raised it.
    """
    for attempt in range(1, tries + 1):
        response = call()
        try:
            return await asyncio.wait_for(response, timeout_s)
        except LOST as error:
            last: BaseException = error
        except (RayTaskError, MuseserveError) as error:  # which of them depends on the transport
            last = unwrap(error)
            if not isinstance(last, DeviceLostError):  # until its replica is replaced another one may answer
                raise last from None
        except asyncio.CancelledError:
            response.cancel()  # type: ignore[attr-defined]
            raise
        logger.warning("%s call %d of %d failed: %s: %s", replicas, attempt, tries, type(last).__name__, last)
        if attempt == tries:
            break
        on_retry()
        await asyncio.sleep(FIRST_WAIT_S * WAIT_GROWTH ** (attempt - 1))
    if isinstance(last, BackPressureError):
        raise BusyError(f"the {replicas} replicas are full; try again in a moment")
    raise failure(f"the {replicas} replicas failed {tries} times, last with {type(last).__name__}")
