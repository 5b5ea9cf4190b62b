"""What many candidates at once take, on CPU nodes and on GPU nodes: nodes, memory, network, money, and what gives out first.

    python -m benchmarks.scale [--inputs FILE] [--results FOLDER] [--candidates 10 1000 ...] [--out FILE]

Arithmetic, not a measurement. Measured figures come from benchmarks/results/ alone, settings from the clusters' documents in
cluster/kuberay, and what is neither (prices, shapes of nodes, how much an interviewer speaks) from benchmarks/scale.yaml.
What was not measured is named with the command that would measure it. Prints docs/scale.md; benchmarks/scale.md has its text.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from configs.base import StrictModel
from museserve.timebase import FPS

ROOT = Path(__file__).parents[1]
RESULTS, INPUTS, TEXT = (ROOT / "benchmarks" / name for name in ("results", "scale.yaml", "scale.md"))
SIZES = (10, 1_000, 100_000)
ONCE_IN_1000 = 3.09  # standard deviations above its mean where a sum of many is once in a thousand times
STAGES = ("TTS", "LipSync", "Mux")  # their replicas follow the streams, those of Ingress the sessions
PROCESSOR, RESERVED, CARD, MEMORY, NETWORK = "processor", "reserved processors", "card", "memory", "network"
RESULTS_HEAD = (
    *("candidates", "on", "nodes", "streams", "streams a node", "memory, GiB", "to viewers, Gbit/s", "between nodes", "LipSync to Mux"),
    *("price of an hour", "of an interview's hour"),
)


class MissingError(LookupError):
    """A figure was not measured; the message has the command that would."""


class Node(StrictModel):
    name: str
    cores: int = Field(ge=1)
    memory_gib: float = Field(gt=0)
    cards: int = Field(ge=0)
    network_gbit: float = Field(gt=0)
    price: float = Field(ge=0)
    source: str


class Inputs(StrictModel):
    speaking: float = Field(gt=0, le=1)
    utterance_s: float = Field(gt=0)
    currency: str
    cpu: Node
    gpu: Node
    store_reads_per_s: float = Field(gt=0)
    store_writes_per_s: float = Field(gt=0)
    store_source: str


def read_inputs(path: Path) -> Inputs:
    return Inputs.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def figure(folder: Path, file: str, *path: str) -> Any:
    """Raises MissingError."""
    try:
        found = json.loads((folder / f"{file}.json").read_text(encoding="utf-8"))
        for key in path:
            found = found[key]
    except (OSError, KeyError):
        command = f"python -m benchmarks.{file.replace('cluster_', 'cluster ')}"
        raise MissingError(f"{file}.json has no {', '.join(path)}: `{command}` measures it") from None
    return found


@dataclass(frozen=True)
class Stage:
    """A deployment as `serve-config` ships it. carries: streams, or sessions, that keep one replica busy; 0: it measures itself."""

    num_cpus: float
    least: int
    most: int
    carries: float


def shipped(kind: str) -> tuple[dict[str, Stage], dict[str, Any], dict[str, Any]]:
    """The deployments, `capacity` and `mux.media` of the overlay of that name."""
    path = ROOT / "cluster" / "kuberay" / "overlays" / kind / "serve-config.yaml"
    app = yaml.safe_load(path.read_text(encoding="utf-8"))["applications"][0]
    each = {d["name"]: d for d in app["deployments"]}
    capacity, scaling = each["Mux"]["user_config"]["capacity"], {name: d["autoscaling_config"] for name, d in each.items()}
    carries = {"TTS": capacity["tts_streams"], "Mux": capacity["mux_streams"], "Ingress": scaling["Ingress"]["target_ongoing_requests"]}
    cpus = {name.replace("_", ""): options["num_cpus"] for name, options in app["args"]["deployments"].items()}
    stages = {n: Stage(cpus[n.lower()], s["min_replicas"], s["max_replicas"], carries.get(n, 0)) for n, s in scaling.items()}
    return stages, capacity, app["args"]["mux"]["media"]


@dataclass(frozen=True)
class Stream:
    """What a speaking stream takes, and a node without any. busy: share of the cores in use at the most streams of which none ran
    dry. lipsync_streams: that one LipSync draws if it does nothing else. Megabytes a second: viewer_mb, to its viewer; between_mb, between
    nodes that have all stages; crops_mb, from LipSync to Mux, None where that was not measured."""

    cores: float
    rest_cores: float
    busy: float
    lipsync_streams: float
    mib: float
    rest_mib: float
    replica_mib: dict[str, float]
    viewer_mb: float
    between_mb: float
    crops_mb: float | None


def measured(kind: str, results: Path) -> Stream:
    """Raises MissingError."""
    steps = [step for step in figure(results, "service", "streams_both", "steps") if not step["underrun"]]
    few, most = next(step for step in steps if step["streams"] == 4), steps[-1]
    cores = (most["cores_used"] - few["cores_used"]) / (most["streams"] - few["streams"])
    rest, busy = most["cores_used"] - cores * most["streams"], most["cores_used"] / figure(results, "service", "machine", "cores")
    if kind == "gpu":  # what a stream takes beside a card was not written down: all cores of the machine that held so many are a bound
        held, machine = figure(results, "gpu", "graph", "exact"), figure(results, "gpu", "machine")
        if held["failed"] or max(held["largest_gap_ms"]) > 0:
            raise MissingError("gpu.json has no graph without a gap: `python -m benchmarks.gpu graph --streams 8` tries fewer")
        cores, rest, busy = machine["cores"] / held["streams"], 0.0, 1.0
        frames = max(size["exact"]["frames_per_s"] for size in figure(results, "gpu", "engine", "batches").values())
    else:
        frames = figure(results, "animator_render", "frames_per_second", "value")
    memory = figure(results, "service", "memory", "mib_before")
    replicas = {name.rsplit(":", 1)[1]: mib for name, mib in memory.items() if "ServeReplica" in name}
    rest_mib = sum(memory.values()) - sum(replicas.values())
    if kind == "gpu":
        replicas["LipSync"] = 0.0  # that with a card was not measured, and the page says so
    media = shipped(kind)[2]
    sizes = [row for row in figure(results, "encoder", "settings") if row["preset"] == media["preset"]]
    return Stream(
        cores,
        rest,
        busy,
        frames / FPS,
        figure(results, "service", "memory", "mib_per_live_utterance"),
        rest_mib,
        replicas,
        min(sizes, key=lambda row: abs(row["crf"] - media["crf"]))["bytes_per_s"] / 1e6,
        figure(results, "cluster_bytes", "all_on_both_nodes", "together"),
        None if kind == "gpu" else figure(results, "cluster_bytes", "lipsync_on_a_node_of_its_own", "sent_mb_a_second_and_stream", "w2"),
    )


@dataclass(frozen=True)
class Plan:
    """streams: that speak at once. asked: of each resource, by all of them; has: one node. `nodes` has Ray's head beside them."""

    candidates: int
    streams: int
    replicas: dict[str, int]
    asked: dict[str, float]
    has: dict[str, float]
    nodes: int
    memory_gib: float
    price: float

    def scarcest(self) -> list[str]:
        return sorted(self.asked, key=lambda name: self.asked[name] / self.has[name], reverse=True)


def peak(candidates: int, speaking: float) -> int:
    """Streams that are exceeded no more than once in a thousand times, if interviews know nothing of one another."""
    mean = candidates * speaking
    return min(candidates, math.ceil(mean + ONCE_IN_1000 * math.sqrt(mean * (1 - speaking))))


def plan(candidates: int, kind: str, inputs: Inputs, stream: Stream, *, edge: bool = False) -> Plan:
    """edge: all that was measured is used and nothing is in reserve; else as the cluster's document has it."""
    stages, capacity, _ = shipped(kind)
    node: Node = getattr(inputs, kind)
    streams = peak(candidates, inputs.speaking)
    aim, part, spare = (1.0, 1.0, 0) if edge else (capacity["aim"], capacity["measured_part"], capacity["spare_replicas"])
    replicas = {}
    for name, stage in stages.items():
        carries = stage.carries or stream.lipsync_streams * part
        wanted = math.ceil(streams / (carries * aim)) + spare if name in STAGES else math.ceil(candidates / carries)
        replicas[name] = max(stage.least, wanted if name != "FacePrep" else 0)  # which waits for portraits
    mib = sum(n * stream.replica_mib[name] for name, n in replicas.items()) + streams * stream.mib
    asked = {PROCESSOR: streams * stream.cores, MEMORY: mib, NETWORK: streams * (stream.viewer_mb + stream.between_mb) * 8 / 1e3}
    has = {PROCESSOR: node.cores * stream.busy - stream.rest_cores, MEMORY: node.memory_gib * 1024 - stream.rest_mib, NETWORK: node.network_gbit}
    if node.cards:
        asked[CARD] = streams / stream.lipsync_streams if edge else replicas["LipSync"]
        has[CARD] = node.cards
    if not edge:
        asked[RESERVED] = sum(n * stages[name].num_cpus for name, n in replicas.items())
        has[RESERVED] = node.cores
    if not candidates:
        return Plan(0, 0, {}, {}, {}, 0, 0.0, 0.0)
    nodes = math.ceil(max(asked[name] / has[name] for name in asked))
    head = nodes > 1  # one machine needs none
    gib = (mib + nodes * stream.rest_mib) / 1024
    return Plan(candidates, streams, replicas, asked, has, nodes + head, gib, nodes * node.price + head * inputs.cpu.price)


def shared(found: Plan, kind: str, inputs: Inputs, results: Path) -> dict[str, tuple[float, float | None]]:
    """What more nodes do not help: how much of it so many candidates ask for, and how much there is, None where nobody knows."""
    stages = shipped(kind)[0]
    times = {name: n / stages[name].most for name, n in found.replicas.items()}
    tight = max(times, key=times.__getitem__)
    asked = figure(results, "storage", "requests of an utterance", "a new text, within it", "of")
    utterances = found.candidates * inputs.speaking / inputs.utterance_s
    return {
        "`max_replicas`, times what is shipped": (times[tight], 1),
        "the cache's bucket: reads a second": (utterances * asked["HEAD cache"], inputs.store_reads_per_s),
        "the cache's bucket: writes a second": (utterances * asked["PUT cache"], inputs.store_writes_per_s),
        "the head: replicas that Serve's controller looks after": (sum(found.replicas.values()), None),
        "each node's HAProxy: Ingress replicas that it knows": (found.replicas["Ingress"], None),
        "each LipSync replica: notes of Mux replicas (admission) a second": (found.replicas["Mux"], None),
    }


def gives_out(found: Plan, kind: str, inputs: Inputs, results: Path) -> str:
    """First what is shared and furthest beyond its known end, then the next, then what fills the nodes."""
    over = {name: asked / end for name, (asked, end) in shared(found, kind, inputs, results).items() if end and asked > end}
    return "; then ".join([*sorted(over, key=over.__getitem__, reverse=True), f"of a node: {found.scarcest()[0]}"])


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    cells = [[f"{cell:,}" if isinstance(cell, int) else number(cell) if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *cells])


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def page(inputs: Inputs, results: Path, sizes: Sequence[int] = SIZES) -> str:
    """The document. Raises MissingError for what CPU nodes need; where a card's figures are missing it says so and has CPU nodes alone."""
    streams, missing = {"cpu": measured("cpu", results)}, ""
    try:
        streams["gpu"] = measured("gpu", results)
    except MissingError as error:
        missing = f"- All of GPU nodes: {error}\n"
    rows: list[list[object]] = []
    ends: list[list[object]] = []
    fills: list[list[object]] = []
    for n, (kind, stream), edge in itertools.product(sizes, streams.items(), (False, True)):
        found, name = plan(n, kind, inputs, stream, edge=edge), f"{kind.upper()}, {'at the edge' if edge else 'as shipped'}"
        mb = (stream.viewer_mb, stream.between_mb * (found.nodes > 1), stream.crops_mb)
        gbit = ["not measured" if each is None else found.streams * each * 8 / 1e3 for each in mb]
        each = found.streams / (found.nodes - (found.nodes > 1))
        rows.append([n, name, found.nodes, found.streams, each, found.memory_gib, *gbit, found.price, f"{found.price / n:.2g}"])
        if not edge:
            ends.append([n, kind.upper(), gives_out(found, kind, inputs, results)])
        if n == sizes[-1]:
            per = {r: found.asked[r] / found.streams for r in found.scarcest()}
            fills += [[name, r, takes, found.has[r], found.has[r] / takes] for r, takes in per.items()]
    columns = [shared(plan(n, "cpu", inputs, streams["cpu"]), "cpu", inputs, results) for n in sizes]
    limits = [[name, *(float(c[name][0]) for c in columns), "not known" if end is None else float(end)] for name, (_, end) in columns[-1].items()]
    return TEXT.read_text(encoding="utf-8").format(
        results=table(RESULTS_HEAD, rows),
        ends=table(("candidates", "nodes", "first to give out"), ends),
        fills=table(("nodes", "resource", "a speaking stream takes", "a node has", "streams a node"), fills),
        limits=table(("what", *(f"{n:,}" for n in sizes), "known end"), limits),
        missing=missing,
        inputs=inputs,
        **facts(streams, inputs.speaking, results),
    )


def facts(streams: dict[str, Stream], speaking: float, results: Path) -> dict[str, object]:
    """The figures in the page's text."""
    encoder, both = figure(results, "encoder", "steps"), figure(results, "service", "streams_both")
    whole, sound = encoder["all, whole segments"], encoder["sound and fragments only (16x16 picture), whole segments"]
    fragments, paste = encoder["fragments only (silence), whole segments"], encoder["copy and paste, 256x256"]
    drawing, ms = figure(results, "animator_render", "crop_cpu_ms", "median"), streams["cpu"].cores * 1e3 / FPS
    steps = {"drawing": drawing, "H.264": whole - sound, "AAC": sound - fragments, "fragments": fragments, "laying on the background": paste}
    steps["voice, hearing, the way between processes and the clients"] = ms - sum(steps.values())
    card_ms = f" A card takes {number(1e3 / FPS / streams['gpu'].lipsync_streams)} ms a frame." if "gpu" in streams else ""
    placed = figure(results, "cluster_scale", "nodes_at_most")
    mapped_mb = figure(results, "storage", "one replica after the other opens both avatars", "copies", "mapped_mb")
    return {
        "ms": number(ms),
        "steps": ", ".join(f"{name} {number(value)}" for name, value in steps.items()),
        "card_ms": card_ms,
        "most": both["most_without_underrun"],
        "cores": figure(results, "service", "machine", "cores"),
        "busy": f"{streams['cpu'].busy:.0%}",
        "two_streams": next(step["cores_used"] for step in both["steps"] if step["streams"] == 2),
        "sessions": figure(results, "sessions", "turns", "sessions"),
        "session_cores": figure(results, "sessions", "turns", "cores_used"),
        "idle_kb": number(figure(results, "page_load", "whole", "in_all", "sum_kB")),
        "avatar_mb": number(mapped_mb[-1] / 2),
        "hour_mb": number(streams["cpu"].viewer_mb * 3600 * speaking),
        "apart_mb": figure(results, "cluster_bytes", "lipsync_on_a_node_of_its_own", "together"),
        "nodes_tried": len({node for nodes in placed.values() for node in nodes}),
        "replicas_tried": sum(map(len, placed.values())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=Path, default=INPUTS, help="YAML with prices, nodes and assumptions")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder with measured figures, such as your own machine's")
    parser.add_argument("--candidates", type=int, nargs="+", default=SIZES, help="at once, each above 0")
    parser.add_argument("--out", type=Path, help="also write the page here")
    args = parser.parse_args()
    if min(args.candidates) < 1:
        parser.error("--candidates wants numbers above 0")
    try:
        text = page(read_inputs(args.inputs), args.results, args.candidates)
    except (MissingError, ValueError, OSError, yaml.YAMLError) as error:
        sys.exit(f"scale: {error}")
    print(text, end="")
    if args.out:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
