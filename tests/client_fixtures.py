"""A museserve for the tests of clients and plugins, whose conftests name these fixtures. Needs nothing but pytest."""

from __future__ import annotations

from collections.abc import Iterator
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
