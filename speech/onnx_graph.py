"""Opening a voice's ONNX file with an inner tensor as one more output: the durations, which the files compute but do not give out."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from errors import EngineUnavailableError

# Protobuf field numbers of onnx.proto3.
_MODEL_GRAPH = 7
_GRAPH_OUTPUT = 12
_VALUE_NAME = 1
_VALUE_TYPE = 2
_TYPE_TENSOR = 1
_TENSOR_ELEMENT = 1
_FLOAT = 1


def with_output(model: bytes, tensor: str) -> bytes:
    """The serialised ModelProto with the float tensor named `tensor` appended to its graph's outputs.

    Two serialised protobuf messages in a row read as one: inner messages are merged and repeated fields joined. So a second
    ModelProto that holds nothing but one graph output is all that has to be appended.
    """
    element = _varint(_TENSOR_ELEMENT << 3) + _varint(_FLOAT)
    value = _field(_VALUE_NAME, tensor.encode()) + _field(_VALUE_TYPE, _field(_TYPE_TENSOR, element))
    return model + _field(_MODEL_GRAPH, _field(_GRAPH_OUTPUT, value))


def open_session(path: str | Path, tensor: str, threads: int) -> ort.InferenceSession:
    """A CPU session whose last output is the inner tensor `tensor`.

    Raises:
        EngineUnavailableError: the file cannot be read, is not ONNX, or has no such tensor.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Waiting threads would spin on a core that the renderer needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        model = with_output(Path(path).read_bytes(), tensor)
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except OSError as error:
        raise EngineUnavailableError(f"cannot read the voice {Path(path).name}: {error.strerror}") from None
    except Exception as error:  # onnxruntime's own classes share no base but Exception
        raise EngineUnavailableError(f"{Path(path).name} is not a voice with durations at {tensor!r}: {error}") from error


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload
