"""A graph whose LipSync needs half a card a replica, under viewers who come and go: 1 to 3 replicas and back.

The cards are counted, not real, and the engine sleeps for as long as such a card would draw.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cluster.nodes import Cluster, cluster_of
from benchmarks.cluster.viewers import Load, Watched, lateness
from benchmarks.service import percentile
from tests.sleepy_graph import FRAME_MS

MS_A_FRAME = 6.0  # 6.7 streams a replica, if it draws all the time
STREAMS_A_REPLICA = 4
FEW, MANY, ARRIVE_S, FILMS = 2, 12, 4.0, 3
CALM_S, AFTER_S = 12.0, 180.0
EVERY_S = 0.25
SETTINGS = (
    *(f"capacity.lipsync_streams={STREAMS_A_REPLICA}", "capacity.window_s=15"),
    *("deployments.lipsync.num_gpus=0.5", "deployments.lipsync.num_cpus=0.5", "deployments.lipsync.min_replicas=1"),
    *("deployments.lipsync.max_replicas=3", "deployments.lipsync.downscale_delay_s=10", "deployments.lipsync.max_surge_percent=0"),
    *("deployments.mux.min_replicas=1", "deployments.mux.max_replicas=3", "deployments.mux.downscale_delay_s=10"),
    *("deployments.ingress.max_replicas=2", "deployments.tts.min_replicas=1", "deployments.tts.downscale_delay_s=10"),
)
SHOWN = ("LipSync", "Mux")


class Watch:
    """What the cluster is told to run, and runs, every quarter of a second."""

    def __init__(self, cluster: Cluster) -> None:
        self.samples: list[tuple[float, dict[str, tuple[int, list[str]]]]] = []  # when: deployment -> target, nodes of those that run
        self._cluster, self._stop = cluster, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        nodes = {node.address: node.name for node in self._cluster.nodes.values()}
        while not self._stop.wait(EVERY_S):
            at = time.perf_counter()
            deployments = self._cluster.status().get("applications", {}).get("museserve", {}).get("deployments", {})
            seen = {
                name: (d["target_num_replicas"], sorted(nodes[r["node_ip"]] for r in d["replicas"] if r["state"] == "RUNNING"))
                for name, d in deployments.items()
            }
            if seen:
                self.samples.append((at, seen))

    def steps(self, began: float) -> list[dict[str, Any]]:
        """Each change of a target, and how long until so many replicas ran."""
        found: list[dict[str, Any]] = []
        for (_, before), (at, after) in zip(self.samples, self.samples[1:], strict=False):
            for name in sorted(before.keys() & after.keys()):
                old, new = before[name][0], after[name][0]
                if old != new:
                    reached = (t for t, seen in self.samples if t >= at and name in seen and len(seen[name][1]) == new)
                    done = next(reached, None)
                    found.append(
                        {
                            **{"deployment": name, "from": old, "to": new, "decided_s": round(at - began, 1)},
                            "there_after_s": None if done is None else round(done - at, 1),
                        }
                    )
        return found


def scale(plot: Path) -> dict[str, Any]:
    workers = {"cpu": {"cpus": 8}, "gpu1": {"cpus": 8, "gpus": 1}, "gpu2": {"cpus": 8, "gpus": 1}}
    with cluster_of(workers, flags={FRAME_MS: str(MS_A_FRAME)}) as cluster:
        cluster.deploy(cluster.document(*SETTINGS))
        load = Load(cluster.urls())
        watch = Watch(cluster)
        load.streams(FEW, films=FILMS + 1)
        time.sleep(CALM_S)
        load.event()
        load.streams(MANY - FEW, apart_s=ARRIVE_S / (MANY - FEW), films=FILMS)
        load.wait()
        try:
            cluster.until(lambda: len(cluster.replicas("LipSync")) == 1, AFTER_S, "one LipSync again")
        finally:
            load.finish()
            watch.stop()
        found = summary(load, watch)
        draw(load, watch, plot)
        return found


def summary(load: Load, watch: Watch) -> dict[str, Any]:
    admitted = [w for w in load.watched if w.viewing.fragments]
    late = [lateness(w.arrivals, 0.0) for w in admitted]
    first = sorted(w.viewing.first_s * 1e3 for w in admitted)
    most = max(watch.samples, key=lambda sample: len(sample[1]["LipSync"][1]))[1]
    return {
        "viewers": MANY,
        "ms_a_frame": MS_A_FRAME,
        "streams_a_replica": STREAMS_A_REPLICA,
        "streams": len(admitted),
        "whole": sum(w.end == "whole" and not w.jumps() for w in admitted),
        "late_streams": sum(s > 0 for s in late),
        "longest_stall_s": round(max([0.0, *late]), 2),
        "answered_503": sum(w.end == "no room" for w in load.watched),
        "first_fragment_ms": {"p50": percentile(first, 50), "p95": percentile(first, 95), "max": round(first[-1], 1)},
        "steps": watch.steps(load.happened),
        "nodes_at_most": {name: nodes for name, (_, nodes) in most.items()},
    }


def alive(watched: Sequence[Watched], at: float) -> int:
    """Streams that somebody watches then."""
    return sum(bool(w.viewing.fragments) and w.began <= at <= w.began + w.viewing.total_s for w in watched)


def draw(load: Load, watch: Watch, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    begin = load.happened
    times = [at - begin for at, _ in watch.samples]
    figure, (top, middle, bottom) = pyplot.subplots(3, 1, sharex=True, figsize=(8, 6), height_ratios=(2, 2, 2), layout="constrained")
    top.step(times, [alive(load.watched, at) for at, _ in watch.samples], where="post", color="tab:blue")
    top.set_ylabel("live streams")
    top.set_yticks(range(0, MANY + 3, 2))
    for name, colour in zip(SHOWN, ("tab:green", "tab:purple"), strict=True):
        seen = [sample[name] for _, sample in watch.samples]
        middle.step(times, [len(nodes) for _, nodes in seen], where="post", color=colour, label=f"{name}, running")
        middle.step(times, [target for target, _ in seen], where="post", color=colour, linestyle=":", label=f"{name}, wanted")
    middle.set_ylabel("replicas")
    middle.set_yticks(range(5))
    middle.legend(loc="lower center", ncols=2, fontsize="small")
    came = [w for w in load.watched if w.viewing.fragments]
    bottom.plot([w.began - begin for w in came], [w.viewing.first_s * 1e3 for w in came], ".", color="tab:blue", label="first fragment")
    if waiting := [w.began - begin for w in load.watched if w.end == "no room"]:
        bottom.plot(waiting, [0.0] * len(waiting), "x", color="tab:red", label="503: come back later")
    bottom.set_ylabel("milliseconds")
    bottom.set_ylim(bottom=-20)
    bottom.set_xlabel(f"seconds since {MANY - FEW} more viewers began to come")
    bottom.legend(loc="upper right", fontsize="small")
    figure.savefig(path, dpi=90)
