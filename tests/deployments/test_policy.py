"""The autoscaling policy, on the contexts that Serve makes, through the wrapper that Serve puts around it."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.serve._private.common import DeploymentID, ReplicaID
from ray.serve.autoscaling_policy import _apply_app_level_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from configs.models import CapacityConfig
from deployments.policy import InProportion, Window, told_by_mux

NAMES = ("Ingress", "Mux", "TTS", "LipSync", "FacePrep")
CAPACITY = {"mux_streams": 16, "lipsync_streams": 8, "tts_streams": 32, "aim": 0.5, "spare_replicas": 1, "window_s": 60.0}
STREAMS = {"Mux": 16, "LipSync": 8, "TTS": 32}


def key(name: str) -> DeploymentID:
    return DeploymentID(name=name, app_name="museserve")


def metrics(name: str, told: Mapping[str, float]) -> dict[str, Any]:
    return {metric: {ReplicaID("a", key(name)): value} for metric, value in told.items()}


def context(name: str, requests: Any, *, target: int = 1, now: float = 0.0, least: int = 1, most: int = 10, **other: Any) -> AutoscalingContext:
    given: dict[str, Any] = {
        **{"deployment_id": key(name), "deployment_name": name, "app_name": "museserve", "running_replicas": []},
        **{"current_num_replicas": target, "target_num_replicas": target, "policy_state": {}},
        **{"total_num_requests": requests, "total_queued_requests": 0.0, "aggregated_metrics": {}, "raw_metrics": {}},
        **{"capacity_adjusted_min_replicas": least, "capacity_adjusted_max_replicas": most, "current_time": now},
        **{"last_scale_up_time": None, "last_scale_down_time": None},
        "config": AutoscalingConfig(min_replicas=least, max_replicas=most, target_ongoing_requests=4),
    }
    return AutoscalingContext(**{**given, **other})


def contexts(live: float, targets: Mapping[str, int] | None = None, capacity: Mapping[str, Any] | None = None, **other: Any) -> Any:
    """Of all deployments, by id, with what they tell of `capacity`; sessions and avatars are 0."""
    config = CapacityConfig.model_validate({**CAPACITY, **(capacity or {})})
    told = {"Mux": metrics("Mux", told_by_mux(config)), "LipSync": metrics("LipSync", {"streams": config.lipsync_streams})}
    return {
        key(n): context(n, live if n == "Mux" else 0.0, target=(targets or {}).get(n, 1), **{"aggregated_metrics": told.get(n, {}), **other})
        for n in NAMES
    }


def wanted(given: dict[Any, AutoscalingContext], made: InProportion | None = None) -> dict[str, int]:
    answer, state = (made or InProportion())(given)
    assert set(answer) == set(given) == set(state)
    return {k.name: int(n) for k, n in answer.items()}


NO_SPARE = {"spare_replicas": 0}


def test_the_stages_are_in_proportion() -> None:
    assert wanted(contexts(16)) == {"Mux": 3, "LipSync": 5, "TTS": 2, "Ingress": 1, "FacePrep": 1}


def test_nobody_watches() -> None:
    """No spare is kept either, so that zero is possible."""
    assert wanted(contexts(0, least=0)) == dict.fromkeys(NAMES, 0)


def test_the_others_follow_their_own_requests() -> None:
    given = contexts(0)
    for name, requests in (("Ingress", 9.0), ("FacePrep", 4.0)):  # 4 is what one shall have
        given[key(name)] = context(name, requests)
    got = wanted(given)
    assert (got["Ingress"], got["FacePrep"], got["Mux"]) == (3, 1, 1)


def test_replicas_tell_how_many_streams_they_carry() -> None:
    told = {"streams": {ReplicaID("a", key("LipSync")): 3.0, ReplicaID("b", key("LipSync")): 5.0}}
    given = contexts(8, capacity=NO_SPARE)
    given[key("LipSync")] = context("LipSync", 0.0, aggregated_metrics=told)
    assert wanted(given)["LipSync"] == 4
    given[key("LipSync")] = context("LipSync", 0.0, aggregated_metrics={"streams": {ReplicaID("a", key("LipSync")): math.nan}})
    assert wanted(given)["LipSync"] == 2, "target_ongoing_requests, until one has told it"


def test_settings_are_those_that_mux_told_last() -> None:
    made = InProportion()
    assert wanted(contexts(16), made)["LipSync"] == 5
    assert wanted(contexts(16, capacity={"aim": 1.0, "spare_replicas": 3}), made)["LipSync"] == 5
    given = contexts(16)
    given[key("Mux")] = context("Mux", 16.0, aggregated_metrics=None)
    assert wanted(given, made)["LipSync"] == 5
    assert wanted(contexts(16, capacity={"aim": 0.25, "spare_replicas": 0}), made)["LipSync"] == 8


def test_a_peak_counts_for_its_window() -> None:
    made = InProportion()
    assert wanted(contexts(20, capacity=NO_SPARE, now=0.0), made)["LipSync"] == 5
    assert wanted(contexts(2, {"LipSync": 5}, NO_SPARE, now=59.0), made)["LipSync"] == 5
    assert wanted(contexts(2, {"LipSync": 5}, NO_SPARE, now=61.0), made)["LipSync"] == 1


def test_a_little_less_load_ends_no_replica() -> None:
    made, at_once = InProportion(), {"spare_replicas": 0, "window_s": 0.0}
    assert wanted(contexts(16, {"LipSync": 5}, at_once), made)["LipSync"] == 5  # 4 would do
    assert wanted(contexts(13, {"LipSync": 5}, at_once, now=1.0), made)["LipSync"] == 4


class Broken:
    """Nothing of it can be read."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


@pytest.mark.parametrize("load", [math.nan, math.inf, -1.0, None, "many"])
def test_a_load_that_is_none_changes_nothing(load: Any, caplog: pytest.LogCaptureFixture) -> None:
    made, given = InProportion(), contexts(0, dict.fromkeys(NAMES, 3))
    given[key("Mux")] = context("Mux", load, target=3)
    with caplog.at_level(logging.WARNING, "ray.serve"):
        logging.getLogger("ray.serve").addHandler(caplog.handler)
        got = [wanted(given, made) for _ in range(3)]
        logging.getLogger("ray.serve").removeHandler(caplog.handler)
    assert got[-1] == {"Mux": 3, "LipSync": 3, "TTS": 3, "Ingress": 1, "FacePrep": 1}
    said = [m for m in {r.getMessage() for r in caplog.records} if "LipSync" in m]
    assert len(said) == 1 and "stays" in said[0]
    assert len([r for r in caplog.records if r.getMessage() == said[0]]) <= 2, "once, by each of the two handlers"


def test_nothing_it_is_given_makes_it_raise() -> None:
    made = InProportion()
    without_mux = {k: c for k, c in contexts(5, dict.fromkeys(NAMES, 2)).items() if k.name != "Mux"}
    assert wanted(without_mux, made) == {"LipSync": 2, "TTS": 2, "Ingress": 1, "FacePrep": 1}
    assert made({}) == ({}, {})
    answer, _ = made({key("Mux"): Broken(), "odd": Broken(), key("TTS"): context("TTS", 1.0, target=4, config=None)})  # type: ignore[dict-item]
    assert answer == {key("Mux"): 1, "odd": 1, key("TTS"): 4}
    lazy = context("Mux", lambda: 1 / 0, target=2)
    assert made({key("Mux"): lazy})[0] == {key("Mux"): 2}


LOADS = st.floats(0, 500)


@given(LOADS, LOADS, st.integers(1, 8), st.integers(1, 12))
def test_more_load_never_wants_fewer(one: float, other: float, least: int, target: int) -> None:
    low, high = (wanted(contexts(load, dict.fromkeys(NAMES, target), least=least, most=12)) for load in sorted((one, other)))
    assert all(low[name] <= high[name] for name in NAMES)


@given(LOADS, st.integers(0, 5), st.integers(5, 12), st.floats(0.1, 1), st.integers(0, 3))
def test_within_bounds_and_never_below_what_is_live(load: float, least: int, most: int, aim: float, spare: int) -> None:
    capacity = {"aim": aim, "spare_replicas": spare}
    got = wanted(contexts(load, dict.fromkeys(NAMES, most), capacity, least=least, most=most))
    assert all(least <= n <= most for n in got.values())
    assert all(got[name] >= min(most, math.floor(load / streams)) for name, streams in STREAMS.items())


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), st.floats(0, 20))
def test_the_window_has_the_largest(loads: list[float], seconds: float) -> None:
    window = Window()
    for now, load in enumerate(loads):
        assert window.largest(load, float(now), seconds) == max(loads[max(0, math.ceil(now - seconds)) : now + 1])


def run(loads: list[float], capacity: Mapping[str, Any], *, up: float = 1.0, down: float = 30.0, tick: float = 0.25) -> list[int]:
    """LipSync's replicas at each tick, as Serve's controller would have them: with its delays, its bounds and its state."""
    serve_calls = _apply_app_level_autoscaling_config(InProportion())
    delays = AutoscalingConfig(min_replicas=1, max_replicas=20, upscale_delay_s=up, downscale_delay_s=down)
    state: dict[Any, Any] = {}
    target, seen = 1, []
    for at, load in enumerate(loads):
        given = contexts(load, {"LipSync": target}, capacity, most=20, config=delays)
        for k, c in given.items():
            c.current_time, c.policy_state = at * tick, state.get(k, {})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ray.serve.autoscaling_policy.time.time", lambda at=at: at * tick)
            decided, state = serve_calls(given)
        target = max(1, min(20, math.ceil(decided[key("LipSync")])))
        seen.append(target)
    return seen


@settings(max_examples=30)
@given(st.floats(0, 60))
def test_steady_load_moves_once(load: float) -> None:
    seen = run([load] * 400, {})
    assert len(set(seen[8:])) == 1


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.floats(4, 60))
def test_noise_does_not_swing_it(seed: int, middle: float) -> None:
    """Two minutes of load that wanders by an eighth: replicas only grow, and no further than its largest needs."""
    draw = random.Random(seed)
    seen = run([middle * draw.uniform(7 / 8, 9 / 8) for _ in range(480)], {})
    changes = [b - a for a, b in zip(seen, seen[1:], strict=False) if b != a]
    assert all(step > 0 for step in changes) and seen[-1] <= math.ceil(middle * 9 / 8 / 4) + 1


def test_it_follows_a_burst_up_at_once_and_down_in_its_time() -> None:
    seen = run([0.0] * 4 + [12.0] * 80 + [0.0] * 800, {"window_s": 10.0})
    risen = next(i for i, n in enumerate(seen) if n == 4)
    fallen = next(i for i, n in enumerate(seen) if i > 90 and n == 1)
    assert risen <= 4 + 1.0 / 0.25 + 1
    assert 84 + (10 + 30) / 0.25 - 2 <= fallen <= 84 + (10 + 30) / 0.25 + 4


def test_a_dip_within_the_delay_keeps_the_peak() -> None:
    """The last wish of a delay counts in Serve, not its largest."""
    loads = [0.0] * 4 + [20.0] * 3 + [4.0] * 20
    assert run(loads, NO_SPARE)[12] == 5
