"""How many replicas a cluster runs: one policy for the whole application, called by Serve's controller each quarter of a second.

A stream keeps a replica busy by how long it lasts, not by how many requests it makes, so what counts is live utterances
against how many of them a replica carries. Serve applies each deployment's bounds, delays and factors afterwards.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from ray.serve.config import AutoscalingContext

from configs.models import CapacityConfig

logger = logging.getLogger("ray.serve")

STAGES = ("Mux", "LipSync", "TTS")  # what every live utterance passes; Mux counts them
STREAMS = "streams"  # the metric by which a replica tells how many it carries
TOLD = ("aim", "spare_replicas", "window_s", "tts_streams")  # metrics of Mux: keys of `capacity`
SLACK = 1.15  # replicas leave only when so much more load would not need them


def told_by_mux(capacity: CapacityConfig) -> dict[str, float]:
    """The metrics of a Mux replica. They are how the policy gets its settings: were they its arguments, Serve would
    replace every replica for a change of one."""
    return {STREAMS: capacity.mux_streams, **{name: float(getattr(capacity, name)) for name in TOLD}}


class InProportion:
    """Mux, LipSync and TTS by the live utterances; every other deployment by its own requests.

    `capacity.aim` of what the replicas carry is in use, and `spare_replicas` more are there while anybody watches. Always
    the largest load of the last `window_s` counts: Serve acts on the last wish of a delay, and a dip must not undo a
    peak. What replicas carry they tell by their metric "streams"; until one does, its `target_ongoing_requests` are
    aimed at.
    """

    def __init__(self) -> None:
        self._settings = told_by_mux(CapacityConfig())
        self._loads: dict[Any, Window] = {}
        self._warned: set[str] = set()

    def __call__(self, contexts: dict[Any, AutoscalingContext]) -> tuple[dict[Any, int | float], dict[Any, dict[Any, Any]]]:
        """Deployment -> replicas wanted, of every one that is given: one that is left out would stay as it is.

        Raises nothing: an error here stops all changes of the application in Serve 2.60.
        """
        wanted: dict[Any, int | float] = {}
        for key, context in contexts.items():
            try:
                wanted[key] = self._wanted(key, context, contexts)
            except Exception as error:  # whatever it is, see above
                self._warn(f"{_name(key)} stays at its replicas: {type(error).__name__}: {error}")
                wanted[key] = _target(context)
        return wanted, {key: {} for key in contexts}

    def _wanted(self, key: Any, context: AutoscalingContext, contexts: Mapping[Any, AutoscalingContext]) -> int:
        name = _name(key)
        shared = name in STAGES
        source = next((c for k, c in contexts.items() if _name(k) == STAGES[0]), None) if shared else context
        if source is None:
            raise LookupError(f"{STAGES[0]}, which counts the live utterances, is not there")
        load = float(source.total_num_requests)
        if not math.isfinite(load) or load < 0:
            raise ValueError(f"its load is {load}")
        if shared:
            self._settings |= {metric: value for metric in TOLD if (value := _told(source, metric)) is not None}
        now = time.time() if context.current_time is None else context.current_time
        peak = self._loads.setdefault(key, Window()).largest(load, now, self._settings["window_s"])
        each = self._aimed(name, context) if shared else _own_target(context)
        spare = round(self._settings["spare_replicas"]) if shared and peak > 0 else 0
        wish, target = _replicas(peak, each) + spare, context.target_num_replicas
        if wish < target:
            wish = min(target, _replicas(peak * SLACK, each) + spare)
        return min(max(wish, context.capacity_adjusted_min_replicas), context.capacity_adjusted_max_replicas)

    def _aimed(self, name: str, context: AutoscalingContext) -> float:
        """The live utterances that one replica shall have."""
        streams = self._settings["tts_streams"] if name == "TTS" else _told(context, STREAMS)
        return streams * self._settings["aim"] if streams else _own_target(context)

    def _warn(self, message: str) -> None:
        if message not in self._warned and len(self._warned) < 100:
            self._warned.add(message)
            logger.warning("autoscaling: %s", message)


class Window:
    """The largest of what was seen lately."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()  # time, load; loads descend, because a later larger one hides the earlier

    def largest(self, load: float, now: float, seconds: float) -> float:
        while self._seen and self._seen[-1][1] <= load:
            self._seen.pop()
        self._seen.append((now, load))
        while self._seen[0][0] < now - seconds:
            self._seen.popleft()
        return self._seen[0][1]


def _replicas(load: float, each: float) -> int:
    return math.ceil(load / each - 1e-9)  # 3 x 0.1 must not need a fourth


def _name(key: Any) -> str:
    return str(getattr(key, "name", key))


def _told(context: AutoscalingContext, metric: str) -> float | None:
    """The mean of what replicas tell; None when none does."""
    by_replica = (context.aggregated_metrics or {}).get(metric) or {}
    told = [value for value in by_replica.values() if math.isfinite(value) and value >= 0]
    return sum(told) / len(told) if told else None


def _own_target(context: AutoscalingContext) -> float:
    assert context.config is not None
    return float(context.config.get_target_ongoing_requests())


def _target(context: Any) -> int:
    try:
        return int(context.target_num_replicas)
    except Exception:  # nothing is known of it at all
        return 1
