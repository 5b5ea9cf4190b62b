"""A museserve for the tests of clients and plugins, whose conftests name these fixtures. Needs nothing but pytest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests import api_process


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[api_process.Api]:
    """Its process."""
    with ExitStack() as stack:
        try:
            started = stack.enter_context(api_process.process(tmp_path_factory.mktemp("api")))
        except LookupError as error:
            pytest.skip(str(error))
        yield started


@pytest.fixture(scope="session")
def url(api: api_process.Api) -> str:
    """Its address."""
    return api.url


async def until(check: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until `check` is true."""
    for _ in range(round(seconds / 0.02)):
        if check():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not so after {seconds} s")
