"""The networks of `unet` and `vae` with `kernels` between their convolutions and matrix products: same weights, same results, no compiler.

A convolution's bias is added by whatever reads its output next, the sum at the end of a residual block takes the moments of the norm after it, and a
norm is applied together with the SiLU that follows. Beyond what convolutions read and write, a block so reads or writes a picture eight times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from musetalk.neural import kernels
from musetalk.neural.kernels import Moments
from musetalk.neural.layers import in_parts
from musetalk.neural.taesd import RANGE, TinyDecoder, rectified_by_cudnn, through
from musetalk.neural.unet import UNet
from musetalk.neural.vae import LARGE, VAE


def fuse(unet: UNet, decode: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Latents (n, 8, 32, 32) and audio (n, 50, 384) to I420 uint8 (n, 384, 256), all on the card; networks as after `fold`."""

    def draw(latents: Tensor, audio: Tensor) -> Tensor:
        drawn = run_unet(unet, latents, unet.keys_values(audio))
        if isinstance(decode, VAE):
            return kernels.i420(*run_decoder(decode, drawn))
        if isinstance(decode, TinyDecoder):
            return kernels.i420(*run_tiny(decode, drawn))
        return kernels.i420(decode(drawn))

    return draw


def run_unet(unet: Any, latents: Tensor, keys_values: Tensor) -> Tensor:
    """As `UNet.forward`."""
    sound = unet.by_layer(keys_values)
    x = unet.conv_in(latents)
    seen = None  # the moments of x, where its last kernel took them
    kept = [x]
    for stage in unet.down_blocks:
        for block, attention in stage.pairs():
            x, seen = _attended(attention, *_resnet(block, x, seen), sound)
            kept.append(x)
        for downsample in getattr(stage, "downsamplers", ()):
            x, seen = downsample(x), None
            kept.append(x)
    first, last = unet.mid_block.resnets
    x, seen = _attended(unet.mid_block.attentions[0], *_resnet(first, x, seen), sound)
    x, seen = _resnet(last, x, seen)
    for stage in unet.up_blocks:
        for block, attention in stage.pairs():
            x = torch.cat([x, kept.pop()], dim=1)
            x, seen = _attended(attention, *_resnet(block, x, None), sound)
        for upsample in getattr(stage, "upsamplers", ()):
            x, seen = upsample(x), None
    out: Tensor = unet.conv_out(kernels.group_norm(x, unet.conv_norm_out, seen))
    return out


def run_decoder(vae: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    """As `VAE.decode`, but for the last bias, which is given beside the pictures."""
    decoder = vae.decoder
    x = decoder.conv_in(vae.post_quant_conv(latents / vae.config.scaling_factor))
    first, last = decoder.mid_block.resnets
    x, seen = _resnet(first, x, None)
    x, seen = _resnet(last, *_over_places(decoder.mid_block.attentions[0], x, seen))
    x, seen, owed = _enlarged(decoder.up_blocks[:LARGE], x, seen, None)

    def large(x: Tensor) -> Tensor:
        x, seen, _ = _enlarged(decoder.up_blocks[LARGE:], x, None, owed)
        return _bare(decoder.conv_out, kernels.group_norm(x, decoder.conv_norm_out, seen))

    return in_parts(large, x, decoder.at_once), decoder.conv_out.bias


def _enlarged(stages: Any, x: Tensor, seen: Moments | None, owed: Tensor | None) -> tuple[Tensor, Moments | None, Tensor | None]:
    """As `vae.VAEStage.forward` of several; with the moments of the result, where they are known, and the bias that it still lacks."""
    for stage in stages:
        for block in stage.resnets:
            x, seen = _resnet(block, x, seen, owed)
            owed = None
        for upsample in getattr(stage, "upsamplers", ()):
            x = F.conv_transpose2d(x, upsample.conv.weight, None, stride=2, padding=1)
            seen, owed = None, upsample.conv.bias
    return x, seen, owed


def run_tiny(tiny: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    """As `TinyDecoder.forward`, but for the last bias, which is given beside the pictures."""
    first, last = tiny.layers[0], tiny.layers[-1]
    rectified = rectified_by_cudnn if tiny.inside else _rectified
    x = through(tiny.layers[2 : tiny.large], rectified(first, torch.tanh(latents / RANGE) * RANGE), rectified)

    def large(x: Tensor) -> Tensor:
        return _bare(last, through(tiny.layers[tiny.large : -1], x, rectified))

    return in_parts(large, x, tiny.at_once) * 2, last.bias * 2 - 1


def _rectified(conv: Any, x: Tensor, skip: Tensor | None = None) -> Tensor:
    """As `taesd.rectified`."""
    return kernels.relu(_bare(conv, x), conv.bias, skip)


def _resnet(block: Any, x: Tensor, seen: Moments | None, owed: Tensor | None = None) -> tuple[Tensor, Moments | None]:
    """As `ResnetBlock.forward`, and the moments of that. `seen`: those of x; `owed`: a bias (c,) that x still lacks."""
    h = _bare(block.conv1, kernels.group_norm(x, block.norm1, seen, owed))
    h = _bare(block.conv2, kernels.group_norm(h, block.norm2, bias=block.conv1.bias))
    bias, skip = block.conv2.bias, x
    if block.conv_shortcut is not None:
        weight = block.conv_shortcut.weight.flatten(1)
        skip = _pictures(F.linear(_tokens(x), weight, block.conv_shortcut.bias), h)
        owed = None if owed is None else F.linear(owed, weight)
    return kernels.add(h, bias if owed is None else bias + owed, skip)


def _attended(attention: Any, x: Tensor, seen: Moments | None, sound: Iterator[Tensor]) -> tuple[Tensor, Moments | None]:
    """As `Transformer.forward`."""
    if attention is None:
        return x, seen
    tokens = _tokens(kernels.group_norm(x, attention.norm, seen, silu=False))
    tokens = F.linear(tokens, attention.proj_in.weight.flatten(1), attention.proj_in.bias)
    tokens = _transformed(attention.transformer_blocks[0], tokens, next(sound))
    tokens = F.linear(tokens, attention.proj_out.weight.flatten(1))
    return kernels.add(x, attention.proj_out.bias, _pictures(tokens, x))


def _transformed(block: Any, x: Tensor, keys_values: Tensor) -> Tensor:
    """As `TransformerBlock.forward`."""
    x, normed = kernels.add_layer_norm(x, block.attn1(kernels.layer_norm(x, block.norm1)), block.norm2)
    x, normed = kernels.add_layer_norm(x, block.attn2(normed, keys_values), block.norm3)
    gated, _, project = block.ff.net
    return x.add_(project(kernels.gated(gated.proj(normed))))


def _over_places(attention: Any, x: Tensor, seen: Moments | None) -> tuple[Tensor, Moments | None]:
    """As `VAEAttention.forward`."""
    tokens = attention.attend(_tokens(kernels.group_norm(x, attention.group_norm, seen, silu=False)))
    return kernels.add(x, None, _pictures(tokens, x))


def _bare(conv: Any, x: Tensor) -> Tensor:
    """A 3x3 convolution without its bias."""
    return F.conv2d(x, conv.weight, None, padding=1)


def _tokens(x: Tensor) -> Tensor:
    """A picture (n, c, h, w) with the channels last as (n, h * w, c), without a copy."""
    return x.flatten(2).transpose(1, 2)


def _pictures(tokens: Tensor, like: Tensor) -> Tensor:
    return tokens.transpose(1, 2).reshape(like.shape)
