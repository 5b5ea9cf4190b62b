"""Reading model files of every published format, safely, and putting them into modules, strictly.

Formats: safetensors; PyTorch's zip archives, and the streams that it wrote before 1.6. Pickles are read by PyTorch's
restricted reader alone, so nothing in a file can run. It refuses the tar archives of before 0.1.10; no published file
is one, since those are whole blocks of 512 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from museserve.errors import WeightsError
from museserve.weights.folder import repair_hint

WRAPPERS = ("params_ema", "state_dict", "model_state_dict", "params")
LISTED = 8  # names of each kind that an error lists


def read_checkpoint(path: Path, mend: str = "") -> dict[str, Tensor]:
    """The tensors of a .pth, .pt, .bin or .safetensors file by name, on the CPU, in the file's own dtypes.

    A state dict under one of `WRAPPERS` is unwrapped; whatever lies beside the tensors is left out. Where the format allows it, tensors are
    mapped from the file and take memory only when they are read.

    mend: what an error advises; empty = to download the published file again.

    Raises:
        WeightsError: the file is missing, cut short, damaged, of no known format, or holds no tensors.
    """
    head = b""
    try:
        with path.open("rb") as file:
            head = file.read(512)
        if path.suffix == ".safetensors":
            return load_file(path)
        # Only zip archives can be mapped; an older file is read into memory.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=head[:4] == b"PK\x03\x04")
    except Exception as error:  # the readers raise almost any kind on damaged bytes
        raise WeightsError(f"{path} cannot be read: {_reason(head, error)}. {mend or repair_hint(path)}") from None
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
    mend: str = "",
    rename: Callable[[str], str] | None = None,
    ignore: Callable[[str], bool] | None = None,
) -> None:
    """Put the tensors into `module`, all of them and nothing else; build it on the meta device, so that nothing is held twice.

    The tensors themselves become the parameters, in their own dtypes: convert with `module.to(device, dtype)` afterwards. Gradients are off.

    Args:
        file: its published name, for the error ("musetalkV15/unet.pth"). mend: as for `read_checkpoint`.
        rename: the module's name of a tensor, from the file's. ignore: whether a tensor, by the file's name, is to be left out.
    Raises:
        WeightsError: names are missing, left over or duplicated, or shapes or kinds of numbers differ;
            each is named, at most `LISTED` of a kind.
    """
    renamed: dict[str, Tensor] = {}
    duplicates: list[str] = []
    for name, tensor in state.items():
        if ignore is not None and ignore(name):
            continue
        new = rename(name) if rename is not None else name
        if new in renamed:
            duplicates.append(f"{new} (again as {name})")
        renamed[new] = tensor
    check_state_dict(renamed, module.state_dict(), file=file, mend=mend, duplicates=duplicates)
    module.load_state_dict(renamed, strict=True, assign=True)
    module.requires_grad_(False)


def check_state_dict(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, file: str, mend: str = "", duplicates: Sequence[str] = ()
) -> None:
    """Compare the tensors with a network's by name, shape and kind of number; `expected` may be on the meta device.

    Raises:
        WeightsError: as `load_into`.
    """
    wrong = {
        "missing": [name for name in expected if name not in state],
        "not part of this model": [name for name in state if name not in expected],
        "double": list(duplicates),
        "of another shape": [
            f"{name} {_shape(state[name])} where {_shape(want)} is expected"
            for name, want in expected.items()
            if name in state and state[name].shape != want.shape
        ],
        "of another kind of number": [
            f"{name} {state[name].dtype} where {want.dtype} is expected"
            for name, want in expected.items()
            if name in state and state[name].is_floating_point() != want.is_floating_point()
        ],
    }
    if any(wrong.values()):
        parts = "; ".join(f"{len(names)} {kind}: {_listed(names)}" for kind, names in wrong.items() if names)
        counts = f"{len(state)} tensors, {len(expected)} expected"
        raise WeightsError(f"{file} does not fit ({counts}). {parts}. {mend or repair_hint(file)}")


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    return {name: tensor.detach() for name, tensor in content.items() if isinstance(name, str) and isinstance(tensor, Tensor)}


def _reason(head: bytes, error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:  # it could not be opened
        return str(error.strerror)
    if head.lstrip()[:1] == b"<":
        return "it holds a web page, not a model; the download got an error page or a login"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the model itself"
    # The first sentence; what PyTorch adds is advice to read the file unrestricted.
    detail = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0].partition(". ")[0][:200]
    kind = type(error).__name__
    return f"it is empty, cut short, damaged, of no known format, or holds more than tensors ({kind}: {detail})"


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"


def _listed(names: list[str]) -> str:
    """The first `LISTED` of them, and how many more there are."""
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
