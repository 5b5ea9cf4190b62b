"""Each way to draw faster, with and without it, in turns within one process: frames a second, medians of ratios, and the card's clocks meanwhile.

A variant is a renderer on networks that all variants share, and how many threads draw with it. One thread is what the engine did before batches of
several calls followed each other without a gap: the next batch is launched when the last one has come back.
"""

from __future__ import annotations

import copy
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.clocks import Clocks
from benchmarks.pipelines import N_FACES, faces, sound
from configs.models import WeightsConfig
from museserve.weights.folder import WeightsFolder
from musetalk.neural.networks import load_taesd, load_unet, load_vae, published_taesd
from musetalk.neural.renderer import FaceRenderer

Decoder = Literal["exact", "taesd", "taesd as published"]
TUNED = None  # a way: the one that is measured as the renderer is made


@dataclass(frozen=True)
class Variant:
    """threads: that draw at once."""

    decoder: Decoder
    way: tuple[tuple[str, Any], ...] | None = ()
    threads: int = 1


@dataclass(frozen=True)
class Pair:
    """What is compared, at which numbers of frames: a name, what is without it, and what is with it."""

    name: str
    without: Variant
    with_it: Variant
    sizes: tuple[int, ...]


@dataclass
class Drawn:
    """By each variant in each round: frames a second."""

    without: list[float] = field(default_factory=list)
    with_it: list[float] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        ratios = [b / a for a, b in zip(self.without, self.with_it, strict=True)]
        return {
            "frames_per_s_without": round(statistics.median(self.without), 2),
            "frames_per_s_with": round(statistics.median(self.with_it), 2),
            "ratio": round(statistics.median(ratios), 4),
            "ratios": [round(ratio, 4) for ratio in sorted(ratios)],
        }


def pairs(sizes: Sequence[int], cuda: bool) -> list[Pair]:
    """In order of worth: what a run has no time for comes last."""
    all_sizes, found = tuple(sizes), list[Pair]()

    def by_parts(decoder: Decoder, n: int) -> Pair:
        larger = tuple(size for size in all_sizes if size > n)
        return Pair(f"{decoder}: large stages {n} at a time", Variant(decoder), Variant(decoder, (("at_once", n),)), larger)

    for decoder, published in (("exact", "exact"), ("taesd", "taesd as published")):
        found.append(Pair(f"{decoder}: all of it", Variant(published), Variant(decoder, TUNED, 2), all_sizes))  # type: ignore[arg-type]
        found.append(Pair(f"{decoder}: batches overlap", Variant(decoder), Variant(decoder, threads=2), all_sizes))  # type: ignore[arg-type]
    found += [by_parts("exact", n) for n in (2, 1)]
    found.append(Pair("taesd: folded enlargements", Variant("taesd as published"), Variant("taesd"), all_sizes))
    if cuda:
        found.append(Pair("taesd: ReLU inside cuDNN's convolution", Variant("taesd"), Variant("taesd", (("inside", True),)), all_sizes))
    return [pair for pair in (*found, *(by_parts("taesd", n) for n in (4, 8, 2))) if pair.sizes]


class Variants:
    """Renderers as they are needed, each made once. sizes: those that are recorded; 2 among them for first pictures."""

    def __init__(self, folder: Path, device: torch.device, sizes: tuple[int, ...]) -> None:
        self._device, self._sizes = device, sizes
        self._weights = WeightsFolder(WeightsConfig(uri=str(folder), unpublished=True))
        self._dtype = torch.float16 if device.type == "cuda" else torch.float32
        self._unet = load_unet(self._weights, "v15", device, self._dtype)
        self._decoders: dict[Decoder, Any] = {}
        self._made: dict[tuple[Decoder, Any], FaceRenderer] = {}
        self._latents = torch.from_numpy(faces()).to(device, self._dtype)

    def renderer(self, variant: Variant) -> FaceRenderer:
        key = variant.decoder, variant.way
        if key not in self._made:
            decoder = self._decoder(variant.decoder)
            if self._device.type == "cpu":  # a graph keeps what it was recorded with, but here the decoder is asked each time
                decoder = copy.deepcopy(decoder)
            way = None if variant.way is None else dict(variant.way)
            self._made[key] = FaceRenderer(self._unet, decoder, self._device, self._dtype, self._sizes, way=way)
        return self._made[key]

    def draw(self, variant: Variant, size: int) -> Callable[[], Any]:
        renderer, numbers, rows = self.renderer(variant), [i % N_FACES for i in range(size)], sound(size)
        return lambda: renderer.draw(self._latents[numbers], rows)

    def ways(self) -> dict[str, Any]:
        """What was found to be the fastest, of each decoder and size."""
        return {decoder: {str(size): way for size, way in made.ways.items()} for (decoder, way), made in self._made.items() if way is None}

    def _decoder(self, name: Decoder) -> Any:
        if name not in self._decoders:
            load = {"exact": load_vae, "taesd": load_taesd, "taesd as published": published_taesd}[name]
            loaded: Any = load(self._weights, self._device, self._dtype)
            self._decoders[name] = loaded.decode_only() if name == "exact" else loaded
        return self._decoders[name]


def frames_per_s(draw: Callable[[], Any], size: int, threads: int, seconds: float) -> float:
    """Of so many threads that draw at once, one batch of `size` after the other each, for `seconds` and at least once each."""
    drawn, began, ended = [0] * threads, [0.0] * threads, [0.0] * threads
    together = threading.Barrier(threads)

    def work(i: int) -> None:
        together.wait()
        began[i] = time.perf_counter()
        while not drawn[i] or time.perf_counter() < began[i] + seconds:
            draw()
            drawn[i] += 1
        ended[i] = time.perf_counter()

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if not all(drawn):
        raise RuntimeError("a thread could not draw; see above")
    return sum(drawn) * size / (max(ended) - min(began))


def compare(variants: Variants, pair: Pair, size: int, rounds: int, seconds: float) -> Drawn:
    """In turns, A B B A, so that neither always comes first."""
    seen = Drawn()
    both = [(pair.without, seen.without), (pair.with_it, seen.with_it)]
    draws = {id(told): variants.draw(variant, size) for variant, told in both}
    for draw in draws.values():
        draw()
    for turn in range(rounds):
        for variant, told in both if turn % 2 == 0 else both[::-1]:
            told.append(frames_per_s(draws[id(told)], size, variant.threads, seconds))
    return seen


def first_pictures(variants: Variants, decoder: Decoder, size: int, threads: int, seconds: float, way: Any = TUNED) -> dict[str, Any]:
    """Milliseconds until 2 frames are there, asked for at odd moments, while `threads` keep the card busy with batches of `size`."""
    busy, first = variants.draw(Variant(decoder, way), size), variants.draw(Variant(decoder, way), 2)
    stop, drawn, took, moments = threading.Event(), [0] * threads, list[float](), np.random.default_rng(0)

    def work(i: int) -> None:
        while not stop.is_set():
            busy()
            drawn[i] += 1

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    while not took or time.perf_counter() < began + seconds:
        time.sleep(float(moments.uniform(0.0, min(0.05, seconds / 4))))
        at = time.perf_counter()
        first()
        took.append((time.perf_counter() - at) * 1e3)
    stop.set()
    for worker in workers:
        worker.join()
    return {
        "asked": len(took),
        "p50_ms": round(float(np.percentile(took, 50)), 1),
        "p95_ms": round(float(np.percentile(took, 95)), 1),
        "frames_per_s_beside": round(sum(drawn) * size / (time.perf_counter() - began), 1),
    }


def measure(
    folder: Path, device: torch.device, sizes: Sequence[int], rounds: int, seconds: float, budget_s: float, told: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """All pairs that fit into `budget_s`, in order of worth. told: what there is so far, after each; a run that is ended loses nothing."""
    cuda, began = device.type == "cuda", time.perf_counter()
    results: dict[str, Any] = {"rounds": rounds, "seconds_a_turn": seconds, "pairs": {}, "first_pictures": {}, "gaps_ms": {}, "left_out": []}
    with Clocks() as clocks:
        variants = Variants(folder, device, tuple(sorted({2, *sizes})))
        results["loaded_after_s"] = round(time.perf_counter() - began, 1)
        waits: list[tuple[Decoder, int, int]] = [("exact", sizes[-1], 1), ("exact", sizes[-1], 2)]
        waits += [("exact", sizes[-2], 2)] if len(sizes) > 1 else []
        for pair in pairs(sizes, cuda):
            for size in pair.sizes:
                if time.perf_counter() - began > budget_s:
                    results["left_out"].append(f"{pair.name}, {size}")
                    continue
                at = time.perf_counter()
                try:
                    drawn = compare(variants, pair, size, rounds, seconds).told()
                except (RuntimeError, NotImplementedError) as error:  # a way that this card or its libraries do not have
                    drawn = {"failed": str(error).splitlines()[0] if str(error) else type(error).__name__}
                seen = clocks.between(at, time.perf_counter())
                results["pairs"].setdefault(pair.name, {})[str(size)] = {**drawn, **({"clocks": seen} if seen else {})}
                results["ways"] = variants.ways()
                if cuda and pair.without.way == () and "ratio" in drawn:
                    drawn_ms = size / drawn["frames_per_s_without"] * 1e3
                    alone_ms = variants.renderer(pair.without).device_ms(size)
                    results["gaps_ms"][f"{pair.without.decoder}, {size}"] = {"draw": round(drawn_ms, 3), "on_the_card": round(alone_ms, 3)}
                told(results)
            if pair.name == "exact: batches overlap":  # early, as what a first picture waits for decides how much may overlap
                for decoder, size, threads in waits:
                    name = f"{decoder}, {threads} x {size} frames"
                    results["first_pictures"][name] = first_pictures(variants, decoder, size, threads, 4 * seconds)
                told(results)
    return results
