"""Named numpy arrays in one Arrow IPC file: uncompressed, so that a local file is mapped into memory and never copied.

Each array is a column of one `large_binary` row; its field metadata carries dtype and shape. Every process of a machine that
maps the same file shares the same pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

FORMAT = b"museserve-arrays-1"
KINDS = "biuf"  # bool, integers, floats: nothing that would need pickling


def to_bytes(arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Serialise to a `pyarrow.Buffer` that holds a whole IPC file.

    Raises:
        TypeError: an array is of objects, text or complex numbers.
    """
    fields, columns = [], []
    for name, array in arrays.items():
        array = np.asarray(array)
        if array.dtype.kind not in KINDS:
            raise TypeError(f"array {name!r} has dtype {array.dtype}; plain numbers are stored")
        flat = np.array(array, dtype=array.dtype.newbyteorder("<"), order="C", copy=None)
        data = pa.py_buffer(flat.reshape(-1).view(np.uint8))
        offsets = pa.py_buffer(np.array([0, flat.nbytes], np.int64))
        columns.append(pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, data]))
        shape = ",".join(map(str, array.shape))
        fields.append(pa.field(name, pa.large_binary(), nullable=False, metadata={"dtype": flat.dtype.str, "shape": shape}))
    schema = pa.schema(fields, metadata={"format": FORMAT})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    return sink.getvalue()


def from_buffer(buffer: Any) -> dict[str, NDArray[Any]]:
    """Read-only views into `buffer` (a `pyarrow.Buffer`, mapped or in memory), which they keep alive.

    Raises:
        ValueError: not such a file, or its parts contradict each other. `pyarrow.ArrowInvalid` is one too.
    """
    reader = pa.ipc.open_file(pa.BufferReader(buffer))
    if (reader.schema.metadata or {}).get(b"format") != FORMAT:
        raise ValueError("the Arrow file does not hold arrays of this project")
    if reader.num_record_batches != 1:
        raise ValueError(f"the Arrow file has {reader.num_record_batches} record batches where one is expected")
    batch = reader.get_batch(0)
    arrays: dict[str, NDArray[Any]] = {}
    for index, field in enumerate(reader.schema):
        dtype = np.dtype(field.metadata[b"dtype"].decode())
        shape = tuple(int(n) for n in field.metadata[b"shape"].decode().split(",") if n)
        data = batch.column(index).buffers()[2] or b""
        expected = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        if dtype.kind not in KINDS or len(data) < expected:
            raise ValueError(f"column {field.name!r} has {len(data)} bytes, {dtype} {shape} needs {expected}")
        array = np.frombuffer(data, dtype, count=expected // dtype.itemsize).reshape(shape)
        array.flags.writeable = False
        arrays[field.name] = array
    return arrays
