"""MuseTalk's networks with their published weights, ready to call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from museserve.errors import WeightsError
from museserve.weights.folder import WeightsFolder
from musetalk.faces.bisenet import BiSeNet, FaceParser
from musetalk.neural.layers import set_precision
from musetalk.neural.taesd import TinyDecoder, decoder_part
from musetalk.neural.unet import UNet, UNetConfig
from musetalk.neural.vae import VAE, VAEConfig, current_names
from musetalk.neural.whisper import WhisperEncoder
from musetalk.weights.checkpoint import load_into, read_checkpoint

Network = TypeVar("Network", bound=nn.Module)
Version = Literal["v15", "v1"]
UNETS: dict[Version, tuple[str, str]] = {
    "v15": ("musetalkV15/unet.pth", "musetalkV15/musetalk.json"),
    "v1": ("musetalk/pytorch_model.bin", "musetalk/musetalk.json"),
}
VAE_FILE, VAE_CONFIG = "sd-vae/diffusion_pytorch_model.bin", "sd-vae/config.json"
TAESD_FILE = "taesd/diffusion_pytorch_model.safetensors"
WHISPER_FILE = "whisper/pytorch_model.bin"
PARSER_FILE = "face-parse-bisent/79999_iter.pth"
DWPOSE_FILE = "dwpose/dw-ll_ucoco_384.onnx"
RESTORER_FILE = "GFPGANv1.4.pth"


def load_unet(weights: WeightsFolder, version: Version, device: torch.device, dtype: torch.dtype) -> UNet:
    """Raises WeightsError, ConfigError: its files are missing, damaged or of another network; what is wrong is named."""
    return _to_device(read_unet(weights, version).fold(), device, dtype)


def load_vae(weights: WeightsFolder, device: torch.device, dtype: torch.dtype) -> VAE:
    """Encoder and decoder. Raises as `load_unet`."""
    return _to_device(read_vae(weights).fold(), device, dtype)


def load_taesd(weights: WeightsFolder, device: torch.device, dtype: torch.dtype) -> TinyDecoder:
    """Raises as `load_unet`."""
    return _to_device(read_taesd(weights).fold(), device, dtype)


def published_taesd(weights: WeightsFolder, device: torch.device, dtype: torch.dtype) -> TinyDecoder:
    """Layer by layer as it is published, for who compares. Raises as `load_unet`."""
    return _to_device(read_taesd(weights).requires_grad_(False).eval(), device, dtype)


def load_parser(weights: WeightsFolder, device: str = "cpu") -> FaceParser:
    """Raises as `load_unet`."""
    return FaceParser(read_parser(weights), device)


# The published tensors in their own types, on the CPU. Those of zip archives and safetensors stay on the disk until somebody computes with them.


def read_unet(weights: WeightsFolder, version: Version) -> UNet:
    file, config = UNETS[version]
    with torch.device("meta"):
        unet = UNet(UNetConfig.parse(read_config(weights, config), config))
    load_into(unet, read_file(weights, file), file=file, mend=weights.repair_hint(file))
    return unet


def read_vae(weights: WeightsFolder) -> VAE:
    with torch.device("meta"):
        vae = VAE(VAEConfig.parse(read_config(weights, VAE_CONFIG), VAE_CONFIG))
    load_into(vae, current_names(read_file(weights, VAE_FILE)), file=VAE_FILE, mend=weights.repair_hint(VAE_FILE))
    return vae


def read_taesd(weights: WeightsFolder) -> TinyDecoder:
    state = decoder_part(read_file(weights, TAESD_FILE))
    first = state.get("layers.0.weight")
    if first is None:
        raise WeightsError(f"{TAESD_FILE} is no TAESD file: it has no tensor decoder.layers.0.weight")
    with torch.device("meta"):
        decoder = TinyDecoder(len(first))
    load_into(decoder, state, file=TAESD_FILE, mend=weights.repair_hint(TAESD_FILE))
    return decoder


def read_whisper(weights: WeightsFolder) -> WhisperEncoder:
    return WhisperEncoder.from_state(read_file(weights, WHISPER_FILE), WHISPER_FILE, weights.repair_hint(WHISPER_FILE))


def read_parser(weights: WeightsFolder) -> BiSeNet:
    with torch.device("meta"):
        parser = BiSeNet()
    load_into(parser, read_file(weights, PARSER_FILE), file=PARSER_FILE, mend=weights.repair_hint(PARSER_FILE))
    return parser


def read_file(weights: WeightsFolder, name: str) -> dict[str, Tensor]:
    """The tensors of a published file. Raises WeightsError."""
    return read_checkpoint(weights.path(name), weights.repair_hint(name))


def _to_device(network: Network, device: torch.device, dtype: torch.dtype) -> Network:
    """Convolutions take pictures with the channels last: half precision on tensor cores asks for it, and a CPU is faster so too.

    Not so the encoder on a CPU: half of what it sees is one black, and there PyTorch's GroupNorm loses digits in that layout.
    """
    set_precision(network, dtype)
    network.to(device=device)
    for name, part in network.named_modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d) and (device.type != "cpu" or not name.startswith("encoder.")):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def read_config(weights: WeightsFolder, name: str) -> dict[str, Any]:
    """The JSON beside the weights; empty without one, when they are taken to be the published network's."""
    if not weights.holds(name):
        return {}
    path = weights.path(name)
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise WeightsError(f"{path} holds no JSON object")
    return values
