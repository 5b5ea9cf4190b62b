"""What is inside a model file: each is read by the loader that the service uses, and named tensor by tensor where it does not fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from museserve.errors import WeightsError
from museserve.weights.catalogue import BY_NAME, VOICES
from museserve.weights.folder import WeightsFolder
from musetalk.faces.dwpose import HEIGHT, WIDTH, DWPose
from musetalk.neural import networks
from musetalk.neural.gfpgan import tensor_shapes
from musetalk.neural.unet import UNetConfig
from musetalk.neural.vae import VAEConfig
from musetalk.weights.checkpoint import check_state_dict


def check_file(weights: WeightsFolder, name: str) -> None:
    """Read one published file of a local folder. Takes little memory where the format can be mapped, else as much as the file.

    Raises:
        WeightsError, ConfigError: it is missing or damaged, or tensors are missing, left over or of another shape; each is named.
    """
    LOADERS[name](weights)


def _read_pose(weights: WeightsFolder) -> None:
    """ONNX Runtime sees some shapes only when it computes, so it is given a black frame."""
    path = weights.path(networks.DWPOSE_FILE)
    try:
        DWPose(path).keypoints(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise WeightsError(f"{path}: {error}. {weights.repair_hint(networks.DWPOSE_FILE)}") from None


def _read_restorer(weights: WeightsFolder) -> None:
    expected = {name: torch.empty(shape, device="meta") for name, shape in tensor_shapes().items()}
    name = networks.RESTORER_FILE
    check_state_dict(networks.read_file(weights, name), expected, file=name, mend=weights.repair_hint(name))


def _read_unet_config(weights: WeightsFolder, name: str) -> None:
    UNetConfig.parse(networks.read_config(weights, name), name)


def _read_vae_config(weights: WeightsFolder) -> None:
    VAEConfig.parse(networks.read_config(weights, networks.VAE_CONFIG), networks.VAE_CONFIG)


LOADERS: dict[str, Callable[[WeightsFolder], object]] = {
    **{file: partial(networks.read_unet, version=version) for version, (file, _) in networks.UNETS.items()},
    **{name: partial(_read_unet_config, name=name) for _, name in networks.UNETS.values()},
    networks.VAE_FILE: networks.read_vae,
    networks.VAE_CONFIG: _read_vae_config,
    networks.TAESD_FILE: networks.read_taesd,
    networks.WHISPER_FILE: networks.read_whisper,
    "whisper/config.json": partial(networks.read_config, name="whisper/config.json"),
    networks.PARSER_FILE: networks.read_parser,
    networks.DWPOSE_FILE: _read_pose,
    networks.RESTORER_FILE: _read_restorer,
}
assert LOADERS.keys() == BY_NAME.keys() - {file.name for file in VOICES}
