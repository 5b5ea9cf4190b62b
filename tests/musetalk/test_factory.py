"""The ladder: which engine runs, and that the reason is told."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from configs.models import AppConfig, parse_config
from museserve.errors import EngineUnavailableError
from musetalk.avatars.store import AvatarStore
from musetalk.choice import check_choice
from musetalk.factory import load_engine
from musetalk.weights.report import weights_report


def config(folder: Path, **lipsync: Any) -> AppConfig:
    return parse_config({"weights": {"uri": str(folder), "unpublished": True}, "lipsync": lipsync})


@pytest.fixture
def store(tmp_path: Path) -> AvatarStore:
    return AvatarStore(str(tmp_path / "avatars"))


def test_auto_without_weights_animates_and_says_why(tmp_path: Path, store: AvatarStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    engine = load_engine(config(tmp_path), store)
    assert engine.info.name == "animator"
    assert "musetalkV15/unet.pth" in engine.info.reason and "museserve weights download --for v15" in engine.info.reason
    (told,) = [record for record in caplog.records if "MuseTalk cannot run" in record.message]
    assert told.levelname == ("WARNING" if importlib.util.find_spec("torch") else "INFO")  # without PyTorch nobody expects anything else


def test_auto_without_pytorch_says_so(tmp_path: Path, store: AvatarStore, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else find(name, *a))
    assert "PyTorch is not installed" in load_engine(config(tmp_path), store).info.reason


def test_musetalk_by_name_is_an_error_where_it_cannot_run(tmp_path: Path, store: AvatarStore) -> None:
    with pytest.raises(EngineUnavailableError, match="model files are missing.*weights download --for v1.*set lipsync.engine to auto"):
        load_engine(config(tmp_path, engine="musetalk", musetalk={"version": "v1"}), store)


def test_what_is_missing_is_known_before_anything_starts(tmp_path: Path, models: Path) -> None:
    with pytest.raises(EngineUnavailableError, match="musetalk was asked for, but model files are missing"):
        check_choice(config(tmp_path, engine="musetalk"))
    check_choice(config(tmp_path))
    check_choice(config(models, engine="musetalk"))


def test_the_animator_by_name_looks_for_nothing(tmp_path: Path, store: AvatarStore) -> None:
    assert load_engine(config(tmp_path, engine="animator"), store).info.reason == "configured"


def test_missing_and_present_files_are_counted(tmp_path: Path) -> None:
    assert weights_report(config(tmp_path))["taesd"] == "1 of 1 files missing"
    (tmp_path / "taesd").mkdir()
    (tmp_path / "taesd/diffusion_pytorch_model.safetensors").write_bytes(b"x")
    assert weights_report(config(tmp_path))["taesd"] == "present"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    from benchmarks.generated_models import write_models

    path: Path = tmp_path_factory.mktemp("models")
    write_models(path)
    parser = path / "face-parse-bisent/79999_iter.pth"
    parser.parent.mkdir()
    parser.write_bytes(b"not read here")
    return path


def test_auto_without_a_card_says_so(models: Path, store: AvatarStore) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a card")
    reason = load_engine(config(models), store).info.reason
    assert "no CUDA device" in reason and "configs/gpu.yaml" in reason and "\n" not in reason


def test_the_cpu_by_name_draws_with_musetalk(models: Path, store: AvatarStore) -> None:
    engine = load_engine(config(models, engine="musetalk", musetalk={"device": "cpu", "threads": 1}), store)
    assert (engine.info.name, engine.info.reason, engine.info.device) == ("musetalk", "configured", "cpu")


def test_a_damaged_file_is_told_by_auto_and_an_error_by_name(models: Path, store: AvatarStore, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "models"
    shutil.copytree(models, broken)
    unet = broken / "musetalkV15/unet.pth"
    unet.write_bytes(unet.read_bytes()[:-1000])
    cpu = {"device": "cpu", "threads": 1}
    engine = load_engine(config(broken, musetalk=cpu), store)
    assert engine.info.name == "animator" and "unet.pth" in engine.info.reason and str(broken) not in engine.info.reason
    with pytest.raises(EngineUnavailableError, match="unet.pth"):
        load_engine(config(broken, engine="musetalk", musetalk=cpu), store)
