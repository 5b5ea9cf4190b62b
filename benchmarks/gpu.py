"""Our engine against the plain half-precision pipeline of the same model, in one run on the same batches; then the graph under many viewers.

    python -m benchmarks.gpu [engine] [graph] [paired] [--device auto|cuda|cpu] [--sizes 8 16 32] [--streams 16] [--decoders exact taesd]
                             [--pipelines eager exact exact-inductor ...] [--budget 240] [--tiny] [--folder FOLDER] [--out FILE]

Frames/s, model FLOP/s as a share of a measured matrix product, latency, memory, and where a batch's time goes. Without a card everything runs on the
CPU in float32, on smaller batches and, through the graph, on tiny networks; the output says so. FOLDER keeps the generated weights for the next time.
`paired` compares each way to draw faster with what is without it, in turns within one process, and logs the card's clocks: benchmarks/paired.py.
All that a card is needed for, in one command of ten minutes: benchmarks/gpu_session.sh.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from benchmarks.generated_avatars import write_avatars
from benchmarks.generated_models import write_models
from benchmarks.machine import machine
from benchmarks.paired import measure
from benchmarks.pipelines import Kind, Worker
from benchmarks.steps import executed_gflop, matmul_peak
from benchmarks.viewer import Viewing, watch
from configs.models import AppConfig, load_config
from museserve.app.local import running
from musetalk.neural.device import set_up
from tests.musetalk.faces.parser_weights import save_parser

RESULTS = Path("benchmarks/results")
MODEL_GFLOP = {"eager": 800.0, "exact": 800.0, "taesd": 213.2}  # a frame, as published: UNet 177.8 and decoder 622.2 or 35.3
TEXT = "Take {}. Please tell me about a project that you are proud of, what made it hard, and which decision you would make differently now."
KINDS: tuple[Kind, ...] = ("eager", "exact", "taesd")  # unless told otherwise


def engine(folder: Path, device: torch.device, kinds: Sequence[Kind], sizes: list[int], threads: int, rounds: int) -> dict[str, Any]:
    """Each pipeline in turn at each size, `rounds` times over; the best round counts, since whatever else the machine does only slows down."""
    cuda = device.type == "cuda"
    dtype = torch.float16 if cuda else torch.float32
    torch.set_num_threads(threads)
    config = {"device": device.type, "threads": threads, "batch_sizes": sorted({1 if not cuda else 2, *sizes})}
    workers = {}
    for kind in kinds:
        workers[kind] = Worker(kind, folder, device.type, config)
        if not cuda:
            assert workers[kind].info  # loading takes twice the memory, so one after the other
    infos = {kind: worker.info for kind, worker in workers.items()}  # nothing is measured while one of them is still being made
    peak = matmul_peak(device, dtype, 8192 if cuda else 2048)
    results: dict[str, Any] = {
        "matmul_peak_tflops": round(peak / 1e12, 3),
        "dtype": str(dtype).removeprefix("torch."),
        "pipelines": infos,
        "batches": {},
    }
    for size in sizes:
        best: dict[Kind, dict[str, Any]] = {}
        for _ in range(rounds):
            for kind, worker in workers.items():
                seen = worker.ask("time", size, 3.0 if cuda else 0.0)
                if kind not in best or seen["frames_per_s"] > best[kind]["frames_per_s"]:
                    best[kind] = {**seen, "cpu_s_per_frame": min(seen["cpu_s_per_frame"], best.get(kind, seen)["cpu_s_per_frame"])}
                best[kind]["cpu_s_per_frame"] = min(best[kind]["cpu_s_per_frame"], seen["cpu_s_per_frame"])
        row: dict[str, Any] = {kind: {**seen, "share_of_peak": share(kind, seen["frames_per_s"], peak)} for kind, seen in best.items()}
        first = kinds[0]
        for kind in kinds[1:]:
            row[f"{kind}_over_{first}"] = round(best[kind]["frames_per_s"] / best[first]["frames_per_s"], 2)
            if not cuda and (kind, first) == ("exact", "eager"):
                row["exact_over_eager_by_cpu_time"] = round(best["eager"]["cpu_s_per_frame"] / best["exact"]["cpu_s_per_frame"], 2)
        results["batches"][size] = row
        print(size, json.dumps(row), flush=True)
    if cuda:  # the first picture of an utterance waits for 2 frames, its first segment for 6 more
        results["first_segment_ms"] = {
            kind: {n: round(n / workers[kind].ask("time", n, 1.0)["frames_per_s"] * 1e3, 1) for n in (2, 8)} for kind in kinds
        }
    profiled = kinds if cuda else [kind for kind in kinds if kind in ("eager", "exact")]
    results["steps"] = {kind: steps(kind, workers[kind].ask("profile", sizes[-1]), peak) for kind in profiled}
    print(json.dumps(results["steps"], indent=1), flush=True)
    for worker in workers.values():
        worker.end()
    return results


def share(kind: Kind, frames_per_s: float, peak: float) -> float:
    return round(frames_per_s * MODEL_GFLOP[kind.partition("-")[0]] * 1e9 / peak, 3)


def steps(kind: Kind, spent: dict[str, dict[str, float]], peak: float) -> dict[str, Any]:
    """Beside each step's milliseconds the least that its arithmetic takes at the peak: the rest is where the floor is lost."""
    decoder = kind.partition("-")[0]
    gflop = {} if kind == "eager" else executed_gflop(decoder)
    by_step = spent["by_step"]
    rows = {step: {"ms_per_frame": ms, "at_peak_ms": round(gflop.get(step, 0.0) / peak * 1e12, 3)} for step, ms in by_step.items()}
    return {
        "floor_ms_per_frame": round(MODEL_GFLOP[decoder] / peak * 1e12, 3),
        "executed_gflop": round(sum(gflop.values()), 1) or MODEL_GFLOP[decoder],
        "by_step": rows if gflop else {step: {"ms_per_frame": ms} for step, ms in by_step.items()},
        "by_kernel": spent["by_kernel"],
    }


def graph(config: AppConfig, streams: int, rounds: int) -> dict[str, Any]:
    """So many viewers of one text each at the same moment, over HTTP, several times over, on a service that has spoken once with each avatar.

    A gap is how late a fragment is for who plays from the first segment on; a lateness below zero is what was always in hand.
    """
    avatars = ("interviewer_woman", "interviewer_man")
    with running(config) as url:
        for avatar in avatars:
            watch(url, {"text": TEXT.format(0), "avatar": avatar})
        told = []
        for r in range(rounds):
            seen: list[Viewing] = []

            def view(i: int, r: int = r, seen: list[Viewing] = seen) -> None:
                seen.append(watch(url, {"text": TEXT.format(r * streams + i + 1), "avatar": avatars[i % 2]}))

            viewers = [threading.Thread(target=view, args=(i,)) for i in range(streams)]
            for viewer in viewers:
                viewer.start()
            for viewer in viewers:
                viewer.join()
            told.append(seen)
    good = [[v for v in seen if v.status == 200 and v.fragments] for seen in told]
    return {
        "streams": streams,
        "failed": [v.status for seen in told for v in seen if v.status != 200 or not v.fragments],
        "largest_gap_ms": [round(max((max(v.worst_lateness_s, 0.0) for v in seen), default=float("nan")) * 1e3, 1) for seen in good],
        "worst_lateness_ms": [round(max((v.worst_lateness_s for v in seen), default=float("nan")) * 1e3, 1) for seen in good],
        "first_fragment_ms": [
            {"best": round(min(v.first_s for v in seen) * 1e3), "worst": round(max(v.first_s for v in seen) * 1e3)} for seen in good if seen
        ],
        "engine": next((v.headers["x-engine"] for seen in good for v in seen), None),
    }


def graph_config(folder: Path, home: str, cuda: bool, decoder: str) -> AppConfig:
    musetalk = {"decoder": decoder, **({} if cuda else {"device": "cpu", "threads": 1, "batch_sizes": [2, 8, 16]})}
    changes: dict[str, Any] = {
        "server": {"port": 0, "dashboard_port": 0},
        "speech": {"engine": "offline"},
        "weights": {"uri": str(folder), "unpublished": True},
        "avatars": {"uri": home},
        "cache": {"enabled": False},
        "lipsync": {"engine": "musetalk", "musetalk": musetalk},
    }
    return load_config("gpu" if cuda else "local", changes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["engine", "graph"], help="engine, graph, paired")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--streams", type=int)
    parser.add_argument("--decoders", nargs="+", choices=("exact", "taesd"), default=["exact", "taesd"], help="of the graph")
    parser.add_argument("--pipelines", nargs="+", choices=get_args(Kind), default=KINDS, help="of the engine; all are compared with the first")
    parser.add_argument("--rounds", type=int, help="2; of pairs 7")
    parser.add_argument("--seconds", type=float, help="that a variant of a pair draws in each round: 0.5; on a CPU one batch")
    parser.add_argument("--budget", type=float, default=math.inf, help="seconds after which no further pair is begun, with the making of weights")
    parser.add_argument("--tiny", action="store_true", help="tiny networks: whether it runs, and no more")
    parser.add_argument("--threads", type=int, default=1, help="on a CPU")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    began = time.monotonic()
    cuda = args.device == "cuda" or (args.device == "auto" and torch.cuda.is_available())
    out = args.out or RESULTS / ("gpu.json" if cuda else "gpu_cpu.json")
    network = "tiny networks, generated weights" if args.tiny else "850 M UNet and sd-vae-ft-mse's decoder, generated weights"
    results: dict[str, Any] = {"machine": machine(), "network": network}
    rounds = args.rounds or 2
    if not cuda:
        results["note"] = (
            "no CUDA device: measured on the CPU in float32 with small batches"
            + ("; the graph ran tiny networks" if "graph" in args.parts else "")
            + ". These say nothing of a GPU."
        )
        print(results["note"])
    with tempfile.TemporaryDirectory() as scratch:
        full = args.folder or Path(scratch) / "models"
        if ({"engine", "paired"} & set(args.parts) or cuda or args.tiny) and not (full / "sd-vae").exists():
            (write_tiny if args.tiny else write_full)(full)
        if "paired" in args.parts:
            device, sizes = torch.device("cuda" if cuda else "cpu"), args.sizes or ([8, 16, 32] if cuda else [1, 2])
            seconds = args.seconds if args.seconds is not None else 0.5 if cuda else 0.0
            set_up(device, args.threads, None)

            def told(paired: dict[str, Any]) -> None:
                write(out, {**results, "paired": paired}, args.parts)

            results["paired"] = measure(
                full, device, sizes, args.rounds or (7 if cuda else 3), seconds, args.budget - (time.monotonic() - began), told
            )
            print(json.dumps(results["paired"], indent=1), flush=True)
        if "engine" in args.parts:
            device = torch.device("cuda" if cuda else "cpu")
            results["engine"] = engine(full, device, args.pipelines, args.sizes or ([8, 16, 32] if cuda else [1]), args.threads, rounds)
        if "graph" in args.parts:
            folder = full
            if not cuda and not args.tiny:
                folder = Path(scratch) / "tiny"
                write_tiny(folder)
            results["graph"] = {}
            write_avatars(graph_config(folder, f"{scratch}/home", cuda, args.decoders[0]), faces=8 if cuda else 1)
            for decoder in args.decoders:
                config = graph_config(folder, f"{scratch}/home", cuda, decoder)
                results["graph"][decoder] = graph(config, args.streams or (16 if cuda else 2), rounds)
                print(decoder, json.dumps(results["graph"][decoder]), flush=True)
    write(out, results, args.parts)


def write(out: Path, results: dict[str, Any], parts: Sequence[str]) -> None:
    """Beside what other parts have left there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(out.read_text()) if out.exists() and not {"engine", "graph"} <= set(parts) else {}
    out.write_text(json.dumps({**kept, **results}, indent=1) + "\n")


def write_tiny(folder: Path) -> None:
    write_models(folder)
    save_parser(folder / "face-parse-bisent/79999_iter.pth")


def write_full(folder: Path) -> None:
    write_models(folder, "full")
    save_parser(folder / "face-parse-bisent/79999_iter.pth")


if __name__ == "__main__":
    main()
