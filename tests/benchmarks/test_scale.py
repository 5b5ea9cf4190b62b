"""docs/scale.md is what the measured figures make of it, and its arithmetic follows what goes in."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scale import (
    INPUTS,
    NETWORK,
    PROCESSOR,
    RESULTS,
    SIZES,
    Inputs,
    MissingError,
    Plan,
    gives_out,
    measured,
    page,
    peak,
    plan,
    read_inputs,
)

ROOT = Path(__file__).parents[2]
OURS = read_inputs(INPUTS)


def inputs(kind: str = "cpu", **changes: Any) -> Inputs:
    return OURS.model_copy(update={kind: getattr(OURS, kind).model_copy(update=changes)})


def planned(candidates: int, kind: str = "cpu", given: Inputs = OURS, results: Path = RESULTS, *, edge: bool = False) -> Plan:
    return plan(candidates, kind, given, measured(kind, results), edge=edge)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RESULTS, tmp_path / "results"))


def change(results: Path, file: str, **keys: Any) -> None:
    path = results / f"{file}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def test_the_page_is_in_step_with_the_results() -> None:
    assert (ROOT / "docs" / "scale.md").read_text(encoding="utf-8") == page(OURS, RESULTS), "run: make docs"


def test_what_is_named_as_missing_is_missing() -> None:
    text = page(OURS, RESULTS)
    named = re.findall(r"`(benchmarks/results/\S+\.json)`|--out (benchmarks/results/\S+\.json)", text[text.index("## Missing") :])
    files = [one or other for one, other in named]
    assert len(files) == 2 and not [file for file in files if (ROOT / file).exists()], "it is measured now: use it in benchmarks/scale.py"


def test_the_machine_that_was_measured_carries_what_it_carried() -> None:
    """At the edge a node of its shape holds the streams of which none ran dry, and not one more."""
    service = json.loads((RESULTS / "service.json").read_text())
    found = planned(1_000, given=inputs(cores=service["machine"]["cores"]), edge=True)
    assert found.has[PROCESSOR] / (found.asked[PROCESSOR] / found.streams) == pytest.approx(service["streams_both"]["most_without_underrun"])


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
@pytest.mark.parametrize("edge", [False, True])
def test_twice_the_price_is_twice_the_cost(kind: str, edge: bool) -> None:
    dear = OURS.model_copy(update={k: getattr(OURS, k).model_copy(update={"price": 2 * getattr(OURS, k).price}) for k in ("cpu", "gpu")})
    for n in SIZES:
        once, twice = planned(n, kind, edge=edge), planned(n, kind, dear, edge=edge)
        assert twice.nodes == once.nodes and twice.price == pytest.approx(2 * once.price) and once.price > 0


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_nobody_needs_no_node(kind: str) -> None:
    found = planned(0, kind)
    assert (found.nodes, found.streams, found.price, found.memory_gib) == (0, 0, 0, 0)


def test_a_small_network_gives_out_first() -> None:
    wide, narrow = planned(1_000), planned(1_000, given=inputs(network_gbit=0.01))
    assert wide.scarcest()[0] != NETWORK == narrow.scarcest()[0] and narrow.nodes > wide.nodes


def test_a_cluster_has_a_head_and_one_machine_has_none() -> None:
    assert planned(10).nodes == 1
    found = planned(1_000, "gpu")
    assert found.price == pytest.approx((found.nodes - 1) * OURS.gpu.price + OURS.cpu.price)


def test_more_candidates_never_need_less() -> None:
    for kind in ("cpu", "gpu"):
        nodes = [planned(n, kind).nodes for n in (1, 10, 100, 1_000, 10_000, 100_000)]
        assert nodes == sorted(nodes) and nodes[-1] > 100 * nodes[0]


def test_the_peak_lies_above_the_mean_and_below_everybody() -> None:
    assert peak(0, 0.3) == 0 and peak(1, 0.3) == 1 and peak(10, 1.0) == 10
    assert 3 < peak(10, 0.3) < 10 and 30_000 < peak(100_000, 0.3) < 31_000


def test_what_is_shared_gives_out_where_its_end_is() -> None:
    """The bucket is named once there is less of it than is asked for."""
    found = planned(1_000)
    tight = OURS.model_copy(update={"store_reads_per_s": 1.0})
    assert "reads" not in gives_out(found, "cpu", OURS, RESULTS) and "reads" in gives_out(found, "cpu", tight, RESULTS)
    assert "max_replicas" not in gives_out(planned(10), "cpu", OURS, RESULTS)


def test_a_better_result_needs_fewer_nodes_and_another_page(results: Path) -> None:
    """Twice the streams for the same processor time."""
    both = json.loads((results / "service.json").read_text())["streams_both"]
    four, most = next(s for s in both["steps"] if s["streams"] == 4), [s for s in both["steps"] if not s["underrun"]][-1]
    change(results, "service", streams_both={**both, "steps": [both["steps"][1], four, {**most, "streams": 2 * most["streams"]}]})
    assert planned(100_000, results=results, edge=True).nodes < 0.7 * planned(100_000, edge=True).nodes
    assert page(OURS, results) != page(OURS, RESULTS)


def test_without_a_cards_figures_the_page_says_so(results: Path) -> None:
    (results / "gpu.json").unlink()
    text = page(OURS, results)
    assert "| GPU" not in text and "| CPU" in text
    assert "All of GPU nodes: gpu.json" in text and "`python -m benchmarks.gpu`" in text


def test_a_graph_that_had_gaps_is_no_capacity(results: Path) -> None:
    gpu = json.loads((results / "gpu.json").read_text())
    change(results, "gpu", graph={"exact": {**gpu["graph"]["exact"], "largest_gap_ms": [0.0, 41.0]}})
    with pytest.raises(MissingError, match="without a gap"):
        measured("gpu", results)


def test_a_missing_figure_is_an_error_with_its_command(results: Path) -> None:
    change(results, "cluster_bytes", all_on_both_nodes={})
    with pytest.raises(MissingError, match=r"cluster_bytes.json has no all_on_both_nodes, together: `python -m benchmarks.cluster bytes`"):
        page(OURS, results)


def test_the_command(tmp_path: Path) -> None:
    """Own inputs from a file, written where it is told to; what is wrong in them is named."""
    mine, out = tmp_path / "mine.yaml", tmp_path / "out.md"
    mine.write_text(INPUTS.read_text().replace("currency: USD", "currency: EUR"))
    run = [sys.executable, "-m", "benchmarks.scale", "--candidates", "50", "--inputs", str(mine), "--out", str(out)]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == out.read_text() and "| 50 | CPU, as shipped |" in done.stdout and "Prices in EUR" in done.stdout
    mine.write_text(INPUTS.read_text().replace("speaking: 0.3", "speeking: 0.3"))
    wrong = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert wrong.returncode == 1 and "speeking" in wrong.stderr and "Traceback" not in wrong.stderr
