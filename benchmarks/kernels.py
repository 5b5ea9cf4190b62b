"""The Triton kernels alone, on the pictures of the exact decoder: microseconds, and gigabytes a second beside what a plain copy reaches.

    python -m benchmarks.kernels [--frames 32]

Needs a card. A gigabyte a second counts what has to be read and written, once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from musetalk import kernels
from musetalk.blocks import GroupNorm

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
    frames = parser.parse_args().frames
    for channels, side in SHAPES:
        x = torch.randn(frames, channels, side, side, device="cuda").half().contiguous(memory_format=torch.channels_last)
        skip, bias, norm = torch.randn_like(x), torch.randn(channels, device="cuda").half(), GroupNorm(32, channels).cuda()
        seen, copy = kernels.moments(x), torch.empty_like(x)
        timed: dict[str, tuple[int, Callable[[], Any]]] = {  # passes over the picture, and what makes them
            "copy": (2, lambda x=x, copy=copy: copy.copy_(x)),
            "moments": (1, lambda x=x: kernels.moments(x)),
            "add": (3, lambda x=x, bias=bias, skip=skip: kernels.add(x, bias, skip)),
            "group_norm": (2, lambda x=x, bias=bias, seen=seen, norm=norm: kernels.group_norm(x, norm, seen, bias)),
            "PyTorch's norm": (3, lambda x=x, norm=norm: F.silu(norm(x), inplace=True)),
        }
        print(f"{frames} pictures of {side} x {side} x {channels}", flush=True)
        for name, (passes, call) in timed.items():
            us = microseconds(call)
            print(f"  {name:16} {us:8.1f} us {passes * x.numel() * 2 / us / 1e3:7.0f} GB/s", flush=True)


if __name__ == "__main__":
    main()
