"""What the UNet and the VAE are built of: normalisation, residual blocks, attention, resampling. Module names are those of the published checkpoints.

Three things are rearranged once the weights are loaded (`fold`), each exact up to the order of additions: the constant time path becomes part of
a bias, query, key and value projections become one matrix, and "nearest x2, then 3x3 convolution" becomes one 4x4 transposed convolution of
stride 2, which takes 16 products for the four pixels that each pixel turns into, instead of 36.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from museserve.errors import ConfigError

Description = TypeVar("Description", bound=BaseModel)


def described(kind: type[Description], values: dict[str, Any], trouble: str) -> Description:
    """A network's description, checked. Raises ConfigError: `trouble`, and each value that does not fit."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{trouble}: {faults}") from None


class GroupNorm(nn.GroupNorm):
    """Statistics and scaling in float32 whatever the type of the pictures; its own parameters stay float32."""

    def forward(self, x: Tensor) -> Tensor:
        whole = x.float()
        if x.device.type == "cpu":
            return F.group_norm(whole, self.num_groups, self.weight, self.bias, self.eps).to(x.dtype)
        return self.by_channel(whole).to(x.dtype)

    def by_channel(self, x: Tensor) -> Tensor:
        """The same in the order that suits a card: of pictures with the channels last, a group is a few bytes of every pixel, so PyTorch's own
        kernel copies them first. Moments of whole channels are read in one straight run, and groups put together from them.
        """
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=0)  # (n, c)
        grouped = mean.view(len(x), self.num_groups, -1)
        centre = grouped.mean(2, keepdim=True)
        spread = variance.view_as(grouped) + (grouped - centre).square()
        rate = torch.rsqrt(spread.mean(2, keepdim=True) + self.eps)
        scale = rate.expand_as(grouped).reshape(mean.shape) * self.weight
        centred = x - centre.expand_as(grouped).reshape(mean.shape)[:, :, None, None]
        return torch.addcmul(self.bias[:, None, None], centred, scale[:, :, None, None])


class LayerNorm(nn.LayerNorm):
    """As `GroupNorm`: float32 inside."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), self.normalized_shape, self.weight, self.bias, self.eps).to(x.dtype)


class ResnetBlock(nn.Module):
    """Two normalised 3x3 convolutions around a shortcut. With `time_dim` the published weights add a time embedding between them."""

    def __init__(self, channels: int, out: int, groups: int, eps: float, time_dim: int | None = None) -> None:
        super().__init__()
        self.norm1 = GroupNorm(groups, channels, eps)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_dim, out) if time_dim else None
        self.norm2 = GroupNorm(groups, out, eps)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(channels, out, 1) if channels != out else None

    def fold_time(self, embedding: Tensor) -> None:
        """Put the projection of a constant `embedding` (time_dim,) into the first convolution's bias."""
        assert self.time_emb_proj is not None and self.conv1.bias is not None
        self.conv1.bias = nn.Parameter(self.conv1.bias + self.time_emb_proj(F.silu(embedding)), requires_grad=False)
        self.time_emb_proj = None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x), inplace=True))
        h = self.conv2(F.silu(self.norm2(h), inplace=True))
        h += x if self.conv_shortcut is None else pointwise(x, self.conv_shortcut)
        out: Tensor = h
        return out


class Downsample(nn.Module):
    """3x3 convolution of stride 2. `padding` 1 pads all around (UNet), 0 only right and below (VAE)."""

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x if self.conv.padding != (0, 0) else F.pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    """Nearest neighbour to twice the size, then a 3x3 convolution; after `fold` one 4x4 transposed convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv: nn.Conv2d | nn.ConvTranspose2d = nn.Conv2d(channels, channels, 3, padding=1)

    def fold(self) -> None:
        assert isinstance(self.conv, nn.Conv2d), "fold() is called once"
        self.conv = enlarging(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        folded = isinstance(self.conv, nn.ConvTranspose2d)
        out: Tensor = self.conv(x if folded else F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


def enlarging(conv: nn.Conv2d) -> nn.ConvTranspose2d:
    """What gives in one step what a 3x3 convolution gives of a picture that was enlarged to twice the size before."""
    weight = conv.weight.data
    out, channels = weight.shape[:2]
    folded = nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1, bias=False, device=weight.device, dtype=weight.dtype)
    folded.weight.data = _four_taps(_four_taps(weight, 2), 3).transpose(0, 1).contiguous()
    folded.bias = conv.bias
    return folded


def in_parts(run: Callable[[Tensor], Tensor], x: Tensor, at_once: int) -> Tensor:
    """`run` of so many pictures at a time, put together; 0 = of all of them at once. Of few at a time, what is written may still lie in a card's
    cache when it is read again.
    """
    if not 0 < at_once < len(x):
        return run(x)
    return torch.cat([run(part) for part in torch.split(x, at_once)])


def _four_taps(weight: Tensor, dim: int) -> Tensor:
    """Three taps on an enlarged picture as four on the small one: of two pixels the first takes the second and the last of them."""
    first, middle, last = weight.unbind(dim)
    return torch.stack([last, middle + last, first + middle, first], dim)


def pointwise(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """A 1x1 convolution as one matrix product; of pictures with the channels last nothing is copied."""
    return F.linear(x.permute(0, 2, 3, 1), conv.weight.flatten(1), conv.bias).permute(0, 3, 1, 2)


class SelfAttention(nn.Module):
    """Multi-head attention of tokens (n, t, channels) among themselves; `fold` packs the three projections into one."""

    def __init__(self, channels: int, heads: int, *, bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=bias)
        self.to_k = nn.Linear(channels, channels, bias=bias)
        self.to_v = nn.Linear(channels, channels, bias=bias)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])
        self.to_qkv: nn.Linear | None = None

    def fold(self) -> None:
        self.to_qkv = packed([self.to_q, self.to_k, self.to_v])
        del self.to_q, self.to_k, self.to_v

    def forward(self, x: Tensor) -> Tensor:
        assert self.to_qkv is not None, "fold() comes before the first call"
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out: Tensor = self.to_out[0](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


class CrossAttention(nn.Module):
    """Attention of tokens (n, t, channels) to a context, whose keys and values come ready-made (see `UNet.keys_values`)."""

    def __init__(self, channels: int, heads: int, context: int) -> None:
        super().__init__()
        self.channels, self.heads = channels, heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor, keys_values: Tensor) -> Tensor:
        """keys_values: (n, tokens, 2 * channels), keys first."""
        q = self.to_q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = keys_values.reshape(*keys_values.shape[:2], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        out: Tensor = self.to_out[0](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


def packed(layers: list[nn.Linear]) -> nn.Linear:
    """Linear layers of the same input side by side, as one."""
    weight = torch.cat([layer.weight.data for layer in layers])
    joined = nn.Linear(weight.shape[1], weight.shape[0], bias=layers[0].bias is not None, device=weight.device, dtype=weight.dtype)
    joined.weight.data = weight
    if layers[0].bias is not None:
        joined.bias.data = torch.cat([layer.bias.data for layer in layers])
    return joined


def set_precision(module: nn.Module, dtype: torch.dtype) -> None:
    """Everything to `dtype` but the normalisations, which stay float32."""
    for part in module.modules():
        if not isinstance(part, (GroupNorm, LayerNorm)):
            for parameter in part.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
