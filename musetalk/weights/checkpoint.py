"""Reading model files of every published format, safely, and putting them into modules, strictly.

Formats: safetensors; PyTorch's zip archives; the streams that PyTorch wrote before 1.6, and its tar archives before 0.1.10. No pickle in them can run
code: PyTorch's own restricted reader takes the first three, and what it refuses is read again with one that knows tensors and ordered dictionaries
only and puts an inert stand-in wherever a file names anything else (training state that some published files carry along).
"""

from __future__ import annotations

import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from museserve.errors import WeightsError
from musetalk.weights.cut_short import cut_tensors
from musetalk.weights.folder import mending
from musetalk.weights.old_checkpoint import TensorsOnly, is_tar, read_tar

WRAPPERS = ("params_ema", "state_dict", "model_state_dict", "params")
UNREADABLE = (
    *(pickle.UnpicklingError, SafetensorError, tarfile.TarError, struct.error, RuntimeError, ValueError, EOFError, OSError),
    *(KeyError, TypeError, AttributeError, IndexError, OverflowError),
)
LISTED = 8  # names of each kind that an error lists


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pth, .pt, .bin or .safetensors file by name, on the CPU, in the file's own dtypes.

    A state dict under one of `WRAPPERS` is unwrapped; whatever lies beside the tensors is left out. Where the format allows it, tensors are
    mapped from the file and take memory only when they are read.

    Raises:
        WeightsError: the file is missing, cut short, damaged, of no known format, or holds no tensors.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}. To mend it: {mending(path)}") from None
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        content = read_tar(path) if is_tar(head) else _read_torch(path, zipped=head[:4] == b"PK\x03\x04")
    except WeightsError:
        raise
    except UNREADABLE as error:
        raise WeightsError(_unreadable(path, size, head, error)) from None
    tensors = _tensors(content)
    if not tensors:
        inside = ", ".join(map(str, list(content)[:LISTED])) if isinstance(content, Mapping) else type(content).__name__
        raise WeightsError(f"{path} holds no tensors by name (inside: {inside or 'nothing'}): it is not a model file that is known here")
    return tensors


def load_into(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    file: str,
    rename: Callable[[str], str] | None = None,
    ignore: Callable[[str], bool] | None = None,
) -> None:
    """Put the tensors into `module`, all of them and nothing else; build it on the meta device, so that nothing is held twice.

    The tensors themselves become the parameters, in their own dtypes: convert with `module.to(device, dtype)` afterwards. Gradients are off.

    Args:
        file: its published name, for the error ("musetalkV15/unet.pth").
        rename: the module's name of a tensor, from the file's. ignore: whether a tensor, by the file's name, is to be left out.
    Raises:
        WeightsError: names are missing, left over or double, or shapes or kinds of numbers differ; each is named, at most `LISTED` of a kind.
    """
    renamed: dict[str, Tensor] = {}
    double: list[str] = []
    for name, tensor in state.items():
        if ignore is not None and ignore(name):
            continue
        new = rename(name) if rename is not None else name
        if new in renamed:
            double.append(f"{new} (again as {name})")
        renamed[new] = tensor
    compare(renamed, module.state_dict(), file=file, double=double)
    module.load_state_dict(renamed, strict=True, assign=True)
    module.requires_grad_(False)


def compare(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, file: str, double: Sequence[str] = ()) -> None:
    """Whether the tensors are exactly those of a network, by name, shape and kind of number; `expected` may be on the meta device.

    Raises:
        WeightsError: as `load_into`.
    """
    wrong = {
        "missing": [name for name in expected if name not in state],
        "not part of this model": [name for name in state if name not in expected],
        "double": list(double),
        "of another shape": [
            f"{name} {_shape(state[name])} where {_shape(want)} is expected" for name, want in expected.items() if _differs(state.get(name), want)
        ],
        "of another kind of number": [
            f"{name} {state[name].dtype} where {want.dtype} is expected"
            for name, want in expected.items()
            if name in state and state[name].is_floating_point() != want.is_floating_point()
        ],
    }
    if any(wrong.values()):
        parts = "; ".join(f"{len(names)} {kind}: {listed(names)}" for kind, names in wrong.items() if names)
        raise WeightsError(f"{file} does not fit ({len(state)} tensors, {len(expected)} expected). {parts}. To mend it: {mending(file)}")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _read_torch(path: Path, zipped: bool) -> Any:
    """`mmap` exists only for the zip format; an older file is read into memory."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        if "Unsupported" not in str(error) and "WeightsUnpickler" not in str(error):
            raise
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=TensorsOnly, mmap=zipped)


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    return {name: tensor.detach() for name, tensor in content.items() if isinstance(name, str) and isinstance(tensor, Tensor)}


def _unreadable(path: Path, size: int, head: bytes, error: Exception) -> str:
    seen = f"{path} ({size:,} bytes) cannot be read"
    mend = f"To mend it: {mending(path)}"
    if size == 0:
        return f"{path} is empty. {mend}"
    if head.lstrip()[:1] == b"<":
        return f"{seen}: it holds a web page, not a model; the download got an error page or a login. {mend}"
    if head.startswith(b"version https://git-lfs"):
        return f"{seen}: it is a Git LFS pointer, not the model itself. {mend}"
    cut = cut_tensors(path)
    if cut:
        return f"{seen}: it was cut short, and {len(cut)} tensors are not whole: {listed(cut)}. {mend}"
    if head[:4] == b"PK\x03\x04" and not zipfile.is_zipfile(path):
        return f"{seen}: its end is missing, so it was cut short. {mend}"
    detail = (str(error).splitlines() or [""])[0][:200]
    return f"{seen}: it is cut short, damaged, or of no known format ({type(error).__name__}: {detail}). {mend}"


def _differs(got: Tensor | None, want: Tensor) -> bool:
    return got is not None and got.shape != want.shape


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"


def listed(names: list[str]) -> str:
    """The first `LISTED` of them, and how many more there are."""
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
