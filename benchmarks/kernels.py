"""The Triton kernels alone, on the pictures of the exact decoder: microseconds, and gigabytes a second beside what a plain copy reaches.

    python -m benchmarks.kernels [--frames 32] [--tiles 2048] [--warps 4] [--unrolls 4] [--steps 8]

Needs a card. A gigabyte a second counts what has to be read and written, once. Several values of what shapes the moments are each tried with each.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from musetalk.neural import kernels
from musetalk.neural.layers import GroupNorm

SHAPES = ((512, 32), (512, 64), (512, 128), (256, 128), (256, 256), (128, 256))  # channels, side
REPEATS = 20


def microseconds(call: Callable[[], Any]) -> float:
    """Of one call in a recorded graph, where launches cost next to nothing."""
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(REPEATS):
            call()
    graph.replay()
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record()
    graph.replay()
    ended.record()
    torch.cuda.synchronize()
    return began.elapsed_time(ended) * 1e3 / REPEATS


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--tiles", type=int, nargs="+", default=[kernels.MOMENTS_TILE])
    parser.add_argument("--warps", type=int, nargs="+", default=[kernels.MOMENTS_WARPS])
    parser.add_argument("--unrolls", type=int, nargs="+", default=[kernels.MOMENTS_UNROLL])
    parser.add_argument("--steps", type=int, nargs="+", default=[kernels.LEAST_STEPS])
    args = parser.parse_args()
    for channels, side in SHAPES:
        print(f"{args.frames} pictures of {side} x {side} x {channels}", flush=True)
        x = torch.randn(args.frames, channels, side, side, device="cuda").half().contiguous(memory_format=torch.channels_last)
        skip, bias, norm = torch.randn_like(x), torch.randn(channels, device="cuda").half(), GroupNorm(32, channels).cuda()
        tell("copy", 2, x, partial(torch.empty_like(x).copy_, x))
        tell("PyTorch's norm", 2, x, partial(plain_norm, norm, x))
        tell("group_norm, moments known", 2, x, partial(kernels.group_norm, x, norm, kernels.moments(x), bias))
        for tile, warps, unroll, steps in itertools.product(args.tiles, args.warps, args.unrolls, args.steps):
            kernels.MOMENTS_TILE, kernels.MOMENTS_WARPS, kernels.MOMENTS_UNROLL, kernels.LEAST_STEPS = tile, warps, unroll, steps
            named = f"tile {tile}, {warps} warps, unroll {unroll}, steps {steps}"
            tell(f"{named}: moments", 1, x, partial(kernels.moments, x))
            tell(f"{named}: add", 3, x, partial(kernels.add, x, bias, skip))


def plain_norm(norm: GroupNorm, x: torch.Tensor) -> torch.Tensor:
    return F.silu(norm(x), inplace=True)


def tell(name: str, passes: int, x: torch.Tensor, call: Callable[[], Any]) -> None:
    us = microseconds(call)
    print(f"  {name:52} {us:8.1f} us {passes * x.nbytes / us / 1e3:7.0f} GB/s", flush=True)


if __name__ == "__main__":
    main()
