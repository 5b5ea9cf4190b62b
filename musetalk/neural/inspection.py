"""What is inside a model file: each is read by the loader that the service uses, and named tensor by tensor where it does not fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from museserve.errors import WeightsError
from musetalk.faces.dwpose import HEIGHT, WIDTH, DWPose
from musetalk.neural.gfpgan import tensor_shapes
from musetalk.neural.networks import (
    PARSER_FILE,
    TAESD_FILE,
    UNETS,
    VAE_CONFIG,
    VAE_FILE,
    WHISPER_FILE,
    read_config,
    read_parser,
    read_taesd,
    read_unet,
    read_vae,
    read_whisper,
)
from musetalk.neural.unet import UNetConfig
from musetalk.neural.vae import VAEConfig
from musetalk.weights.catalogue import BY_NAME
from musetalk.weights.checkpoint import check_state_dict, read_checkpoint
from musetalk.weights.folder import WeightsFolder, repair_hint

POSE_FILE = "dwpose/dw-ll_ucoco_384.onnx"
RESTORER_FILE = "GFPGANv1.4.pth"


def check_file(weights: WeightsFolder, name: str) -> None:
    """Read one published file of a local folder. Takes little memory where the format can be mapped, else as much as the file.

    Raises:
        WeightsError, ConfigError: it is missing or damaged, or tensors are missing, left over or of another shape; each is named.
    """
    LOADERS[name](weights)


def _read_pose(weights: WeightsFolder) -> None:
    """ONNX Runtime sees some shapes only when it computes, so it is given a black frame."""
    path = weights.path(POSE_FILE)
    try:
        DWPose(path).keypoints(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise WeightsError(f"{path}: {error}. {repair_hint(POSE_FILE)}") from None


def _read_restorer(weights: WeightsFolder) -> None:
    expected = {name: torch.empty(shape, device="meta") for name, shape in tensor_shapes().items()}
    check_state_dict(read_checkpoint(weights.path(RESTORER_FILE)), expected, file=RESTORER_FILE)


LOADERS: dict[str, Callable[[WeightsFolder], object]] = {
    **{file: partial(read_unet, version=version) for version, (file, _) in UNETS.items()},
    **{name: lambda weights, name=name: UNetConfig.parse(read_config(weights, name), name) for _, name in UNETS.values()},  # type: ignore[misc]
    VAE_FILE: read_vae,
    VAE_CONFIG: lambda weights: VAEConfig.parse(read_config(weights, VAE_CONFIG), VAE_CONFIG),
    TAESD_FILE: read_taesd,
    WHISPER_FILE: read_whisper,
    "whisper/config.json": partial(read_config, name="whisper/config.json"),
    PARSER_FILE: read_parser,
    POSE_FILE: _read_pose,
    RESTORER_FILE: _read_restorer,
}
assert LOADERS.keys() == BY_NAME.keys()
