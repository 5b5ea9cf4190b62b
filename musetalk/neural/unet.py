"""MuseTalk's UNet: latents of a half-hidden face and the sound around a frame in, latents of the speaking face out, in one pass.

It is Stable Diffusion's UNet with 8 input channels and 384-wide context, called with the constant time 0. Parameter names and shapes are the
published ones, so that a bare state dict loads strictly (686 tensors). Source: MuseTalk repository at 0a89dec, diffusers' UNet2DConditionModel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from museserve.errors import ConfigError
from musetalk.neural.layers import CrossAttention, Downsample, GroupNorm, LayerNorm, ResnetBlock, SelfAttention, Upsample, described, packed

AUDIO_TOKENS = 50  # ten Whisper rows of five layers: 0.2 s around a frame


class UNetConfig(BaseModel):
    """What `musetalk.json` says. Keys of diffusers that change nothing here are ignored; a value that this network cannot have is refused."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    in_channels: Literal[8] = 8
    out_channels: Literal[4] = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = Field(2, ge=1)
    cross_attention_dim: int = Field(384, ge=2, multiple_of=2)
    attention_head_dim: int = Field(8, ge=1, description="despite its name the number of heads")
    norm_num_groups: int = Field(32, ge=1)
    norm_eps: float = Field(1e-5, gt=0)
    down_block_types: tuple[Literal["CrossAttnDownBlock2D", "DownBlock2D"], ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    up_block_types: tuple[Literal["CrossAttnUpBlock2D", "UpBlock2D"], ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    act_fn: Literal["silu"] = "silu"
    center_input_sample: Literal[False] = False
    downsample_padding: Literal[1] = 1
    flip_sin_to_cos: Literal[True] = True
    freq_shift: Literal[0] = 0
    mid_block_scale_factor: Literal[1] = 1

    @classmethod
    def parse(cls, values: dict[str, Any], origin: str = "musetalk.json") -> UNetConfig:
        """Raises ConfigError naming each value that does not fit."""
        config = described(cls, values, f"{origin} does not describe MuseTalk's UNet")
        depth = len(config.block_out_channels)
        if depth != len(config.down_block_types) or depth != len(config.up_block_types):
            raise ConfigError(f"{origin}: block_out_channels, down_block_types and up_block_types must be equally many")
        for channels in config.block_out_channels:
            if channels % config.norm_num_groups or channels % config.attention_head_dim:
                raise ConfigError(
                    f"{origin}: {channels} channels do not divide by {config.norm_num_groups} groups and {config.attention_head_dim} heads"
                )
        return config


class Gated(nn.Module):
    """First half of the projection times the exact GELU of its second half."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        out: Tensor = value * F.gelu(gate)
        return out


class FeedForward(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([Gated(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net[2](self.net[0](x))
        return out


class TransformerBlock(nn.Module):
    """Tokens (n, t, channels) look at each other, at the sound, and through a feed-forward layer."""

    def __init__(self, channels: int, heads: int, context: int) -> None:
        super().__init__()
        self.norm1, self.attn1 = LayerNorm(channels), SelfAttention(channels, heads)
        self.norm2, self.attn2 = LayerNorm(channels), CrossAttention(channels, heads, context)
        self.norm3, self.ff = LayerNorm(channels), FeedForward(channels)

    def forward(self, x: Tensor, keys_values: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x += self.attn2(self.norm2(x), keys_values)
        x += self.ff(self.norm3(x))
        return x


class Transformer(nn.Module):
    """A picture (n, c, h, w) as h * w tokens through one block, added to itself. The 1x1 convolutions are linear layers on tokens."""

    def __init__(self, channels: int, config: UNetConfig) -> None:
        super().__init__()
        self.norm = GroupNorm(config.norm_num_groups, channels, 1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, config.attention_head_dim, config.cross_attention_dim)])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, keys_values: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        tokens = F.linear(tokens, self.proj_in.weight.flatten(1), self.proj_in.bias)
        tokens = self.transformer_blocks[0](tokens, keys_values)
        tokens = F.linear(tokens, self.proj_out.weight.flatten(1), self.proj_out.bias)
        return x + tokens.transpose(1, 2).reshape(x.shape)


class _Stage(nn.Module):
    """Residual blocks of one resolution, each followed by a transformer where the stage attends.

    resizers: what changes the size at the end, by its published name.
    """

    def __init__(self, channels: Sequence[int], out: int, config: UNetConfig, *, attends: bool, **resizers: nn.Module) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([_resnet(c, out, config) for c in channels])
        if attends:
            self.attentions = nn.ModuleList([Transformer(out, config) for _ in channels])
        for name, resizer in resizers.items():
            setattr(self, name, nn.ModuleList([resizer]))

    def pairs(self) -> list[tuple[nn.Module, nn.Module | None]]:
        return list(zip(self.resnets, getattr(self, "attentions", [None] * len(self.resnets)), strict=True))


class DownStage(_Stage):
    """On the way down: half the size at the end."""

    def forward(self, x: Tensor, sound: Iterator[Tensor], kept: list[Tensor]) -> Tensor:
        """Takes its keys and values from `sound`, and puts what the way up needs on `kept`."""
        for resnet, attention in self.pairs():
            x = resnet(x)
            x = x if attention is None else attention(x, next(sound))
            kept.append(x)
        for downsampler in getattr(self, "downsamplers", ()):
            x = downsampler(x)
            kept.append(x)
        return x


class UpStage(_Stage):
    """On the way up: what the way down kept goes beside the input of each residual block; twice the size at the end."""

    def forward(self, x: Tensor, sound: Iterator[Tensor], kept: list[Tensor]) -> Tensor:
        for resnet, attention in self.pairs():
            x = resnet(torch.cat([x, kept.pop()], dim=1))
            x = x if attention is None else attention(x, next(sound))
        for upsampler in getattr(self, "upsamplers", ()):
            x = upsampler(x)
        return x


class UNetMidStage(nn.Module):
    def __init__(self, channels: int, config: UNetConfig) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([Transformer(channels, config)])
        self.resnets = nn.ModuleList([_resnet(channels, channels, config) for _ in range(2)])

    def forward(self, x: Tensor, sound: Iterator[Tensor]) -> Tensor:
        x = self.attentions[0](self.resnets[0](x), next(sound))
        out: Tensor = self.resnets[1](x)
        return out


def _resnet(channels: int, out: int, config: UNetConfig) -> ResnetBlock:
    return ResnetBlock(channels, out, config.norm_num_groups, config.norm_eps, 4 * config.block_out_channels[0])


class UNet(nn.Module):
    """Made with the published parameters, for a strict load; `fold` turns it into what is called."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.block_out_channels
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding: nn.Module | None = _TimeEmbedding(widths[0])
        self.down_blocks = nn.ModuleList(_down_stages(config))
        self.mid_block = UNetMidStage(widths[-1], config)
        self.up_blocks = nn.ModuleList(_up_stages(config))
        self.conv_norm_out = GroupNorm(config.norm_num_groups, widths[0], config.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)
        self.audio_projection: nn.Linear | None = None
        self.positions: Tensor
        self.register_buffer("positions", torch.empty(0), persistent=False)

    @torch.no_grad()
    def fold(self) -> UNet:
        """Rearrange the loaded weights: see `layers`. Afterwards the state dict is no longer the published one."""
        assert isinstance(self.time_embedding, _TimeEmbedding), "already folded"
        embedding = self.time_embedding.at_zero()
        self.time_embedding = None
        for part in self.modules():
            if isinstance(part, ResnetBlock):
                part.fold_time(embedding)
            elif isinstance(part, (SelfAttention, Upsample)):
                part.fold()
        attentions = self._cross_attentions()
        self.audio_projection = packed([layer for attn in attentions for layer in (attn.to_k, attn.to_v)])
        for attn in attentions:
            del attn.to_k, attn.to_v
        self.positions = sinusoids(AUDIO_TOKENS, self.config.cross_attention_dim).to(embedding.device)
        return self.requires_grad_(False).eval()

    def keys_values(self, audio: Tensor) -> Tensor:
        """What every layer attends to, once a frame and whatever the picture.

        Args:
            audio: Whisper features (n, 50, 384) of each frame's window, without positions.
        Returns:
            (n, 50, m): keys and values of all cross attentions side by side, in the network's type.
        """
        assert self.audio_projection is not None, "fold() comes before the first call"
        placed = (audio.float() + self.positions).to(self.audio_projection.weight.dtype)
        out: Tensor = self.audio_projection(placed)
        return out

    def forward(self, latents: Tensor, keys_values: Tensor) -> Tensor:
        """latents (n, 8, h, w): hidden half first, reference last; keys_values of `keys_values`. Returns latents (n, 4, h, w)."""
        sound = self.by_layer(keys_values)
        x = self.conv_in(latents)
        kept = [x]
        for stage in self.down_blocks:
            x = stage(x, sound, kept)
        x = self.mid_block(x, sound)
        for stage in self.up_blocks:
            x = stage(x, sound, kept)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(x), inplace=True))
        return out

    def by_layer(self, keys_values: Tensor) -> Iterator[Tensor]:
        """What each cross attention is given of `keys_values`, in the order in which they are called."""
        return iter(torch.split(keys_values, [2 * attention.channels for attention in self._cross_attentions()], dim=-1))

    def _cross_attentions(self) -> list[CrossAttention]:
        """In the order in which they are called."""
        stages = [*self.down_blocks, self.mid_block, *self.up_blocks]
        return [part for stage in stages for part in stage.modules() if isinstance(part, CrossAttention)]


class _TimeEmbedding(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width, 4 * width)
        self.linear_2 = nn.Linear(4 * width, 4 * width)

    def at_zero(self) -> Tensor:
        """The embedding (4 * width,) of time 0: cosines first, all one, then sines, all zero."""
        width, weight = self.linear_1.in_features, self.linear_1.weight
        wave = torch.cat([torch.ones(width // 2), torch.zeros(width - width // 2)]).to(weight)
        out: Tensor = self.linear_2(F.silu(self.linear_1(wave)))
        return out


def sinusoids(length: int, width: int) -> Tensor:
    """Positions (length, width) float32: sine at even, cosine at odd places, wavelengths from 2 pi to 10000 * 2 pi."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def _down_stages(config: UNetConfig) -> list[DownStage]:
    stages, channels = [], config.block_out_channels[0]
    for i, (kind, out) in enumerate(zip(config.down_block_types, config.block_out_channels, strict=True)):
        inputs = [channels] + [out] * (config.layers_per_block - 1)
        resizers = {"downsamplers": Downsample(out, 1)} if i < len(config.block_out_channels) - 1 else {}
        stages.append(DownStage(inputs, out, config, attends=kind.startswith("Cross"), **resizers))
        channels = out
    return stages


def _up_stages(config: UNetConfig) -> list[UpStage]:
    widths = config.block_out_channels
    kept = [widths[0]]
    for i, width in enumerate(widths):
        kept += [width] * (config.layers_per_block + (i < len(widths) - 1))
    stages, channels = [], widths[-1]
    for i, (kind, out) in enumerate(zip(config.up_block_types, reversed(widths), strict=True)):
        inputs = []
        for _ in range(config.layers_per_block + 1):
            inputs.append(channels + kept.pop())
            channels = out
        resizers = {"upsamplers": Upsample(out)} if i < len(widths) - 1 else {}
        stages.append(UpStage(inputs, out, config, attends=kind.startswith("Cross"), **resizers))
    return stages
