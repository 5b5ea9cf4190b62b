"""A lip-sync deployment whose engine writes down what it draws, and fails when a file in the folder `FAULTS` says so.

batches       a line for each batch: its utterances and its frames
memory        as if the memory held so many frames at once
lost-<pid>    as if the card of this replica were gone
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from deployments import lipsync
from museserve.errors import DeviceLostError
from musetalk.factory import load_engine
from musetalk.neural import renderer
from tests.faulty_service import FAULTS


def load_faulty(config: Any, store: Any) -> Any:
    engine: Any = load_engine(config, store)
    folder = Path(os.environ[FAULTS])
    memory, lost = folder / "memory", folder / f"lost-{os.getpid()}"
    render, decode = engine.render, engine._renderer._decode

    def noted(requests: Any) -> Any:
        with (folder / "batches").open("a") as file:
            file.write(f"{len({r.utterance for r in requests})} {sum(r.n_frames for r in requests)}\n")
        return render(requests)

    def failing(latents: Any) -> Any:
        if lost.exists():
            raise RuntimeError("CUDA error: unspecified launch failure")
        if memory.exists() and len(latents) > int(memory.read_text()):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(latents)

    def probe(device: Any) -> None:
        if lost.exists():
            raise DeviceLostError("the card is lost: unspecified launch failure; the replica must be replaced")

    engine.render, engine._renderer._decode = noted, failing
    pytest.MonkeyPatch().setattr(renderer, "probe", probe)
    return engine


class LipSync(lipsync.LipSync):
    def __init__(self, config: Any) -> None:
        super().__init__(config, load_faulty)
