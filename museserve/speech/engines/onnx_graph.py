"""Opening part of a voice's ONNX file: the durations, which the files compute but do not give out, and a network in several parts.

The file is taken apart at the level of protobuf fields, so the `onnx` package is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import onnxruntime as ort

from museserve.errors import EngineUnavailableError

# Protobuf field numbers of onnx.proto3.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_VALUE_INFO = 1, 5, 11, 12, 13
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_NUMBERS = 1, 8
_INITIALIZER_SIDES, _INITIALIZER_NAME = 1, 8
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR, _TENSOR_ELEMENT, _FLOAT = 1, 1, 1


def cut(model: bytes, outputs: Sequence[str], inputs: Sequence[str] = ()) -> bytes:
    """The part of a serialised ModelProto that computes the tensors `outputs` from its own inputs and the inner tensors `inputs`.

    Inner tensors must be float32. Graphs inside nodes (If, Loop) are not looked into.

    Raises:
        ValueError: the bytes are no ModelProto, or it has no such tensor.
    """
    head, graph = bytearray(), memoryview(b"")
    for number, value, raw in _fields(memoryview(model)):
        if number == _MODEL_GRAPH:
            graph = value
        else:
            head += raw
    parts = [(number, value, raw, _names(number, value)) for number, value, raw in _fields(graph)]
    makers = {name: (raw, takes) for number, _, raw, (takes, gives) in parts if number == _GRAPH_NODE for name in gives}
    needed = _needed(makers, outputs, inputs)
    kept = bytearray()
    known: dict[str, memoryview] = {}  # inputs and outputs as they are declared
    for number, _, raw, (_, gives) in parts:
        if number in (_GRAPH_INPUT, _GRAPH_OUTPUT):
            known[gives[0]] = raw
        if number == _GRAPH_NODE and needed.isdisjoint(set(gives) - set(inputs)):
            continue
        if number in (_GRAPH_INITIALIZER, _GRAPH_INPUT) and gives[0] not in needed:
            continue
        if number not in (_GRAPH_OUTPUT, _GRAPH_VALUE_INFO):
            kept += raw
    for name in inputs:
        kept += _field(_GRAPH_INPUT, _float_tensor(name))
    for name in outputs:
        kept += known[name] if name in known else _field(_GRAPH_OUTPUT, _float_tensor(name))
    return bytes(head) + _field(_MODEL_GRAPH, bytes(kept))


def heightened(model: bytes) -> bytes:
    """The same network with each convolution over n made one over (1, n); its tensors are (1, channels, 1, n) instead of (1, channels, n).

    onnxruntime has its fastest kernels, which keep eight channels side by side, for two-dimensional convolutions alone.
    """
    head, graph = bytearray(), memoryview(b"")
    for number, value, raw in _fields(memoryview(model)):
        if number == _MODEL_GRAPH:
            graph = value
        else:
            head += raw
    fields = list(_fields(graph))
    kernels = {_names(number, value)[0][1] for number, value, _ in fields if number == _GRAPH_NODE and _is_convolution(value)}
    changed = bytearray()
    for number, value, raw in fields:
        if number == _GRAPH_NODE and _is_convolution(value):
            changed += _field(_GRAPH_NODE, b"".join(_heightened_attribute(part) for part in _fields(value)))
        elif number == _GRAPH_INITIALIZER and _names(number, value)[1][0] in kernels:
            sides = [bytes(part) for field, _, part in _fields(value) if field == _INITIALIZER_SIDES]
            rest = [bytes(part) for field, _, part in _fields(value) if field != _INITIALIZER_SIDES]
            changed += _field(_GRAPH_INITIALIZER, b"".join([*sides[:-1], _number(_INITIALIZER_SIDES, 1), sides[-1], *rest]))
        else:
            changed += raw
    return bytes(head) + _field(_MODEL_GRAPH, bytes(changed))


def open_part(path: Path, outputs: Sequence[str], inputs: Sequence[str] = (), threads: int = 1, *, tall: bool = False) -> ort.InferenceSession:
    """A CPU session of the part that `cut` describes, `heightened` when `tall`.

    Raises:
        EngineUnavailableError: the file cannot be read, is not ONNX, or has no such tensors.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False  # it keeps the most that any sentence ever took; without it a run costs one part in thirty more
    # Waiting threads would spin on a core that the renderer needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        part = cut(path.read_bytes(), outputs, inputs)
        return ort.InferenceSession(heightened(part) if tall else part, options, providers=["CPUExecutionProvider"])
    except OSError as error:
        raise EngineUnavailableError(f"cannot read the voice {path.name}: {error.strerror}") from None
    except Exception as error:  # onnxruntime's own classes share no base but Exception
        raise EngineUnavailableError(f"{path.name} is not the voice that was expected: {error}") from error


def _needed(makers: dict[str, tuple[memoryview, list[str]]], outputs: Sequence[str], inputs: Sequence[str]) -> set[str]:
    """Names of all tensors on the way to `outputs`, without `inputs` and what only they need."""
    for name in (*outputs, *inputs):
        if name not in makers:
            raise ValueError(f"no tensor {name!r} is computed in it")
    needed: set[str] = set()
    open_names = list(outputs)
    while open_names:
        name = open_names.pop()
        if name not in needed and name not in inputs:
            needed.add(name)
            open_names += makers[name][1] if name in makers else []
    return needed


def _is_convolution(node: memoryview) -> bool:
    return any(field == _NODE_OPERATOR and bytes(content) in (b"Conv", b"ConvTranspose") for field, content, _ in _fields(node))


def _heightened_attribute(part: tuple[int, memoryview, memoryview]) -> bytes:
    """An attribute of a convolution with the value for a height of 1 before each value it has; other parts of the node as they are."""
    number, value, raw = part
    if number != _NODE_ATTRIBUTE:
        return bytes(raw)
    name = next(bytes(content) for field, content, _ in _fields(value) if field == _ATTRIBUTE_NAME)
    first = {b"kernel_shape": 1, b"dilations": 1, b"strides": 1, b"pads": 0, b"output_padding": 0}.get(name)
    fields = b"".join(
        (_number(_ATTRIBUTE_NUMBERS, first) if field == _ATTRIBUTE_NUMBERS and first is not None else b"") + bytes(item)
        for field, _, item in _fields(value)
    )
    return _field(_NODE_ATTRIBUTE, fields)


def _names(number: int, value: memoryview) -> tuple[list[str], list[str]]:
    """Tensors that a part of the graph takes and gives."""
    takes: list[str] = []
    gives: list[str] = []
    if number not in (_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT):
        return takes, gives
    name_field = _INITIALIZER_NAME if number == _GRAPH_INITIALIZER else _VALUE_NAME
    for field, content, _ in _fields(value):
        if number == _GRAPH_NODE and field == _NODE_INPUT:
            takes.append(bytes(content).decode())
        elif (field == _NODE_OUTPUT) if number == _GRAPH_NODE else (field == name_field):
            gives.append(bytes(content).decode())
    return takes, gives


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """(field number, content, the field with its tag) of a message; the content of a number is its bytes."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == 2:
            length, at = _read_varint(message, at)
        elif kind == 0:
            length = _read_varint(message, at)[1] - at
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError("it is not a protobuf message")
        if at + length > len(message):
            raise ValueError("it is cut short")
        yield tag >> 3, message[at : at + length], message[start : at + length]
        at += length


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at
    raise ValueError("it is cut short")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _float_tensor(name: str) -> bytes:
    """A ValueInfoProto without a shape."""
    element = _varint(_TENSOR_ELEMENT << 3) + _varint(_FLOAT)
    return _field(_VALUE_NAME, name.encode()) + _field(_VALUE_TYPE, _field(_TYPE_TENSOR, element))
