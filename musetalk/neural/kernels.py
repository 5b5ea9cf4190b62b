"""What lies between convolutions and matrix products on a card, as Triton kernels: norms, sums, gates, colours. All of it is memory traffic, so each
kernel does in one pass what PyTorch's own take several for.

Pictures are (n, c, h, w) with the channels last, float16 or float32; everything is computed in float32. A group norm is three kernels: means and
squared deviations of each channel over chunks of pixels (`_moments`), put together per group (`_scales`), then one multiplication and addition a
value (`_scaled`). Chunks do not depend on the number of pictures, and nothing is added atomically: the same picture gives the same bits every time.

Every kernel writes to memory that it does not read, and none is tuned by trial, so that all of them may be recorded in a CUDA graph once they were
called before. `TRITON_INTERPRET=1` runs them on a CPU, slowly.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from musetalk.neural.layers import GroupNorm, LayerNorm

TILE = 4096  # values that a program holds at once: 16 a thread
WARPS = 8
# Of `_moments`, which waits for memory more than it computes: small parts, so that many programs wait at once, but chunks of several of them, because
# each chunk ends with a sum over threads. The best of those that `benchmarks.kernels` tried on an H200.
MOMENTS_TILE, MOMENTS_WARPS, MOMENTS_UNROLL = 2048, 4, 8
LEAST_STEPS = 16  # of a chunk
MAX_CHUNKS = 128  # of a picture
MAX_GROUP = 128  # channels


class Moments(NamedTuple):
    """Of each channel over chunks of pixels, all but the last of one size."""

    mean: Tensor  # (n, chunks, c) float32
    spread: Tensor  # (n, chunks, c) float32: sum of squared distances from the mean
    chunk: int  # pixels


@triton.jit
def _moments(
    x,
    bias,
    skip,
    total,
    mean,
    spread,
    pixels,
    channels,
    chunk,
    ADD: tl.constexpr,
    BIAS: tl.constexpr,
    UNROLL: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Moments of a chunk of `x`; with ADD of total = x + bias + skip (or x + skip), which is written, too."""
    # The last picture first: what was written last may still be in the cache, and what is read last here is what `_scaled` begins with.
    picture = (tl.num_programs(2) - 1 - tl.program_id(2)).to(tl.int64)
    at_chunk = tl.program_id(1)
    columns = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = columns < channels
    first = at_chunk * chunk
    last = tl.minimum(first + chunk, pixels)
    x += picture * pixels * channels
    skip += picture * pixels * channels
    total += picture * pixels * channels
    # Distances from the chunk's first pixel: squares of the values themselves would lose the digits of a small spread around a large mean.
    origin = tl.load(x + first * channels + columns, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        added = tl.zeros([BLOCK_C], dtype=tl.float32)
        if BIAS:
            added += tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)
        origin += added + tl.load(skip + first * channels + columns, mask=inside, other=0.0).to(tl.float32)
    away = tl.zeros([BLOCK_P, BLOCK_C], dtype=tl.float32)
    square = tl.zeros([BLOCK_P, BLOCK_C], dtype=tl.float32)
    for start in tl.range(first, last, BLOCK_P, loop_unroll_factor=UNROLL):
        rows = start + tl.arange(0, BLOCK_P)
        mask = (rows < last)[:, None] & inside[None, :]
        at = rows[:, None] * channels + columns[None, :]
        value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        if ADD:
            value += tl.load(skip + at, mask=mask, other=0.0).to(tl.float32) + added[None, :]
            written = value.to(total.dtype.element_ty)
            tl.store(total + at, written, mask=mask)
            value = written.to(tl.float32)
        distance = tl.where(mask, value - origin[None, :], 0.0)
        away += distance
        square += distance * distance
    count = (last - first).to(tl.float32)
    offset = tl.sum(away, axis=0) / count
    out = (picture * tl.num_programs(1) + at_chunk) * channels + columns
    tl.store(mean + out, origin + offset, mask=inside)
    tl.store(spread + out, tl.sum(square, axis=0) - offset * offset * count, mask=inside)


@triton.jit(do_not_specialize=["pixels", "channels", "chunk", "chunks"])  # one for all sizes of pictures is fast enough, and compiled once
def _scales(
    mean,
    spread,
    weight,
    beta,
    bias,
    scale,
    shift,
    pixels,
    channels,
    chunk,
    chunks,
    eps,
    BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
    GROUP: tl.constexpr,
):
    """scale, shift (n, c) so that x * scale + shift is the norm of one group of x, or of x + bias."""
    width = channels // tl.num_programs(0)
    picture, first = tl.program_id(1), tl.program_id(0) * width
    start_of = picture.to(tl.int64) * chunks * channels + first
    count = (pixels * width).to(tl.float32)
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, chunks * width, BLOCK):
        index = start + tl.arange(0, BLOCK)
        inside = index < chunks * width
        at_chunk, column = index // width, index % width
        centre = tl.load(mean + start_of + at_chunk * channels + column, mask=inside, other=0.0)
        if BIAS:
            centre += tl.load(bias + first + column, mask=inside, other=0.0).to(tl.float32)
        total += tl.where(inside, centre * tl.minimum(chunk, pixels - at_chunk * chunk).to(tl.float32), 0.0)
    middle = tl.sum(total, axis=0) / count
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, chunks * width, BLOCK):
        index = start + tl.arange(0, BLOCK)
        inside = index < chunks * width
        at_chunk, column = index // width, index % width
        centre = tl.load(mean + start_of + at_chunk * channels + column, mask=inside, other=0.0)
        if BIAS:
            centre += tl.load(bias + first + column, mask=inside, other=0.0).to(tl.float32)
        away = centre - middle
        within = tl.load(spread + start_of + at_chunk * channels + column, mask=inside, other=0.0)
        total += tl.where(inside, within + away * away * tl.minimum(chunk, pixels - at_chunk * chunk).to(tl.float32), 0.0)
    rate = 1.0 / tl.sqrt(tl.sum(total, axis=0) / count + eps)
    column = tl.arange(0, GROUP)
    inside = column < width
    factor = rate * tl.load(weight + first + column, mask=inside, other=0.0)
    if BIAS:
        middle -= tl.load(bias + first + column, mask=inside, other=0.0).to(tl.float32)
    out = picture * channels + first + column
    tl.store(scale + out, factor, mask=inside)
    tl.store(shift + out, tl.load(beta + first + column, mask=inside, other=0.0) - middle * factor, mask=inside)


@triton.jit
def _scaled(x, scale, shift, out, pixels, channels, SILU: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    picture = tl.program_id(2)
    columns = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = columns < channels
    rows = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P)
    mask = (rows < pixels)[:, None] & inside[None, :]
    x += picture.to(tl.int64) * pixels * channels
    out += picture.to(tl.int64) * pixels * channels
    at = rows[:, None] * channels + columns[None, :]
    factor = tl.load(scale + picture * channels + columns, mask=inside, other=0.0)
    constant = tl.load(shift + picture * channels + columns, mask=inside, other=0.0)
    value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) * factor[None, :] + constant[None, :]
    if SILU:
        value = value / (1.0 + tl.exp(-value))
    tl.store(out + at, value.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _relu(x, bias, skip, out, rows, channels, SKIP: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    columns = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = columns < channels
    mask = (row < rows)[:, None] & inside[None, :]
    at = row.to(tl.int64)[:, None] * channels + columns[None, :]
    value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) + tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)[None, :]
    if SKIP:
        value += tl.load(skip + at, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + at, tl.maximum(value, 0.0).to(out.dtype.element_ty), mask=mask)


@triton.jit
def _layer_norm(x, delta, weight, beta, total, out, rows, channels, eps, ADD: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    """The norm of each row of `x`; with ADD of total = x + delta, which is written, too."""
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    columns = tl.arange(0, BLOCK_C)
    inside = columns < channels
    mask = (row < rows)[:, None] & inside[None, :]
    at = row.to(tl.int64)[:, None] * channels + columns[None, :]
    value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    if ADD:
        value += tl.load(delta + at, mask=mask, other=0.0).to(tl.float32)
        written = value.to(total.dtype.element_ty)
        tl.store(total + at, written, mask=mask)
        value = written.to(tl.float32)
    centred = tl.where(mask, value - (tl.sum(value, axis=1) / channels)[:, None], 0.0)
    rate = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=1) / channels + eps)
    factor = tl.load(weight + columns, mask=inside, other=0.0)
    constant = tl.load(beta + columns, mask=inside, other=0.0)
    value = centred * rate[:, None] * factor[None, :] + constant[None, :]
    tl.store(out + at, value.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _gated(x, out, rows, inner, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    row = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)
    columns = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    mask = (row < rows)[:, None] & (columns < inner)[None, :]
    at = row.to(tl.int64)[:, None] * inner
    value = tl.load(x + 2 * at + columns[None, :], mask=mask, other=0.0).to(tl.float32)
    gate = tl.load(x + 2 * at + inner + columns[None, :], mask=mask, other=0.0).to(tl.float32)
    value *= 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))
    tl.store(out + at + columns[None, :], value.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _whole(x, at, bias, mask, BIAS: tl.constexpr):
    """-1..1 to whole numbers 0..255."""
    value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    if BIAS:
        value += tl.load(bias).to(tl.float32)
    value = tl.minimum(tl.maximum(value / 2 + 0.5, 0.0), 1.0) * 255.0
    return ((value + 12582912.0) - 12582912.0).to(tl.int32)  # at 1.5 * 2**23 a float32 has no fraction: halves go to the even neighbour


@triton.jit
def _plane(red, green, blue, r: tl.constexpr, g: tl.constexpr, b: tl.constexpr, offset: tl.constexpr, SHIFT: tl.constexpr):
    value = (red * r + green * g + blue * b + ((offset << SHIFT) + (1 << (SHIFT - 1)))) >> SHIFT
    return tl.minimum(tl.maximum(value, 0), 255).to(tl.uint8)


@triton.jit
def _i420(x, bias, out, height, width, BIAS: tl.constexpr, BLOCK: tl.constexpr):
    """As `yuv.to_i420`; BLOCK: squares of four pixels."""
    picture = tl.program_id(1).to(tl.int64)
    pixels = height * width
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = index < pixels // 4
    first = index // (width // 2) * 2 * width + index % (width // 2) * 2  # the upper left of the four
    x += picture * pixels * 3
    out += picture * (pixels + pixels // 2)
    reds = tl.zeros([BLOCK], dtype=tl.int32)
    greens = tl.zeros([BLOCK], dtype=tl.int32)
    blues = tl.zeros([BLOCK], dtype=tl.int32)
    for place in tl.static_range(4):
        at = first + (place // 2) * width + place % 2
        red = _whole(x, at * 3, bias, mask, BIAS)
        green = _whole(x, at * 3 + 1, bias + 1, mask, BIAS)
        blue = _whole(x, at * 3 + 2, bias + 2, mask, BIAS)
        tl.store(out + at, _plane(red, green, blue, 269484, 528482, 102760, 16, 20), mask=mask)
        reds += red
        greens += green
        blues += blue
    out += pixels + index
    tl.store(out, _plane(reds, greens, blues, -155188, -305135, 460324, 128, 22), mask=mask)
    tl.store(out + pixels // 4, _plane(reds, greens, blues, 460324, -385875, -74448, 128, 22), mask=mask)


def moments(x: Tensor) -> Moments:
    """What `group_norm` needs to know of a picture (n, c, h, w)."""
    return _measured(x, None, x, x, add=False)


def add(x: Tensor, bias: Tensor | None, skip: Tensor) -> tuple[Tensor, Moments]:
    """x + bias + skip and its moments, in one pass; x and skip (n, c, h, w), bias (c,)."""
    total = torch.empty_like(x)
    return total, _measured(x, bias, skip, total, add=True)


def group_norm(x: Tensor, norm: GroupNorm, seen: Moments | None = None, bias: Tensor | None = None, *, silu: bool = True) -> Tensor:
    """`norm` of x, or of x + bias, then SiLU unless told otherwise.

    Args:
        x: (n, c, h, w). seen: its moments, where they are known. bias: (c,), for instance what a convolution has left out.
    """
    n, channels, pixels = len(x), x.shape[1], x.shape[2] * x.shape[3]
    assert x.is_contiguous(memory_format=torch.channels_last) and channels <= MAX_GROUP * norm.num_groups
    mean, spread, chunk = seen or moments(x)
    scale, shift = (torch.empty(n, channels, device=x.device) for _ in range(2))
    tensors = mean, spread, norm.weight, norm.bias, norm.bias if bias is None else bias, scale, shift
    flags = {"BIAS": bias is not None, "BLOCK": 512, "GROUP": MAX_GROUP}
    _scales[norm.num_groups, n](*tensors, pixels, channels, chunk, mean.shape[1], norm.eps, **flags)
    out = torch.empty_like(x)
    rows, columns = _block(channels, 2 * TILE)
    grid = (triton.cdiv(channels, columns), triton.cdiv(pixels, rows), n)
    _scaled[grid](x, scale, shift, out, pixels, channels, SILU=silu, BLOCK_P=rows, BLOCK_C=columns, num_warps=WARPS)
    return out


def relu(x: Tensor, bias: Tensor, skip: Tensor | None = None) -> Tensor:
    """What is positive of x + bias + skip; pictures (n, c, h, w), bias (c,)."""
    n, channels, height, width = x.shape
    assert all(p.is_contiguous(memory_format=torch.channels_last) and p.shape == x.shape for p in (x, skip) if p is not None)
    out = torch.empty_like(x)
    rows, columns = _block(channels, 2 * TILE)
    n_rows = n * height * width
    _relu[triton.cdiv(n_rows, rows), triton.cdiv(channels, columns)](
        x, bias, x if skip is None else skip, out, n_rows, channels, SKIP=skip is not None, BLOCK_R=rows, BLOCK_C=columns, num_warps=WARPS
    )
    return out


def layer_norm(x: Tensor, norm: LayerNorm) -> Tensor:
    """`norm` of tokens (n, t, c)."""
    return _layer_normed(x, x, x, norm, add=False)


def add_layer_norm(x: Tensor, delta: Tensor, norm: LayerNorm) -> tuple[Tensor, Tensor]:
    """x + delta and its norm, in one pass; both (n, t, c)."""
    total = torch.empty_like(x)
    return total, _layer_normed(x, delta, total, norm, add=True)


def gated(x: Tensor) -> Tensor:
    """First half (n, t, c) of x (n, t, 2 c) times the exact GELU of its second half."""
    assert x.is_contiguous()
    inner = x.shape[-1] // 2
    out = x.new_empty(*x.shape[:-1], inner)
    rows, columns = _block(inner, TILE)
    n_rows = out.numel() // inner
    _gated[triton.cdiv(inner, columns), triton.cdiv(n_rows, rows)](x, out, n_rows, inner, BLOCK_R=rows, BLOCK_C=columns, num_warps=WARPS)
    return out


def i420(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Pictures (n, 3, h, w) in -1..1, without `bias` (3,), to I420 uint8 (n, h * 3 // 2, w), h and w even: `yuv.to_i420(vae.to_bytes(x))`."""
    x = x.contiguous(memory_format=torch.channels_last)
    n, channels, height, width = x.shape
    assert channels == 3 and height % 2 == 0 and width % 2 == 0
    out = torch.empty(n, height * 3 // 2, width, dtype=torch.uint8, device=x.device)
    grid = (triton.cdiv(height * width // 4, 256), n)
    _i420[grid](x, x if bias is None else bias, out, height, width, BIAS=bias is not None, BLOCK=256)
    return out


def _block(channels: int, tile: int) -> tuple[int, int]:
    """Rows and columns of a program's part: whole cache lines where there are so many channels."""
    columns = 128 if channels % 128 == 0 else min(64, triton.next_power_of_2(channels))
    return tile // columns, columns


def _measured(x: Tensor, bias: Tensor | None, skip: Tensor, total: Tensor, *, add: bool) -> Moments:
    assert all(picture.is_contiguous(memory_format=torch.channels_last) and picture.shape == x.shape for picture in (x, skip, total))
    n, channels, pixels = len(x), x.shape[1], x.shape[2] * x.shape[3]
    rows, columns = _block(channels, MOMENTS_TILE)
    chunk = rows * max(LEAST_STEPS, triton.cdiv(pixels, rows * MAX_CHUNKS))
    chunks = triton.cdiv(pixels, chunk)
    mean, spread = (torch.empty(n, chunks, channels, device=x.device) for _ in range(2))
    grid = (triton.cdiv(channels, columns), chunks, n)
    tensors = x, x if bias is None else bias, skip, total, mean, spread
    unroll = max(1, MOMENTS_UNROLL // 2) if add else MOMENTS_UNROLL
    flags = {"ADD": add, "BIAS": bias is not None, "UNROLL": unroll, "BLOCK_P": rows, "BLOCK_C": columns}
    _moments[grid](*tensors, pixels, channels, chunk, **flags, num_warps=MOMENTS_WARPS)
    return Moments(mean, spread, chunk)


def _layer_normed(x: Tensor, delta: Tensor, total: Tensor, norm: LayerNorm, *, add: bool) -> Tensor:
    assert x.is_contiguous() and delta.is_contiguous() and delta.shape == x.shape
    channels = x.shape[-1]
    rows, columns = x.numel() // channels, triton.next_power_of_2(channels)
    at_once = max(1, TILE // columns)
    out = torch.empty_like(x)
    grid = (triton.cdiv(rows, at_once),)
    _layer_norm[grid](
        x, delta, norm.weight, norm.bias, total, out, rows, channels, norm.eps, ADD=add, BLOCK_R=at_once, BLOCK_C=columns, num_warps=WARPS
    )
    return out
