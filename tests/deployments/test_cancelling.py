"""Whatever is not wanted any more stops, on both transports: gRPC between replicas, and Ray's object store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from configs.models import ServerConfig
from museserve.runtime import cpu
from tests.ray_cluster import Cluster, cluster, until

pytestmark = pytest.mark.serve

CASES = {
    "late_then_second": ["begun", "cancelled", "begun", "answered"],
    "hedged_with_second": ["begun", "begun", "answered", "cancelled"],
    "late_for_good": ["begun", "cancelled", "begun", "cancelled"],
    "given_up": ["begun", "cancelled"],
    "queued": ["begun", "cancelled"],
    "broken_off": ["begun", "cancelled"],
    "failed_meanwhile": ["begun", "cancelled"],
    "cancelled_while_waiting": ["begun", "cancelled"],
    "through_another": ["begun", "cancelled"],
    "prepared_in_part": ["begun", "cancelled"],
    "never_begun": [],
}
SENT_S = 1.0  # in which a call that was made would have begun


@pytest.fixture(scope="module", params=[True, False], ids=["grpc", "object store"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Path]]:
    folder = tmp_path_factory.mktemp("noted")
    with cluster(num_cpus=4, env={cpu.SHARED: ""}, server=ServerConfig(fast_transport=request.param)) as made:
        app: dict[str, Any] = {
            "name": "museserve",
            "route_prefix": "/",
            "import_path": "tests.cancelled_graph:build",
            "args": {"folder": str(folder)},
        }
        made.deploy({"proxy_location": "EveryNode", "applications": [app]})
        made.settled()
        yield made, folder


def noted(folder: Path, case: str) -> list[str]:
    file = folder / case
    return file.read_text().split() if file.exists() else []


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_wanted_any_more_stops(running: tuple[Cluster, Path], case: str) -> None:
    made, folder = running
    assert httpx.get(f"{made.url}/{case}", timeout=60).status_code == 200
    if not CASES[case]:
        time.sleep(SENT_S)
    until(lambda: sorted(noted(folder, case)) == sorted(CASES[case]), 15)
    began = [word for word in noted(folder, case) if word != "answered"]
    assert began == [word for word in CASES[case] if word != "answered"]


def test_when_the_caller_hangs_up_everything_below_stops(running: tuple[Cluster, Path]) -> None:
    made, folder = running
    with httpx.stream("GET", f"{made.url}/stream/hung_up", timeout=60) as answer:
        next(answer.iter_raw())
    until(lambda: noted(folder, "hung_up") == ["begun", "cancelled"], 30)


def test_a_replica_keeps_to_the_cores_that_it_was_given(running: tuple[Cluster, Path]) -> None:
    made, _ = running
    assert httpx.get(f"{made.url}/threads", timeout=60).json() == [[1, 1], [min(2, cpu.usable_cores()), 1]]
