from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from ray._common.formatters import JSONFormatter
from ray.serve._private.logging_utils import ServeContextFilter, ServeFormatter
from ray.serve.context import _RequestContext, _serve_request_context

from deployments import logs
from museserve.messages import CallIds
from museserve.runtime.deadline_executor import DeadlineExecutor


class Keep(logging.Handler):
    """Keeps each line as its formatter writes it."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As in a replica; put back afterwards."""
    for name in logs.PACKAGES:
        monkeypatch.setattr(logging.getLogger(name), "parent", logging.getLogger(name).parent)
    factory, level = logging.getLogRecordFactory(), logs.SERVE.level
    logs.join_serve()
    logs.SERVE.setLevel(logging.INFO)  # which also makes every logger look again at what is wanted
    yield monkeypatch
    logs.SERVE.setLevel(level)
    logging.setLogRecordFactory(factory)
    logs.carry(CallIds())


def written(joined: pytest.MonkeyPatch, formatter: logging.Formatter) -> list[str]:
    keep = Keep(formatter)
    joined.setattr(logs.SERVE, "handlers", [keep])
    return keep.lines


def test_lines_of_the_packages_go_where_serve_writes_with_their_level(joined: pytest.MonkeyPatch) -> None:
    lines = written(joined, logging.Formatter("%(levelname)s %(message)s"))
    logging.getLogger("musetalk.factory").warning("MuseTalk cannot run")
    logging.getLogger("museserve.media").info("encoded")
    logging.getLogger("museserve.media").debug("not wanted")
    assert lines == ["WARNING MuseTalk cannot run", "INFO encoded"]


def test_text_ends_with_the_ids(joined: pytest.MonkeyPatch) -> None:
    lines = written(joined, ServeFormatter("Mux", "abc"))
    logging.getLogger("museserve.media").info("of %s", "nobody")
    logs.carry(CallIds("u-1"))
    logging.getLogger("museserve.media").info("of %s", "one")
    logs.carry(CallIds("u-1", "s_1"))
    logs.SERVE.warning("100 % of one")
    assert [line.partition(" -- ")[2] for line in lines] == [
        "of nobody",
        "of one [utterance_id=u-1]",
        "100 % of one [session_id=s_1 utterance_id=u-1]",
    ]


def test_json_has_the_ids_as_fields(joined: pytest.MonkeyPatch) -> None:
    lines = written(joined, JSONFormatter())
    logs.carry(CallIds("u-1", "s_1"))
    logs.SERVE.info("spoke")
    logs.carry(CallIds(session="s_1"))
    logs.SERVE.info("listens")
    spoke, listens = map(json.loads, lines)
    assert (spoke["message"], spoke["utterance_id"], spoke["session_id"]) == ("spoke", "u-1", "s_1")
    assert listens["session_id"] == "s_1" and "utterance_id" not in listens


async def test_whoever_works_for_it_carries_the_ids_too(joined: pytest.MonkeyPatch) -> None:
    lines = written(joined, JSONFormatter())
    voice, pool = logging.getLogger("museserve.speech"), DeadlineExecutor()

    async def speak(name: str) -> None:
        logs.carry(CallIds(name))
        await pool.run(0.0, lambda: voice.warning("thread"))
        await asyncio.create_task(asyncio.to_thread(voice.warning, "task"))

    await asyncio.gather(*(asyncio.create_task(speak(name)) for name in ("u-1", "u-2")))
    assert sorted((json.loads(line)["utterance_id"], json.loads(line)["message"]) for line in lines) == [
        *(("u-1", "task"), ("u-1", "thread")),
        *(("u-2", "task"), ("u-2", "thread")),
    ]


def test_a_batch_names_all_whom_it_serves() -> None:
    several = [CallIds("u-1", "s_1"), CallIds("u-2"), CallIds("u-3", "s_1"), CallIds(), CallIds("u-1", "s_1")]
    assert logs.of_all(several) == CallIds("u-1,u-2,u-3", "s_1")


def test_text_names_the_request_once(joined: pytest.MonkeyPatch) -> None:
    """Whether Serve's own filter put it into the line or not."""
    lines = written(joined, ServeFormatter("Mux", "abc"))
    logs.carry(CallIds("u-1"))
    context: Any = _serve_request_context  # Ray types it as always None
    context.set(_RequestContext(request_id="r-1"))
    logs.SERVE.info("spoke")
    joined.setattr(logs.SERVE.handlers[0], "filters", [ServeContextFilter()])
    logs.SERVE.info("spoke")
    assert [line.rsplit("Mux abc ", 1)[1] for line in lines] == [
        "-- spoke [request_id=r-1 utterance_id=u-1]",
        "r-1 -- spoke [utterance_id=u-1]",
    ]
    context.set(None)
