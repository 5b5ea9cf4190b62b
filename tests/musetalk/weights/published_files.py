"""The published model files, generated: their formats, names and shapes, taken from other people's classes wherever there are any.

`flat` tensors have their full shapes and one number each in the file, so that a file is small; `full` ones have all their numbers.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from musetalk.neural.gfpgan import tensor_shapes
from tests.musetalk.faces.parser_weights import parser_weights
from tests.musetalk.neural.networks import _VAE_TYPES, FULL_UNET, FULL_VAE

State = dict[str, Tensor]
LEGACY = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def unet_shapes() -> State:
    diffusers = import_module("diffusers")
    with torch.device("meta"):
        return dict(diffusers.UNet2DConditionModel(sample_size=64, **FULL_UNET).state_dict())


def vae_shapes() -> State:
    """With the attention names of the published file, which is older than the class."""
    diffusers = import_module("diffusers")
    with torch.device("meta"):
        state = diffusers.AutoencoderKL(**FULL_VAE, **_VAE_TYPES).state_dict()
    renamed = {}
    for name, tensor in state.items():
        for new, old in LEGACY.items():
            name = name.replace(f"mid_block.attentions.0.{new}.", f"mid_block.attentions.0.{old}.")
        renamed[name] = tensor
    return renamed


def whisper_shapes() -> State:
    """The whole model: the decoder's tensors are in the file, too."""
    transformers = import_module("transformers")
    config = transformers.WhisperConfig(
        d_model=384,
        encoder_layers=4,
        encoder_attention_heads=6,
        encoder_ffn_dim=1536,
        decoder_layers=4,
        decoder_attention_heads=6,
        decoder_ffn_dim=1536,
    )
    with torch.device("meta"):
        return {f"model.{name}": tensor for name, tensor in transformers.WhisperModel(config).state_dict().items()}


def taesd_shapes() -> State:
    diffusers = import_module("diffusers")
    with torch.device("meta"):
        return dict(diffusers.AutoencoderTiny().state_dict())


def parser_shapes() -> State:
    return {name: tensor.to("meta") for name, tensor in parser_weights().items()}


def restorer_shapes() -> State:
    return {name: torch.empty(shape, device="meta") for name, shape in tensor_shapes().items()}


def save_zip(path: Path, state: State) -> None:
    torch.save(OrderedDict(state), path)


def save_stream(path: Path, state: State) -> None:
    torch.save(OrderedDict(state), path, _use_new_zipfile_serialization=False)


def save_wrapped(path: Path, state: State) -> None:
    torch.save({"params_ema": OrderedDict(state)}, path)


def save_safetensors(path: Path, state: State) -> None:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)


Shapes = Callable[[], State]
Save = Callable[[Path, State], None]
PUBLISHED: dict[str, tuple[str, Shapes, Save]] = {
    "unet": ("musetalkV15/unet.pth", unet_shapes, save_zip),
    "unet 1.0": ("musetalk/pytorch_model.bin", unet_shapes, save_stream),
    "vae": ("sd-vae/diffusion_pytorch_model.bin", vae_shapes, save_zip),
    "whisper": ("whisper/pytorch_model.bin", whisper_shapes, save_stream),
    "parser": ("face-parse-bisent/79999_iter.pth", parser_shapes, save_stream),
    "restorer": ("GFPGANv1.4.pth", restorer_shapes, save_wrapped),
    "taesd": ("taesd/diffusion_pytorch_model.safetensors", taesd_shapes, save_safetensors),
}


def flat(shapes: State) -> State:
    return {
        name: torch.zeros(1, dtype=like.dtype).expand(like.shape) if like.dim() else torch.zeros((), dtype=like.dtype)
        for name, like in shapes.items()
    }


def full(shapes: State, seed: int = 0) -> State:
    """Small random numbers. Normalisations get such, too: enough to load and to compute with."""
    made = torch.Generator().manual_seed(seed)
    return {
        name: torch.empty(like.shape).uniform_(-0.03, 0.03, generator=made) if like.is_floating_point() else torch.zeros(like.shape, dtype=like.dtype)
        for name, like in shapes.items()
    }


def write_json(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
