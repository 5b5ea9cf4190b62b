"""What clients see when a part of the cluster is lost under load, how long until it is whole again, and what is left over."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

from benchmarks.cluster.nodes import PORT, ROOT, Cluster, Node, cluster_of
from benchmarks.cluster.viewers import Load
from benchmarks.service import machine_seconds

STREAMS, SESSIONS = 4, 4  # so that each Ingress has some of them, and two cores some time for a new replica
BEFORE_S = 6.0  # all streams and sessions have begun by then
WHOLE_S = 150.0  # Ray notices a silent node after 65
REST_S = 30.0
HEAD_AWAY_S = 6.0
EXPECTED = Counter({"Ingress": 2, "Mux": 2, "TTS": 2, "LipSync": 2, "FacePrep": 1})
SETTINGS = tuple(
    f"deployments.{name}.{key}"
    for name in ("ingress", "mux", "tts", "lipsync")
    for key in ("min_replicas=2", "max_replicas=2", "max_replicas_per_node=1", "max_surge_percent=0")
)


@dataclass
class Loss:
    """A way to lose something. happen: does it, and gives what tells whether all is there again, beside the replicas."""

    happen: Callable[[Cluster, Load], Callable[[], bool]]
    mend: Callable[[Cluster], object] = lambda cluster: None


def nothing(cluster: Cluster, load: Load) -> Callable[[], bool]:
    """What clients see without any loss: whatever is late by it is the machine's."""
    load.event()
    return lambda: True


def loaded(cluster: Cluster) -> list[Node]:
    """Workers with replicas, and so with a proxy."""
    names = {replica.node.name for replica in cluster.replicas()}
    return [node for node in cluster.workers if node.name in names]


def replica(deployment: str) -> Callable[[Cluster, Load], Callable[[], bool]]:
    def happen(cluster: Cluster, load: Load) -> Callable[[], bool]:
        victim = cluster.replicas(deployment)[0]
        load.event()
        victim.send(signal.SIGKILL)
        return lambda: victim.id not in {r.id for r in cluster.replicas()}

    return happen


def process(on_head: bool, pattern: str) -> Callable[[Cluster, Load], Callable[[], bool]]:
    """One that is no replica."""

    def happen(cluster: Cluster, load: Load) -> Callable[[], bool]:
        node = cluster.nodes["head"] if on_head else loaded(cluster)[0]
        victims = node.processes(pattern)
        load.event("" if on_head else node.url)
        for victim in victims:
            victim.send_signal(signal.SIGKILL)
        before = {victim.pid for victim in victims}
        return lambda: bool({p.pid for p in node.processes(pattern)} - before) and (on_head or cluster.answers(node))

    return happen


def node_killed(cluster: Cluster, load: Load) -> Callable[[], bool]:
    node = loaded(cluster)[0]
    load.event(node.url)
    node.kill()
    return lambda: True


def node_silent(cluster: Cluster, load: Load) -> Callable[[], bool]:
    node = loaded(cluster)[0]
    load.event(node.url)
    node.silence()
    return lambda: node.name not in {r.node.name for r in cluster.replicas()}


def node_drained(cluster: Cluster, load: Load) -> Callable[[], bool]:
    """As Kubernetes stops a worker: nobody is sent there any more, and it ends when drain.sh does."""
    node = loaded(cluster)[0]
    load.event()
    load.urls.leave(node.url)
    address = f"{cluster.nodes['head'].address}:6379"
    drain = node.run("bash", str(ROOT / "cluster/kuberay/base/drain.sh"), RAY_ADDRESS=address, DRAIN_S="690", PORT=str(PORT))

    def drained() -> bool:
        if drain.poll() is None:
            return False
        if drain.returncode:
            raise RuntimeError(f"drain.sh failed: {node.log()[-1000:]}")
        node.kill()
        return True

    return drained


def head_killed(cluster: Cluster, load: Load) -> Callable[[], bool]:
    load.event()
    cluster.nodes["head"].kill()
    time.sleep(HEAD_AWAY_S)
    cluster.start("head", wait=False)
    return cluster.runs


def node_back(cluster: Cluster) -> None:
    """A silent one has to start again, because Ray does not take it back. Replicas stay where they went."""
    for node in cluster.nodes.values():
        if node.silent or node.process is None:
            node.kill()
            node.silence(False)
            cluster.start(node.name)


LOSSES = {
    "nothing": Loss(nothing),
    "LipSync": Loss(replica("LipSync")),
    "TTS": Loss(replica("TTS")),
    "Mux": Loss(replica("Mux")),
    "Ingress": Loss(replica("Ingress")),
    "FacePrep": Loss(replica("FacePrep")),
    "controller": Loss(process(True, "ray::ServeController")),
    "haproxy": Loss(process(False, r"\S*/haproxy ")),
    "proxy_manager": Loss(process(False, "ray::HAProxyManager")),
    "head": Loss(head_killed),
    "node": Loss(node_killed, node_back),
    "drained_node": Loss(node_drained, node_back),
    "silent_node": Loss(node_silent, node_back),
}


def serving(nodes: Iterable[Node]) -> Counter[str]:
    """What of Serve runs on them, by kind."""
    kinds: Counter[str] = Counter()
    for node in nodes:
        for process in node.processes(r"ray::Serve|ray::HAProxy|ray::Proxy|\S*/haproxy "):
            with suppress(psutil.Error):
                kinds[process.cmdline()[0].rsplit("/", 1)[-1]] += 1
    return kinds


def lose(cluster: Cluster, name: str) -> dict[str, Any]:
    loss = LOSSES[name]
    began, busy = time.perf_counter(), machine_seconds()
    load = Load([node.url for node in loaded(cluster)])
    load.streams(STREAMS)
    load.sessions(SESSIONS)
    load.probe()
    time.sleep(BEFORE_S)
    there = loss.happen(cluster, load)

    def whole() -> bool:
        return there() and Counter(r.deployment for r in cluster.replicas()) == EXPECTED and cluster.runs() and cluster.reachable()

    try:
        whole_s: float | None = None
        cluster.until(whole, WHOLE_S, "all replicas run")
        whole_s = round(time.perf_counter() - load.happened, 1)
        load.streams_end(60)
    except RuntimeError as error:
        print(error)
    finally:
        load.finish()
    cores = round((machine_seconds() - busy) / (time.perf_counter() - began), 1)
    found = {"whole_again_after_s": whole_s, "cores_busy": cores, **load.report()}
    loss.mend(cluster)
    cluster.until(whole, WHOLE_S, "all replicas run")
    return found | {"left_over": left_over(cluster)}


def left_over(cluster: Cluster) -> dict[str, Any]:
    """After a rest: utterances that the replicas still count as live, and processes that should have ended."""
    end = time.monotonic() + REST_S
    while True:
        live = cluster.gauge("museserve_live_utterances")
        running = serving([n for n in cluster.nodes.values() if n.process])
        too_many = {
            kind: count
            for kind, count in running.items()
            if kind.startswith("ray::ServeReplica") and count > EXPECTED[kind.rsplit(":", 1)[-1]] or kind == "haproxy" and count > len(cluster.nodes)
        }
        if time.monotonic() > end or not live and not too_many:
            return {"live_utterances": live, "processes": too_many}
        time.sleep(1)


def kills(names: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each name with what was seen."""
    with cluster_of({"w1": {"cpus": 8}, "w2": {"cpus": 8}}, redis=True) as cluster:
        cluster.deploy(cluster.document(*SETTINGS))
        for name in names:
            if LOSSES[name].mend is node_back and "w3" not in cluster.nodes:
                cluster.start("w3", cpus=8)
            yield name, lose(cluster, name)


def table(found: dict[str, Any]) -> str:
    """Markdown, a row for each loss."""
    rows = [
        "| lost | streams whole | of them late | longest stall, s | new requests failed; longest first fragment, s | sessions | whole again, s |",
        "|---" * 7 + "|",
    ]
    for name, seen in found.items():
        streams, sessions, new = seen["streams"], seen["sessions"], seen["new_requests"]
        whole = f"{streams['whole']} of {streams['count']}"
        if through := seen.get("streams_through_what_was_lost"):
            whole += f"; through it {through['whole']} of {through['count']}"
        ends = ", ".join(map(str, sessions["closes"])) or "nothing"
        if sessions["closes"]:
            ends += f": {sessions['resumed']} resumed, {sessions['begun_anew']} begun anew"
        wrong, again = sessions["frames_missing_or_repeated"], sessions["said_again_from_the_start"]
        ends += f"; {wrong} frames wrong, {again} said again, stall {sessions['longest_stall_s']} s"
        cells = [
            name,
            whole,
            streams["late_streams"],
            streams["longest_stall_s"],
            f"{new['failed']}; {new['longest_first_fragment_s']}",
            ends,
            seen["whole_again_after_s"],
        ]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)
