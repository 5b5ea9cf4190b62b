"""PyTorch files that PyTorch's own restricted reader does not take: tar archives of before 0.1.10, and files with other objects beside the tensors.

`TensorsOnly` stands in for the `pickle` module: it finds tensors' classes and `OrderedDict`, and an inert stand-in for everything else, so that no
name in a file ever leads to code.
"""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch._utils import _rebuild_parameter, _rebuild_tensor, _rebuild_tensor_v2

DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Inert:
    """Takes the place of an object that is not wanted; swallows whatever the file says about it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        return self

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...

    def add(self, item: Any) -> None: ...

    def __hash__(self) -> int:
        return id(self)


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): torch.Size,
    **{("torch", name): dtype for name, dtype in DTYPES.items()},
}


class TensorUnpickler(pickle.Unpickler):
    """Nothing outside `_KNOWN` is found, so nothing outside it can be called."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        return _KNOWN.get((module_name, global_name), Inert)


class TensorsOnly:
    """What `torch.load(pickle_module=...)` asks of a module."""

    Unpickler = TensorUnpickler

    @staticmethod
    def load(file: BinaryIO, **options: Any) -> Any:
        return TensorUnpickler(file, **options).load()


def is_tar(head: bytes) -> bool:
    """head: at least the first 262 bytes."""
    return head[257:262] == b"ustar"


def read_tar(path: Path) -> Any:
    """A tar-era checkpoint: members `storages`, `tensors` and `pickle`, each a stream of pickles and raw numbers.

    Raises:
        KeyError, EOFError, ValueError, struct.error, pickle.UnpicklingError, tarfile.TarError: cut short or damaged.
    """
    with tarfile.open(path, "r:") as archive:
        parts = {name: _member(archive, name) for name in ("storages", "tensors", "pickle")}
    objects: dict[int, Any] = {}
    read_storages(parts["storages"], objects)
    _read_tensors(parts["tensors"], objects)

    class Unpickler(TensorUnpickler):
        def persistent_load(self, saved_id: Any) -> Any:
            # A tuple is a container's class with its source code; the state dict is a plain one.
            return saved_id[0] if isinstance(saved_id, tuple) else objects[int(saved_id)]

    return Unpickler(parts["pickle"]).load()


def _member(archive: tarfile.TarFile, name: str) -> io.BytesIO:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(f"member {name} is not a file")
    return io.BytesIO(file.read())


def read_storages(stream: io.BytesIO, objects: dict[int, Any]) -> None:
    """Each: a pickle (key, location, class), then int64 count and the numbers. Then the views: (key, key of the whole, offset, count)."""
    for _ in range(_whole(stream)):
        key, _location, dtype = TensorUnpickler(stream).load()
        if not isinstance(dtype, torch.dtype):
            raise ValueError("a storage of no known kind of number")
        (count,) = struct.unpack("<q", _exactly(stream, 8))
        raw = _exactly(stream, count * dtype.itemsize)
        objects[int(key)] = torch.frombuffer(bytearray(raw), dtype=dtype) if count else torch.empty(0, dtype=dtype)
    for key, root, offset, count in TensorUnpickler(stream).load():
        objects[int(key)] = objects[int(root)][offset : offset + count]


def _read_tensors(stream: io.BytesIO, objects: dict[int, Any]) -> None:
    for key, storage, numbers in read_tensor_entries(stream):
        flat: Tensor = objects[storage]
        n_dims = len(numbers) // 2
        objects[key] = torch.as_strided(flat, numbers[:n_dims], numbers[n_dims:-1], flat.storage_offset() + numbers[-1])


def read_tensor_entries(stream: io.BytesIO) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Key of each tensor, key of its storage, and its sizes, strides and offset.

    Each is a pickle (key, key of its storage, class), then int32 number of dimensions, 4 unused bytes, int64 sizes, strides and offset.
    """
    for _ in range(_whole(stream)):
        key, storage, _kind = TensorUnpickler(stream).load()
        (n_dims,) = struct.unpack("<i4x", _exactly(stream, 8))
        if not 0 <= n_dims <= 16:
            raise ValueError(f"a tensor of {n_dims} dimensions")
        yield int(key), int(storage), struct.unpack(f"<{2 * n_dims + 1}q", _exactly(stream, 8 * (2 * n_dims + 1)))


def _whole(stream: io.BytesIO) -> int:
    count = TensorUnpickler(stream).load()
    if not isinstance(count, int) or not 0 <= count < 1_000_000:
        raise ValueError(f"{count!r} where the number of entries is expected")
    return count


def _exactly(stream: io.BytesIO, n: int) -> bytes:
    data = stream.read(n) if n >= 0 else b""
    if len(data) != n:
        raise EOFError(f"{len(data):,} bytes where {n:,} are expected")
    return data
