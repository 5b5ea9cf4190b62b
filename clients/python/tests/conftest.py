from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "clients" / "python")]

from tests import api_process  # noqa: E402


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[api_process.Api]:
    """A museserve."""
    with ExitStack() as stack:
        try:
            started = stack.enter_context(api_process.process(tmp_path_factory.mktemp("api")))
        except LookupError as error:
            pytest.skip(str(error))
        yield started


@pytest.fixture(scope="session")
def url(api: api_process.Api) -> str:
    return api.url
