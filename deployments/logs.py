"""The log lines of a replica: the project's own go where Serve writes its own, and each says for which utterance it was written."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextvars import ContextVar
from logging.handlers import MemoryHandler
from typing import Any

from ray._common.formatters import JSONFormatter
from ray.serve.context import _get_serve_request_context

from museserve.messages import CallIds

PACKAGES = ("museserve", "musetalk")
SERVE = logging.getLogger("ray.serve")

_ids: ContextVar[CallIds] = ContextVar("ids", default=CallIds())  # noqa: B039  # frozen


def join_serve() -> None:
    """Called once in each replica: without a handler Python would print warnings alone, and without their level."""
    for name in PACKAGES:
        logging.getLogger(name).parent = SERVE
    # A filter would be lost whenever Serve makes its handlers anew, and would not see the lines of other loggers.
    logging.setLogRecordFactory(Line)


def carry(ids: CallIds) -> None:
    """Say for whom this request, and every task and thread that it starts from now on, works."""
    _ids.set(ids)


def carried() -> CallIds:
    """For whom this works."""
    return _ids.get()


def of_all(ids: Iterable[CallIds]) -> CallIds:
    """Of a batch: the ids of all, separated by commas."""
    several = list(ids)
    sessions = dict.fromkeys(one.session for one in several if one.session)
    return CallIds(",".join(dict.fromkeys(one.utterance for one in several if one.utterance)), ",".join(sessions))


class Line(logging.LogRecord):
    """A record with the ids of what it is about: fields `utterance_id` and `session_id` in JSON, at the end of the message in text."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ids = _ids.get()
        if ids.utterance:
            self.utterance_id = ids.utterance
        if ids.session:
            self.session_id = ids.session

    def getMessage(self) -> str:
        message = super().getMessage()
        known = vars(self)
        if not ("utterance_id" in known or "session_id" in known) or _writes_json():
            return message
        # Serve leaves the request out of text where access logs are off.
        request = "" if "request_id" in known else _get_serve_request_context().request_id
        ids = {"request_id": request, "session_id": known.get("session_id"), "utterance_id": known.get("utterance_id")}
        return f"{message} [{' '.join(f'{name}={value}' for name, value in ids.items() if value)}]"


def _writes_json() -> bool:
    """Asked for each line, as Serve can be told another format while replicas run."""
    handlers = (h.target if isinstance(h, MemoryHandler) else h for h in SERVE.handlers)
    return any(isinstance(handler.formatter, JSONFormatter) for handler in handlers if handler is not None)
