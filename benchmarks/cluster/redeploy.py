"""A new version under live streams and sessions: every replica is replaced, and nobody shall notice."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.cluster.nodes import cluster_of
from benchmarks.cluster.viewers import TWENTY_SECONDS, Load

STREAMS, SESSIONS = 8, 4
BEFORE_S, AFTER_S = 8.0, 45.0  # the old ingress drains for 30
# Two cores cannot start more replicas beside those that speak; how they scale, `scale` says.
FIXED = tuple(f"deployments.{name}.{key}=2" for name in ("ingress", "mux", "tts", "lipsync") for key in ("min_replicas", "max_replicas"))
CHANGED = ("avatars.max_avatars=199", "speech.first_clause_chars=47")  # of what every deployment is made with


def redeploy() -> dict[str, Any]:
    with cluster_of({"w1": {"cpus": 24}, "w2": {"cpus": 24}}) as cluster:
        cluster.deploy(cluster.document(*FIXED))
        before = {r.id for r in cluster.replicas()}
        load = Load(cluster.urls())
        load.streams(STREAMS, text=" ".join([TWENTY_SECONDS] * 3))
        load.sessions(SESSIONS)
        load.probe(2.0)
        time.sleep(BEFORE_S)
        load.event()
        took_s = cluster.deploy(cluster.document(*FIXED, *CHANGED))
        cluster.until(lambda: not before & {r.id for r in cluster.replicas()}, 60, "every replica is a new one")
        time.sleep(AFTER_S)
        load.streams_end(120)
        load.finish()
        return {"running_again_after_s": round(took_s, 1), "replaced": len(before), **load.report()}
