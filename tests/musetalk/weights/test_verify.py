"""A file is condemned by its size or its sum alone; others are read, and named tensor by tensor where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import save_file  # noqa: E402

from configs.models import WeightsConfig  # noqa: E402
from musetalk.verify import verify  # noqa: E402
from musetalk.weights.catalogue import BY_NAME  # noqa: E402
from musetalk.weights.folder import FileState, WeightsFolder  # noqa: E402

TAESD = "taesd/diffusion_pytorch_model.safetensors"


def folder_with(tmp_path: Path, **config: bool) -> WeightsFolder:
    path = tmp_path / TAESD
    path.parent.mkdir()
    save_file({"decoder.layers.0.weight": torch.zeros(64, 4, 3, 3)}, path)
    path.with_name(f"{path.name}.sha256").write_text(f"{'0' * 64}  {path.name}\n")
    return WeightsFolder(WeightsConfig(uri=str(tmp_path), **config))


def test_a_sum_condemns_a_file_without_its_being_read(tmp_path: Path) -> None:
    verdict = verify(folder_with(tmp_path), BY_NAME[TAESD])
    assert verdict.status.state is FileState.DAMAGED
    assert "recorded one" in verdict.problem and "fit" not in verdict.problem


def test_files_of_the_users_own_are_read_whatever_their_sum(tmp_path: Path) -> None:
    verdict = verify(folder_with(tmp_path, unpublished=True), BY_NAME[TAESD])
    assert "recorded one" in verdict.problem and "does not fit" in verdict.problem


def test_a_file_that_nothing_condemns_is_read(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    (tmp_path / f"{TAESD}.sha256").unlink()
    seen: list[tuple[int, int | None]] = []
    verdict = verify(folder, BY_NAME[TAESD], lambda received, total: seen.append((received, total)))
    assert verdict.status.state is FileState.PRESENT and "does not fit" in verdict.problem and seen == []
