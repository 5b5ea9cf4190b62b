"""Model files in the published layout and formats with weights from a seed, of the real size or tiny: for benchmarks, tests and trying out a machine.

    python -m benchmarks.generated_models FOLDER [--size tiny|full] [--version v15|v1]

They load as the published ones do, given `weights: {uri: FOLDER, unpublished: true}`; what they draw is noise.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from musetalk.faces.bisenet import BiSeNet
from musetalk.neural.networks import TAESD_FILE, UNETS, VAE_CONFIG, VAE_FILE, Version
from musetalk.neural.taesd import TinyDecoder
from musetalk.neural.unet import UNet, UNetConfig
from musetalk.neural.vae import LEGACY_ATTENTION, VAE, VAEConfig
from musetalk.neural.whisper import WhisperEncoder

Size = Literal["tiny", "full"]

UNET: dict[Size, dict[str, Any]] = {
    "full": {},
    "tiny": {"block_out_channels": (8, 16, 16, 16), "attention_head_dim": 2, "norm_num_groups": 4},
}
VAE_VALUES: dict[Size, dict[str, Any]] = {
    "full": {},
    "tiny": {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1},
}


def write_models(folder: Path, size: Size = "tiny", version: Version = "v15", seed: int = 0) -> None:
    """UNet with its description, VAE (legacy attention names), Whisper and TAESD, below `folder`."""
    torch.manual_seed(seed)
    unet_file, unet_description = UNETS[version]
    unet_config = UNetConfig.parse(UNET[size])
    _write_json(folder / unet_description, {"_class_name": "UNet2DConditionModel", **unet_config.model_dump(mode="json")})
    _save(UNet(unet_config).state_dict(), folder / unet_file)

    write_autoencoder(folder, size)

    layers = {} if size == "full" else {"hidden": 64}
    whisper = {f"model.encoder.{name}": tensor for name, tensor in WhisperEncoder(**layers).state_dict().items()}
    _save(whisper, folder / "whisper/pytorch_model.bin")

    taesd = {f"decoder.{name}": tensor for name, tensor in TinyDecoder(64 if size == "full" else 8).state_dict().items()}
    (folder / TAESD_FILE).parent.mkdir(parents=True, exist_ok=True)
    save_file(taesd, folder / TAESD_FILE)


def write_autoencoder(folder: Path, size: Size = "tiny") -> None:
    config = VAEConfig.parse(VAE_VALUES[size])
    _write_json(folder / VAE_CONFIG, {"_class_name": "AutoencoderKL", **config.model_dump(mode="json")})
    _save(legacy_names(VAE(config).state_dict()), folder / VAE_FILE)


def write_parser(folder: Path, seed: int = 0) -> None:
    """BiSeNet at its full and only size, in PyTorch's format from before 1.6, as it is published."""
    torch.manual_seed(seed)
    path = folder / "face-parse-bisent/79999_iter.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(BiSeNet().state_dict(), path, _use_new_zipfile_serialization=False)


def legacy_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The autoencoder's attention under the names that its published file has."""
    old = {new: name for name, new in LEGACY_ATTENTION.items()}
    renamed = {}
    for name, tensor in state.items():
        for new, legacy in old.items():
            name = name.replace(f"mid_block.attentions.0.{new}.", f"mid_block.attentions.0.{legacy}.")
        renamed[name] = tensor
    return renamed


def _save(state: dict[str, Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=("tiny", "full"), default="full")
    parser.add_argument("--version", choices=tuple(UNETS), default="v15")
    args = parser.parse_args()
    write_models(args.folder, args.size, args.version)


if __name__ == "__main__":
    main()
