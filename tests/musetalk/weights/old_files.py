"""Writing the tar archives that PyTorch wrote before 0.1.10 and can still read."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch


def write_tar(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Three streams in a tar archive: the names, each tensor's shape and place, and the numbers."""
    storages, entries = io.BytesIO(), io.BytesIO()
    pickle.dump(len(state), storages, protocol=2)
    pickle.dump(len(state), entries, protocol=2)
    refs: OrderedDict[str, Any] = OrderedDict()
    kinds = {torch.float32: torch.FloatStorage, torch.float16: torch.HalfStorage, torch.int64: torch.LongStorage}
    for n, (name, tensor) in enumerate(state.items()):
        pickle.dump((1000 + n, "cpu", kinds[tensor.dtype]), storages, protocol=2)
        numbers = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
        storages.write(struct.pack("<q", numbers.numel()) + numbers.numpy().tobytes())
        pickle.dump((n, 1000 + n, torch.FloatTensor), entries, protocol=2)
        entries.write(
            struct.pack("<i4x", tensor.dim()) + struct.pack(f"<{2 * tensor.dim() + 1}q", *tensor.shape, *tensor.stride(), tensor.storage_offset())
        )
        refs[name] = Reference(n)
    pickle.dump([], storages, protocol=2)
    content = io.BytesIO()
    pickler = ReferencePickler(content, protocol=2)
    pickler.dump(refs)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in (("sys_info", b"sys"), ("pickle", content.getvalue()), ("tensors", entries.getvalue()), ("storages", storages.getvalue())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


class Reference:
    def __init__(self, key: int) -> None:
        self.key = key


class ReferencePickler(pickle.Pickler):
    def persistent_id(self, item: Any) -> Any:
        return str(item.key) if isinstance(item, Reference) else None
