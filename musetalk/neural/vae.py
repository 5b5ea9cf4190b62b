"""The autoencoder between faces and latents: Stable Diffusion's, with the published parameter names (248 tensors).

Source: MuseTalk repository at 0a89dec (musetalk/models/vae.py), diffusers' AutoencoderKL.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from museserve.errors import ConfigError
from musetalk.neural.layers import Downsample, GroupNorm, ResnetBlock, SelfAttention, Upsample, described, in_parts

FACE_SIDE = 256  # pixels; 32 latents
LATENT_SIDE = 32
SCALE = 0.18215  # what latents are multiplied by outside the autoencoder
EPS = 1e-6

LARGE = 2  # the decoder's stage from which on pictures have 128 pixels and more: three quarters of its work
AT_ONCE = (0, 1, 2)  # frames that these stages may take at a time: one of 256 pixels has up to 34 MB in float16

LEGACY_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class VAEConfig(BaseModel):
    """What the autoencoder's `config.json` says; keys that change nothing here are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    latent_channels: Literal[4] = 4
    block_out_channels: tuple[int, int, int, int] = Field((128, 256, 512, 512), description="four stages: 8 pixels to a latent")
    layers_per_block: int = Field(2, ge=1)
    norm_num_groups: int = Field(32, ge=1)
    act_fn: Literal["silu"] = "silu"
    scaling_factor: float = Field(SCALE, gt=0)

    @classmethod
    def parse(cls, values: dict[str, Any], origin: str = "config.json") -> VAEConfig:
        """Raises ConfigError naming each value that does not fit."""
        config = described(cls, values, f"{origin} does not describe MuseTalk's autoencoder")
        for channels in config.block_out_channels:
            if channels % config.norm_num_groups:
                raise ConfigError(f"{origin}: {channels} channels do not divide by {config.norm_num_groups} groups")
        return config


def current_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the attention names of today, whichever of the two published conventions it uses. 1x1 kernels become matrices."""
    renamed = {}
    for name, tensor in state.items():
        head, _, kind = name.rpartition(".")
        stem, _, layer = head.rpartition(".")
        if stem.endswith("mid_block.attentions.0") and layer in LEGACY_ATTENTION:
            name = f"{stem}.{LEGACY_ATTENTION[layer]}.{kind}"
        if ".mid_block.attentions.0.to_" in name and tensor.ndim == 4:
            tensor = tensor.flatten(1)
        renamed[name] = tensor
    return renamed


class VAEAttention(nn.Module):
    """One head over all places of a picture (n, c, h, w), added to it."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = GroupNorm(groups, channels, EPS)
        inner = SelfAttention(channels, 1, bias=True)
        self.to_q, self.to_k, self.to_v, self.to_out = inner.to_q, inner.to_k, inner.to_v, inner.to_out
        self.attend: SelfAttention | None = None

    def fold(self) -> None:
        attend = SelfAttention(1, 1, bias=True)
        attend.to_q, attend.to_k, attend.to_v, attend.to_out = self.to_q, self.to_k, self.to_v, self.to_out
        del self.to_q, self.to_k, self.to_v, self.to_out
        attend.fold()
        self.attend = attend

    def forward(self, x: Tensor) -> Tensor:
        assert self.attend is not None, "fold() comes before the first call"
        tokens: Tensor = self.attend(self.group_norm(x).flatten(2).transpose(1, 2))
        return x + tokens.transpose(1, 2).reshape(x.shape)


class VAEMidStage(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([VAEAttention(channels, groups)])
        self.resnets = nn.ModuleList([ResnetBlock(channels, channels, groups, EPS) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.resnets[1](self.attentions[0](self.resnets[0](x)))
        return out


class VAEStage(nn.Module):
    """Residual blocks of one resolution, then a change of size. resizers: what makes it, by its published name."""

    def __init__(self, channels: int, out: int, layers: int, groups: int, **resizers: nn.Module) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([ResnetBlock(channels if i == 0 else out, out, groups, EPS) for i in range(layers)])
        for name, resizer in resizers.items():
            setattr(self, name, nn.ModuleList([resizer]))

    def forward(self, x: Tensor) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x)
        for resample in (*getattr(self, "downsamplers", ()), *getattr(self, "upsamplers", ())):
            x = resample(x)
        return x


class Encoder(nn.Module):
    """Pictures (n, 3, h, w) in -1..1 to moments (n, 8, h / 8, w / 8)."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        inputs, layers = (widths[0], *widths[:-1]), config.layers_per_block
        resizers = [*({"downsamplers": Downsample(width, 0)} for width in widths[:-1]), {}]
        stages = zip(inputs, widths, resizers, strict=True)
        self.down_blocks = nn.ModuleList(VAEStage(a, b, layers, groups, **resizer) for a, b, resizer in stages)
        self.mid_block = VAEMidStage(widths[-1], groups)
        self.conv_norm_out = GroupNorm(groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for stage in self.down_blocks:
            x = stage(x)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x)), inplace=True))
        return out


class Decoder(nn.Module):
    """Latents (n, 4, h, w), already unscaled, to pictures (n, 3, 8 h, 8 w) in about -1..1.

    at_once: see `layers.in_parts`, of the stages from `LARGE` on.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.at_once = 0
        widths, groups = config.block_out_channels[::-1], config.norm_num_groups
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = VAEMidStage(widths[0], groups)
        inputs, layers = (widths[0], *widths[:-1]), config.layers_per_block + 1
        resizers = [*({"upsamplers": Upsample(width)} for width in widths[:-1]), {}]
        stages = zip(inputs, widths, resizers, strict=True)
        self.up_blocks = nn.ModuleList(VAEStage(a, b, layers, groups, **resizer) for a, b, resizer in stages)
        self.conv_norm_out = GroupNorm(groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], config.out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for stage in self.up_blocks[:LARGE]:
            x = stage(x)
        return in_parts(self._large, x, self.at_once)

    def _large(self, x: Tensor) -> Tensor:
        for stage in self.up_blocks[LARGE:]:
            x = stage(x)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(x), inplace=True))
        return out


class VAE(nn.Module):
    """Made with the published parameters, for a strict load (after `current_names`); `fold` turns it into what is called."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * config.latent_channels, 2 * config.latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)

    @torch.no_grad()
    def fold(self) -> VAE:
        """Rearrange the loaded weights: see `layers`. Afterwards the state dict is no longer the published one."""
        for part in list(self.modules()):
            if isinstance(part, (VAEAttention, Upsample)):
                part.fold()
        return self.requires_grad_(False).eval()

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures (n, 3, h, w) in -1..1 to scaled latents (n, 4, h / 8, w / 8): the mean of the posterior, so the same every time."""
        moments: Tensor = self.quant_conv(self.encoder(pictures))
        return moments.chunk(2, dim=1)[0] * self.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (n, 4, h, w) to pictures (n, 3, 8 h, 8 w) in about -1..1."""
        out: Tensor = self.decoder(self.post_quant_conv(latents / self.config.scaling_factor))
        return out

    forward = decode

    def options(self) -> dict[str, tuple[Any, ...]]:
        """Ways to decode that give the same pictures up to rounding, the plain one first; see `choose`."""
        return {"at_once": AT_ONCE}

    def choose(self, at_once: int = 0) -> None:
        self.decoder.at_once = at_once

    def decode_only(self) -> VAE:
        """Without the memory of the encoder; `encode` cannot be called any more."""
        del self.encoder, self.quant_conv
        return self

    def encode_faces(self, faces: Tensor) -> Tensor:
        """What the UNet is given of each face.

        Args:
            faces: RGB uint8 (n, 256, 256, 3).
        Returns:
            scaled latents (n, 8, 32, 32) float32: 0..3 of the face with its lower half black, 4..7 of the whole face.
        """
        pixels = faces.permute(0, 3, 1, 2).contiguous().float() / 255.0  # not channels last: see `networks._to_device`
        hidden = pixels.clone()
        hidden[:, :, pixels.shape[2] // 2 :] = 0.0  # before the normalisation, so black and not grey
        both = torch.cat([hidden, pixels]) * 2.0 - 1.0
        latents = self.encode(both.to(self.quant_conv.weight.dtype)).float()
        return torch.cat(latents.chunk(2), dim=1)


def to_bytes(pictures: Tensor) -> Tensor:
    """Pictures in -1..1 to whole numbers 0..255 in float32; halves go to the even neighbour."""
    return ((pictures.float() / 2 + 0.5).clamp(0, 1) * 255).round()
