"""Every published format is read to the same tensors, nothing in a file runs, and what does not fit is named."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from museserve.errors import EngineUnavailableError, WeightsError

torch = pytest.importorskip("torch")
from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

from musetalk.weights.checkpoint import load_into, read_checkpoint  # noqa: E402


def tensors() -> OrderedDict[str, Any]:
    made = torch.Generator().manual_seed(0)
    return OrderedDict(
        {
            "a.weight": torch.randn(5, 3, generator=made),
            "a.bias": torch.randn(5, generator=made).half(),
            "bn.num_batches_tracked": torch.tensor(7),
            "empty": torch.zeros(0, 4),
        }
    )


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 5)
        self.bn = nn.BatchNorm1d(5)


def net_state() -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in Net().state_dict().items()}


def save_zip(path: Path, state: Any) -> None:
    torch.save(state, path)


def save_stream(path: Path, state: Any) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.pth", save_zip), ("a.bin", save_stream), ("a.safetensors", lambda path, state: save_file(state, path))],
)
def test_each_format_gives_the_same_tensors(tmp_path: Path, name: str, write: Any) -> None:
    state = tensors()
    write(tmp_path / name, state)
    read = read_checkpoint(tmp_path / name)
    assert set(read) == set(state)
    for key, tensor in state.items():
        assert read[key].dtype == tensor.dtype and torch.equal(read[key], tensor), key


@pytest.mark.parametrize("wrapper", ["state_dict", "params_ema", "model_state_dict"])
@pytest.mark.parametrize("write", [save_zip, save_stream])
def test_wrappers_are_taken_off(tmp_path: Path, wrapper: str, write: Any) -> None:
    write(tmp_path / "a.pth", {"dims": {"n_mels": 80}, "epoch": 3, wrapper: tensors()})
    assert set(read_checkpoint(tmp_path / "a.pth")) == set(tensors())


class Trap:
    """Unpickling it without care writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return (Path.write_text, (Path(self.path), "sprung"))


@pytest.mark.parametrize("write", [save_zip, save_stream])
def test_what_lies_beside_the_tensors_is_never_run(tmp_path: Path, write: Any) -> None:
    sprung = tmp_path / "sprung"
    write(tmp_path / "a.pth", {"state_dict": tensors(), "message_hub": [Trap(sprung), {"lr": {1: Trap(sprung)}}]})
    with pytest.raises(WeightsError, match="holds more than tensors .*getattr"):
        read_checkpoint(tmp_path / "a.pth")
    assert not sprung.exists()
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert sprung.exists(), "the trap does not work"


def test_parameters_and_views_come_as_plain_tensors(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    torch.save({"p": nn.Parameter(whole), "view": whole.T}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    read = read_checkpoint(tmp_path / "a.pth")
    assert type(read["p"]) is torch.Tensor and torch.equal(read["view"], whole.T) and not read["p"].requires_grad


@pytest.mark.parametrize(("name", "write"), [("unet.pth", save_zip), ("unet.pth", save_stream), ("unet.safetensors", None)])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.98])
def test_a_file_cut_short_says_so_and_how_to_mend_it(tmp_path: Path, name: str, write: Any, kept: float) -> None:
    path = tmp_path / "musetalkV15" / name
    path.parent.mkdir()
    state = {f"t{n}": torch.randn(40, 40) for n in range(6)}
    write(path, state) if write else save_file(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(WeightsError, match="empty|cut short") as raised:
        read_checkpoint(path)
    assert str(path) in str(raised.value)
    if name == "unet.pth":
        assert "museserve weights download --again musetalkV15/unet.pth" in str(raised.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "LFS pointer"),
        (bytes(range(256)) * 8, "no known format"),
        (pickle.dumps({"a": 1}, protocol=2), "format|no tensors"),
    ],
)
def test_what_is_no_model_is_called_by_its_name(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "GFPGANv1.4.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=says):
        read_checkpoint(tmp_path / "GFPGANv1.4.pth")


def test_a_missing_file_and_a_file_without_tensors(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match="No such file"):
        read_checkpoint(tmp_path / "unet.pth")
    torch.save({"epoch": 3}, tmp_path / "unet.pth")
    with pytest.raises(WeightsError, match="holds no tensors.*epoch"):
        read_checkpoint(tmp_path / "unet.pth")


def test_every_tensor_that_does_not_fit_is_named() -> None:
    state = net_state()
    del state["a.bias"]
    state["extra"] = torch.zeros(1)
    state["a.weight"] = torch.zeros(5, 4)
    state["bn.num_batches_tracked"] = torch.tensor(1.0)
    with pytest.raises(WeightsError) as raised:
        load_into(Net(), state, file="musetalkV15/unet.pth")
    message = str(raised.value)
    for part in (
        "1 missing: a.bias",
        "1 not part of this model: extra",
        r"a.weight (5, 4) where (5, 3)",
        "num_batches_tracked torch.float32 where torch.int64",
    ):
        assert part in message
    assert "weights download --again musetalkV15/unet.pth" in message


def test_long_lists_are_cut_with_their_count() -> None:
    with pytest.raises(WeightsError, match="30 not part of this model: .* and 22 more"):
        load_into(Net(), {**net_state(), **{f"x{n}": torch.zeros(1) for n in range(30)}}, file="f")


def test_loading_renames_ignores_and_takes_over_the_tensors() -> None:
    state = {f"old.{name}": tensor for name, tensor in net_state().items()} | {"head.w": torch.zeros(2)}
    with torch.device("meta"):
        net = Net()
    load_into(net, state, file="f", rename=lambda name: name.removeprefix("old."), ignore=lambda name: name.startswith("head."))
    assert net.a.weight.data_ptr() == state["old.a.weight"].data_ptr()
    assert not any(p.requires_grad or p.is_meta for p in net.parameters())


def test_two_names_for_one_tensor_are_an_error() -> None:
    with pytest.raises(WeightsError, match="1 double: a.bias"):
        load_into(Net(), {**net_state(), "b.bias": torch.zeros(5)}, file="f", rename=lambda name: name.replace("b.bias", "a.bias"))
