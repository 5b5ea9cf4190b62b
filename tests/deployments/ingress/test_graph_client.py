"""What the ingress does when what it calls is lost over and over."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from ray.exceptions import RayActorError

from deployments.ingress.graph_client import PREPARE_TRIES, GraphClient
from museserve.errors import EngineError
from museserve.messages import PreparationProgress


class Deadly:
    """In place of a handle of FacePrep: each call has its first step, and then its replica dies."""

    def __init__(self) -> None:
        self.calls = 0
        self.prepare = self

    def options(self, **options: Any) -> Deadly:
        return self

    def remote(self, *arguments: Any) -> Deadly:
        self.calls += 1
        return self

    def __aiter__(self) -> AsyncGenerator[PreparationProgress, None]:
        return self._steps()

    async def _steps(self) -> AsyncGenerator[PreparationProgress, None]:
        yield PreparationProgress("read", 0.0)
        raise RayActorError

    def cancel(self) -> None: ...


async def test_a_picture_over_which_face_preparation_dies_takes_no_more_than_two_replicas() -> None:
    prep: Any = Deadly()
    told = []
    with pytest.raises(EngineError, match="lost 2 times"):
        async for step in GraphClient(prep, prep, 1, 1.0).prepare(b"", "deadly", "Deadly", "female"):
            told.append(step)
    assert prep.calls == PREPARE_TRIES == len(told)
