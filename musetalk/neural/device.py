"""The device that the neural engine runs on: which one, how it is set up, and whether it is still there."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F

from configs.models import MuseTalkConfig
from museserve.errors import DeviceLostError, EngineUnavailableError
from museserve.runtime import malloc

TRIES = 6  # of what is measured; the first ones make things ready


def choose(config: MuseTalkConfig) -> torch.device:
    """The configured device. Raises EngineUnavailableError when it is not there."""
    if config.device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise EngineUnavailableError(
            f"there is no CUDA device that PyTorch {torch.__version__} can use ({_why_no_cuda()}). "
            "To draw on the CPU, at seconds a frame, set lipsync.musetalk.device: cpu"
        )
    return torch.device("cuda", torch.cuda.current_device())


def precision(config: MuseTalkConfig, device: torch.device) -> torch.dtype:
    """What the networks compute in. Raises EngineUnavailableError: bfloat16 on a card, or where it is no faster than float32."""
    if config.dtype == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if config.dtype == "bfloat16":
        _check_bfloat16(device)
    dtype: torch.dtype = getattr(torch, config.dtype)
    return dtype


def _check_bfloat16(device: torch.device) -> None:
    if device.type != "cpu":
        raise EngineUnavailableError("lipsync.musetalk.dtype: bfloat16 is for CPUs; on a card float16 is as fast and more exact: set it to auto")
    took_ms = {dtype: _convolution_ms(dtype) for dtype in (torch.float32, torch.bfloat16)}
    if took_ms[torch.bfloat16] >= took_ms[torch.float32]:
        raise EngineUnavailableError(
            f"lipsync.musetalk.dtype: bfloat16 is not faster than float32 on this processor ({took_ms[torch.bfloat16]:.1f} ms against "
            f"{took_ms[torch.float32]:.1f} for a convolution), which has no instructions for it (AVX-512 BF16 or AMX): set it to auto"
        )


def _convolution_ms(dtype: torch.dtype) -> float:
    """Processor time of one that is like the networks', at best."""
    x = torch.ones(1, 256, 32, 32, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.ones(256, 256, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
    best = math.inf
    with torch.inference_mode():
        for _ in range(TRIES):
            began = time.process_time()
            F.conv2d(x, weight, padding=1)
            best = min(best, time.process_time() - began)
    return best * 1e3


def set_up(device: torch.device, threads: int, memory_fraction: float | None) -> None:
    """Settings of this process. `memory_fraction`: most of the card's memory that PyTorch may take here; the context comes on top."""
    if device.type == "cpu":
        torch.set_num_threads(threads)
        # Pages of one picture serve the next: clearing them anew took a third of the time of what is not a convolution.
        malloc.keep_freed(2**30, 2**31 - 1)
        malloc.single_arena()
        return
    torch.cuda.set_device(device)
    if memory_fraction is not None and memory_fraction < 1:
        torch.cuda.set_per_process_memory_fraction(memory_fraction, device)
    # TF32 only touches what is float32 by choice, and would cost 1e-3.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.enable_cudnn_sdp(False)


@contextmanager
def planned(device: torch.device) -> Iterator[None]:
    """cuDNN plans, and compiles for, each shape that it meets, in each thread anew: tens of milliseconds, more where it tries all its ways.

    A recorded graph keeps the best plan for ever. So it may plan here, for shapes that come again and again, but not for a sound that is still
    arriving, which is a little longer every time.
    """
    if device.type == "cpu":
        yield
        return
    before = torch.backends.cudnn.benchmark, torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.enable_cudnn_sdp(True)
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before[0]
        torch.backends.cuda.enable_cudnn_sdp(before[1])


def describe(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else f"{device} ({torch.cuda.get_device_name(device)})"


def is_out_of_memory(error: BaseException) -> bool:
    """Also where a library wraps it: cuDNN and cuBLAS report exhausted memory as errors of their own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in text or "CUBLAS_STATUS_ALLOC_FAILED" in text or "can't allocate memory" in text)


def probe(device: torch.device) -> None:
    """A tiny kernel, waited for. Raises DeviceLostError with what CUDA says: after a fault every later call of the process fails too."""
    if device.type == "cpu":
        return
    try:
        torch.cuda.synchronize(device)
        if torch.ones(4, device=device).add_(1).sum().item() != 8:
            raise DeviceLostError(f"{device} adds wrongly; the replica must be replaced")
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise DeviceLostError(f"{device} is lost: {str(error).splitlines()[0]}; the replica must be replaced") from None


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return "this PyTorch was built without CUDA"
    return "no NVIDIA driver is loaded" if not Path("/proc/driver/nvidia/version").exists() else "the driver shows no card to this process"
