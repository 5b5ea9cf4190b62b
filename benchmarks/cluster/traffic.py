"""Bytes between nodes, a second and stream: LipSync on a node of its own, and a LipSync beside each Mux."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks.cluster.nodes import Cluster, cluster_of
from benchmarks.cluster.viewers import TWENTY_SECONDS, Load

STREAMS = 6
IDLE_S, STEADY_AFTER_S, STEADY_S = 10.0, 8.0, 20.0
ONE = tuple(f"deployments.{name}.{key}" for name in ("ingress", "mux", "tts", "lipsync") for key in ("min_replicas=1", "max_replicas=1"))
TWO = tuple(
    f"deployments.{name}.{key}"
    for name in ("ingress", "mux", "tts", "lipsync")
    for key in ("min_replicas=2", "max_replicas=2", "max_replicas_per_node=1", "max_surge_percent=0")
)
LAYOUTS = {
    "lipsync_on_a_node_of_its_own": (
        *ONE,
        "deployments.lipsync.resources={w2: 0.1}",
        *(f"deployments.{name}.resources={{w1: 0.1}}" for name in ("ingress", "mux", "tts", "face_prep")),
    ),
    "all_on_both_nodes": TWO,
}


def traffic() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each layout with what was counted."""
    for name, settings in LAYOUTS.items():
        with cluster_of({"w1": {"cpus": 8}, "w2": {"cpus": 8}}) as cluster:
            cluster.deploy(cluster.document(*settings))
            places = sorted(f"{r.deployment} {r.node.name}" for r in cluster.replicas())
            yield name, {"replicas": places, **measured(cluster)}


def measured(cluster: Cluster) -> dict[str, Any]:
    """MB a second and stream that each worker sends to other nodes; what it sends without streams is taken off."""
    idle = rates(cluster, IDLE_S)
    load = Load(cluster.urls())
    load.streams(STREAMS, text=" ".join([TWENTY_SECONDS] * 2), apart_s=0.2)
    time.sleep(STEADY_AFTER_S)
    busy = rates(cluster, STEADY_S)
    live = sum(not w.end for w in load.watched)
    load.finish()
    per_stream = {name: round((busy[name] - idle[name]) / 1e6 / STREAMS, 3) for name in busy}
    return {
        "sent_mb_a_second_and_stream": per_stream,
        "together": round(sum(per_stream.values()), 3),
        "idle_kb_a_second": {name: round(rate / 1e3, 1) for name, rate in idle.items()},
        "live_at_the_end": live,
        **load.report()["streams"],
    }


def rates(cluster: Cluster, seconds: float) -> dict[str, float]:
    """Bytes a second that each worker sends to other nodes."""
    before, began = {node.name: node.traffic()[1] for node in cluster.workers}, time.perf_counter()
    time.sleep(seconds)
    return {node.name: (node.traffic()[1] - before[node.name]) / (time.perf_counter() - began) for node in cluster.workers}
