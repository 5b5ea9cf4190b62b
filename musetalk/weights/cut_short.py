"""Which tensors of a model file that was cut short are not whole. Names and places stand before the numbers in every format, so they can be told."""

from __future__ import annotations

import io
import json
import mmap
import pickle
import struct
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from musetalk.weights.old_checkpoint import TensorUnpickler, is_tar, read_storages, read_tensor_entries

WRAPPED = 2  # state dicts lie at most so deep


@dataclass(frozen=True)
class Stored:
    """Where a tensor's numbers are: the key of its storage, and the bytes of that."""

    key: str
    bytes: int


class PlacesOnly(TensorUnpickler):
    """Finds where each tensor's numbers are instead of the numbers."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if module_name == "torch._utils" and global_name.startswith("_rebuild_"):
            return lambda stored, *_: stored
        return super().find_class(module_name, global_name)

    def persistent_load(self, saved_id: Any) -> Any:
        if not isinstance(saved_id, tuple) or len(saved_id) < 5:
            return None
        _, dtype, key, _, count = saved_id[:5]
        return Stored(str(key), count * dtype.itemsize if isinstance(dtype, torch.dtype) else 0)


def cut_tensors(path: Path) -> list[str]:
    """Names of the tensors that are not whole, in the file's order; none when nothing is missing, or when that cannot be told."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if path.suffix == ".safetensors":
                return _of_safetensors(data)
            if path.suffix == ".onnx":
                return _of_onnx(data)
            if data[:4] == b"PK\x03\x04":
                return _of_zip(data)
            return _of_tar(path) if is_tar(data[:512]) else _of_stream(data)
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, IndexError, struct.error, pickle.UnpicklingError, tarfile.TarError):
        return []


def _of_safetensors(data: mmap.mmap) -> list[str]:
    (length,) = struct.unpack("<Q", data[:8])
    entries = {name: entry for name, entry in json.loads(data[8 : 8 + length]).items() if name != "__metadata__"}
    return [name for name, entry in entries.items() if 8 + length + entry["data_offsets"][1] > len(data)]


def _of_zip(data: mmap.mmap) -> list[str]:
    """PyTorch writes the pickle first and then a record for each storage, without their sizes in front of them."""
    start, _ = _record(data, 0)
    places = dict(_named(PlacesOnly(io.BytesIO(data[start:])).load()))
    sizes = {stored.key: stored.bytes for stored in places.values()}
    whole: set[str] = set()
    at = start
    while (at := data.find(b"PK\x03\x04", at)) >= 0:
        begin, name = _record(data, at)
        folder, _, key = name.rpartition("/")
        if folder.endswith("/data") and key in sizes:
            if begin + sizes[key] <= len(data):
                whole.add(key)
            begin += sizes[key]
        at = begin
    return [name for name, stored in places.items() if stored.key not in whole]


def _record(data: mmap.mmap, at: int) -> tuple[int, str]:
    """Where the content of the record begins whose header is at `at`, and its name."""
    name_length, extra_length = struct.unpack("<HH", data[at + 26 : at + 30])
    return at + 30 + name_length + extra_length, data[at + 30 : at + 30 + name_length].decode()


def _of_stream(data: mmap.mmap) -> list[str]:
    """Four pickles, of which the last is the state dict, the order of the storages, and each with its count in front of it."""
    stream = io.BytesIO(data)
    content: Any = None
    for _ in range(4):
        content = PlacesOnly(stream).load()
    places = dict(_named(content))
    sizes = {stored.key: stored.bytes for stored in places.values()}
    whole: set[str] = set()
    try:
        order = TensorUnpickler(stream).load()
    except (EOFError, IndexError, pickle.UnpicklingError):
        order = []
    at = stream.tell()
    for key in order:
        at += 8 + sizes.get(str(key), 0)
        if at <= len(data):
            whole.add(str(key))
    return [name for name, stored in places.items() if stored.key not in whole]


def _of_tar(path: Path) -> list[str]:
    with tarfile.open(path, "r:") as archive, path.open("rb") as file:
        members: dict[str, io.BytesIO] = {}
        for member in archive:  # reading stops where the file does
            file.seek(member.offset_data)
            members[member.name] = io.BytesIO(file.read(member.size))
            if "storages" in members:
                break

    class Keys(TensorUnpickler):
        def persistent_load(self, saved_id: Any) -> Any:
            return saved_id[0] if isinstance(saved_id, tuple) else Stored(str(saved_id), 0)

    storages: dict[int, Any] = {}
    try:
        read_storages(members["storages"], storages)
    except (EOFError, IndexError, pickle.UnpicklingError):
        pass
    storage_of = {key: storage for key, storage, _ in read_tensor_entries(members["tensors"])}
    return [name for name, stored in _named(Keys(members["pickle"]).load()) if storage_of.get(int(stored.key)) not in storages]


def _of_onnx(data: mmap.mmap) -> list[str]:
    """What the nodes take in and neither a node puts out nor a whole tensor holds. The nodes stand before the tensors."""
    taken: dict[str, None] = {}
    made: set[str] = set()
    for field, begin, end in _fields(data, 0, len(data)):
        if field != 7:  # the graph
            continue
        for part, at, stop in _fields(data, begin, min(end, len(data))):
            if part == 1:  # a node: 1 its inputs, 2 its outputs
                for kind, a, b in _fields(data, at, stop):
                    if kind == 1 and b > a:
                        taken[data[a:b].decode()] = None
                    elif kind == 2:
                        made.add(data[a:b].decode())
            elif part in (5, 11):  # a tensor, or a value that is put in from outside; their names are in fields 8 and 1
                named = [data[a:b].decode() for kind, a, b in _fields(data, at, min(stop, len(data))) if kind == {5: 8, 11: 1}[part]]
                made |= set(named) if stop <= len(data) else set()
    return [name for name in taken if name not in made and name != "input"]


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Protocol buffers' fields of a message: number, and where the content begins and ends, which may be behind the end of `data`."""
    while at < end:
        key, at = _number(data, at)
        length = {1: 8, 5: 4}.get(key & 7, 0)
        if key & 7 == 2:
            length, at = _number(data, at)
        elif key & 7 == 0:
            _, after = _number(data, at)
            length = after - at
        yield key >> 3, at, at + length
        at += length


def _number(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _named(content: Any, depth: int = 0) -> Iterator[tuple[str, Stored]]:
    """The tensors by name, of a state dict or of one inside."""
    if not isinstance(content, Mapping):
        return
    for name, value in content.items():
        if isinstance(value, Stored):
            yield str(name), value
        elif depth < WRAPPED:
            yield from _named(value, depth + 1)
