"""`museserve serve` with the lip-sync of `tests.faulty_engine`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from museserve.app import local
from museserve.app.cli import main

FAULTS = "MUSESERVE_TEST_FAULTS"  # names the folder that tells the engine to fail

_serve = local._serve


def serve_faulty(*args: Any) -> Iterator[str]:
    import graph  # brings Ray, which reads its flags from the environment that is set by now
    from tests.faulty_engine import LipSync

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "LipSync", LipSync)
        yield from _serve(*args)


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "_serve", serve_faulty)
        main()
