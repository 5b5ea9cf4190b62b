"""The benchmark of a card, on tiny networks and a CPU: it runs through, tells what it has so far, and reads the card's clocks."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from benchmarks.clocks import Sample, summary  # noqa: E402
from benchmarks.generated_models import write_models  # noqa: E402
from benchmarks.paired import Drawn, first_pictures, frames_per_s, measure, pairs  # noqa: E402
from benchmarks.paired import Variants as Made  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("models")
    write_models(path)
    return path


def test_every_pair_runs_through(folder: Path) -> None:
    so_far: list[int] = []
    results = measure(folder, CPU, [1, 3], 1, 0.0, 1e9, lambda told: so_far.append(len(json.dumps(told))))
    assert not results["left_out"]
    assert {name: set(by_size) for name, by_size in results["pairs"].items()} == {p.name: set(map(str, p.sizes)) for p in pairs([1, 3], False)}
    for by_size in results["pairs"].values():
        for told in by_size.values():
            assert told["frames_per_s_with"] > 0 and told["ratio"] > 0 and len(told["ratios"]) == 1
    assert len(results["first_pictures"]) == 3 and all(seen["asked"] and seen["p95_ms"] > 0 for seen in results["first_pictures"].values())
    assert len(so_far) > sum(map(len, results["pairs"].values())) and so_far == sorted(so_far)


def test_what_there_is_no_time_for_is_named(folder: Path) -> None:
    results = measure(folder, CPU, [1], 1, 0.0, 0.0, lambda told: None)
    assert not results["pairs"] and len(results["left_out"]) == len(pairs([1], False))
    json.dumps(results)


def test_parts_are_smaller_than_what_they_are_parts_of() -> None:
    by_name = {pair.name: pair.sizes for pair in pairs([2, 8, 32], True)}
    assert by_name["taesd: large stages 8 at a time"] == (32,) and by_name["exact: large stages 2 at a time"] == (8, 32)
    assert not any("large stages 8" in pair.name for pair in pairs([2, 8], True))


def test_a_card_compares_what_only_a_card_has() -> None:
    assert {pair.name for pair in pairs([8], True)} - {pair.name for pair in pairs([8], False)} == {"taesd: ReLU inside cuDNN's convolution"}


def test_frames_of_all_threads_count() -> None:
    """Each thread's draw sleeps, so two of them draw twice as much; a sleep is never shorter than was asked for."""
    drawn: list[float] = []

    def draw() -> None:
        time.sleep(0.02)
        drawn.append(time.perf_counter())

    assert 0 < frames_per_s(draw, 4, 1, 0.1) <= 4 / 0.02
    one = len(drawn)
    seen = frames_per_s(draw, 4, 3, 0.1)
    assert 0 < seen <= 3 * 4 / 0.02 and len(drawn) - one >= 3


def test_ratios_are_of_the_same_round() -> None:
    told = Drawn([10.0, 20.0, 40.0], [11.0, 30.0, 44.0]).told()
    assert told["ratios"] == [1.1, 1.1, 1.5] and told["ratio"] == 1.1 and told["frames_per_s_without"] == 20.0


def test_first_pictures_are_waited_for_beside_others(folder: Path) -> None:
    seen = first_pictures(Made(folder, CPU, (2, 4)), "taesd", 4, 2, 0.2)
    assert seen["asked"] >= 1 and 0 < seen["p50_ms"] <= seen["p95_ms"] and seen["frames_per_s_beside"] > 0


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("1980, 3201, 512.33, 54, 0x0000000000000004", Sample(1.0, 1980, 3201, 512.33, 54, 4)),
        ("1980, 3201, [N/A], 54, 0x0000000000000000", None),
        ("", None),
        ("NVIDIA-SMI has failed", None),
    ],
)
def test_lines_of_clocks(line: str, want: Any) -> None:
    assert Sample.parse(1.0, line) == want


def test_clocks_that_fall_are_seen_with_their_reason() -> None:
    seen = [Sample(i, mhz, 3201, 400 + i, 50 + i, reasons) for i, (mhz, reasons) in enumerate([(1980, 0), (1980, 0), (1755, 4), (1700, 0x24)])]
    told = summary(seen)
    assert told is not None and told["sm_mhz"] == {"least": 1700, "median": 1867.5, "most": 1980}
    assert told["held_down_by"] == {"power cap": 0.5, "heat, by software": 0.25} and told["celsius_at_most"] == 53
    assert summary([]) is None
