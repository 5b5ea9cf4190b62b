"""Whether MuseTalk can run here, and what it lacks: known before anything is loaded."""

from __future__ import annotations

import importlib.util

from configs.models import AppConfig
from museserve.errors import EngineUnavailableError
from museserve.messages import MUSETALK
from musetalk.weights.report import missing_files


def check_choice(config: AppConfig) -> None:
    """What of `lipsync.engine` can be told without PyTorch, on the machine that serves: known in a moment, before anything is started.

    Raises:
        EngineUnavailableError: musetalk was asked for, and PyTorch or model files are missing.
    """
    if config.lipsync.engine == MUSETALK and (missing := _not_installed(config)):
        raise unmet("; ".join(missing))


def missing_for_musetalk(config: AppConfig, deployment: str = "lipsync") -> str:
    """What MuseTalk lacks on this machine and how to mend it, in one line; empty when it can run. Imports PyTorch only when all else is there."""
    options = config.lipsync.musetalk
    if found := _not_installed(config):
        return "; ".join(found)
    from musetalk.neural import device

    try:
        device.choose(options)
    except EngineUnavailableError as error:
        hidden = f"; deployments.{deployment}.num_gpus is 0, so a replica is shown no card: see configs/gpu.yaml"
        return f"{error}{'' if getattr(config.deployments, deployment).num_gpus else hidden}"
    return ""


def _not_installed(config: AppConfig) -> list[str]:
    torch = [] if importlib.util.find_spec("torch") else ["PyTorch is not installed (pip install 'museserve[gpu]')"]
    return torch + missing_files(config)


def unmet(missing: str) -> EngineUnavailableError:
    return EngineUnavailableError(f"lipsync.engine: musetalk was asked for, but {missing}; or set lipsync.engine to auto or animator")
