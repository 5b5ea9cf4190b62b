"""What comes back from a call to another deployment when it fails."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from museserve.errors import MuseserveError

# A replica that died, is starting, or refused the call: another one, or the same a moment later, may answer.
LOST = (RayActorError, ReplicaUnavailableError, DeploymentUnavailableError, BackPressureError, TimeoutError, ConnectionError)


def unwrap(error: BaseException) -> BaseException:
    """Our own error as it was raised on the other side, without the remote traceback in its message; else the error itself."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return cause if isinstance(cause, MuseserveError) else error


async def pulled(responses: Any) -> AsyncGenerator[Any, None]:
    """The items of a streamed call, with our own errors as they were raised. Closing it cancels the call, down to what is queued for it."""
    try:
        async for item in responses:
            yield item
    except Exception as error:
        raise unwrap(error) from None
    finally:
        responses.cancel()
