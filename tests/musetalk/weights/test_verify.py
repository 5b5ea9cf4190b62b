"""A file is condemned by its size or its sum alone; others are read, and named tensor by tensor where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from benchmarks.generated_models import write_models  # noqa: E402
from configs.models import WeightsConfig  # noqa: E402
from museserve.weights.catalogue import BY_NAME  # noqa: E402
from museserve.weights.folder import FileState, WeightsFolder  # noqa: E402
from musetalk.neural import networks  # noqa: E402
from musetalk.verify import verify  # noqa: E402

UNET = "musetalkV15/unet.pth"
UNKNOWN = "musetalk/pytorch_model.bin"  # whose published sum is not known here


def folder_with(tmp_path: Path, **config: bool) -> WeightsFolder:
    path = tmp_path / UNKNOWN
    path.parent.mkdir()
    torch.save({"conv_in.weight": torch.zeros(320, 8, 3, 3)}, path)
    path.with_name(f"{path.name}.sha256").write_text(f"{'0' * 64}  {path.name}\n")
    return WeightsFolder(WeightsConfig(uri=str(tmp_path), **config))


def test_a_sum_condemns_a_file_without_its_being_read(tmp_path: Path) -> None:
    verdict = verify(folder_with(tmp_path), BY_NAME[UNKNOWN])
    assert verdict.status.state is FileState.DAMAGED
    assert "recorded one" in verdict.problem and "fit" not in verdict.problem and f"download --again {UNKNOWN}" in verdict.problem


def test_a_file_that_nothing_condemns_is_read(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    (tmp_path / f"{UNKNOWN}.sha256").unlink()
    seen: list[tuple[int, int | None]] = []
    verdict = verify(folder, BY_NAME[UNKNOWN], lambda received, total: seen.append((received, total)))
    assert verdict.status.state is FileState.PRESENT and "does not fit" in verdict.problem and seen == []


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("own")
    write_models(path)
    return path


@pytest.mark.parametrize("name", [UNET, networks.VAE_FILE, networks.WHISPER_FILE, networks.TAESD_FILE])
def test_networks_of_the_users_own_are_held_against_their_description_alone(own: Path, name: str) -> None:
    verdict = verify(WeightsFolder(WeightsConfig(uri=str(own), unpublished=True)), BY_NAME[name])
    assert (verdict.status.state, verdict.problem) == (FileState.OWN, "")
    condemned = verify(WeightsFolder(str(own)), BY_NAME[name])
    assert condemned.status.state is FileState.PARTIAL and f"download --again {name}" in condemned.problem


def test_a_file_of_the_published_size_may_be_the_users_own(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (own / UNET).stat().st_size
    monkeypatch.setitem(BY_NAME, UNET, file := type(BY_NAME[UNET])(**{**vars(BY_NAME[UNET]), "bytes": size}))
    verdict = verify(WeightsFolder(WeightsConfig(uri=str(own), unpublished=True)), file)
    assert (verdict.status.state, verdict.problem) == (FileState.OWN, "")
    assert verify(WeightsFolder(str(own)), file).status.state is FileState.DAMAGED


@pytest.mark.parametrize("spoilt", ["short", "misshapen", "no archive"])
def test_what_is_wrong_in_a_file_of_the_users_own_is_named_and_never_overwritten(tmp_path: Path, spoilt: str) -> None:
    write_models(tmp_path)
    path = tmp_path / UNET
    if spoilt == "misshapen":
        torch.save({**torch.load(path), "conv_in.weight": torch.zeros(1)}, path)
    else:
        path.write_bytes(path.read_bytes()[:-1000] if spoilt == "short" else b"nothing")
    verdict = verify(WeightsFolder(WeightsConfig(uri=str(tmp_path), unpublished=True)), BY_NAME[UNET])
    assert verdict.status.state is FileState.OWN
    assert ("conv_in.weight (1) where (8, 8, 3, 3)" if spoilt == "misshapen" else "cannot be read") in verdict.problem
    assert "download" not in verdict.problem and "put a whole file of the same network" in verdict.problem
