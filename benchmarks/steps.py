"""Where a batch spends its time, by kind of step, beside the least that its arithmetic would take at the measured peak."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

# The first that matches a kernel's or operator's name, in this order.
STEPS = (
    ("normalisation and elementwise", r"^triton_(poi|red|per)_"),  # named after all that they fuse, be it a convolution's bias
    ("copies between host and card", r"memcpy|memset"),
    ("attention", r"flash|attention|fmha|softmax|bmm"),
    ("convolution", r"conv|fprop|dgrad|wgrad|implicit|winograd"),
    ("matrix product", r"gemm|addmm|\bmm\b|aten::mm|linear|cutlass|matmul|nvjet"),
    ("layout and copies", r"copy|cat|stack|nchw|nhwc|transpose|permute|index|contiguous|to_copy|clone"),
    ("normalisation and elementwise", r"."),
)


KERNELS_SHOWN = 25


def step_of(name: str) -> str:
    return next(step for step, pattern in STEPS if re.search(pattern, name.lower()))


def spent(draw: Callable[[], Any], size: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Milliseconds a frame of one call of `draw`, most first: `by_step`, and `by_kernel` for the longest. Without a card of PyTorch's operators."""
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as seen:
        draw()
        if cuda:
            torch.cuda.synchronize()
    by_step: dict[str, float] = defaultdict(float)
    by_kernel: dict[str, float] = defaultdict(float)
    for event in seen.key_averages():
        ms = (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e3 / size
        by_step[step_of(event.key)] += ms
        by_kernel[f"{event.count} x {event.key[:100]}"] += ms
    return {"by_step": _longest(by_step), "by_kernel": _longest(by_kernel)}


def _longest(spent: dict[str, float]) -> dict[str, float]:
    longest = sorted(spent.items(), key=lambda item: -item[1])[:KERNELS_SHOWN]
    return {name: round(ms, 4) for name, ms in longest if ms > 0}


def executed_gflop(decoder: str) -> dict[str, float]:
    """What our networks of the full size really multiply for a frame, by step; counted on tensors without memory."""
    from musetalk.neural.taesd import TinyDecoder
    from musetalk.neural.unet import UNet, UNetConfig
    from musetalk.neural.vae import VAE, VAEConfig

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        unet = UNet(UNetConfig()).fold()
        decode = TinyDecoder().fold() if decoder == "taesd" else VAE(VAEConfig()).fold().decode_only()
        decode(unet(torch.empty(1, 8, 32, 32), unet.keys_values(torch.empty(1, 50, 384))))
    by_operator: dict[str, float] = defaultdict(float)
    for operator, flop in counter.get_flop_counts()["Global"].items():
        by_operator[step_of(str(operator))] += flop / 1e9
    return {step: round(gflop, 1) for step, gflop in by_operator.items()}


def matmul_peak(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """FLOP/s of the best of several large matrix products."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(8):
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(10 if device.type == "cuda" else 1):
            torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - began) / (10 if device.type == "cuda" else 1))
    return 2 * side**3 / best
