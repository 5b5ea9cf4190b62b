"""Opening part of a voice's ONNX file: its durations, which it does not give out, and a network in several parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort
from onnx import ModelProto, TensorProto, load_model_from_string
from onnx.helper import make_tensor_value_info
from onnx.utils import Extractor

from museserve.errors import EngineUnavailableError

# What an axis of height 1 adds before each value of a convolution's attributes.
_HEIGHT = {"kernel_shape": 1, "dilations": 1, "strides": 1, "pads": 0, "output_padding": 0}


class Network:
    """A voice's ONNX file, read once and opened in parts."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """`threads`: of each part.

        Raises:
            EngineUnavailableError: the file cannot be read or is not ONNX.
        """
        self._name, self._threads = path.name, threads
        try:
            self.model = load_model_from_string(path.read_bytes())
        except OSError as error:
            raise EngineUnavailableError(f"cannot read the voice {path.name}: {error.strerror}") from None
        except Exception as error:  # which class depends on protobuf's implementation
            raise EngineUnavailableError(f"{path.name} is not the voice that was expected: {error}") from error

    def open(self, outputs: Sequence[str], inputs: Sequence[str] = (), *, tall: bool = False) -> ort.InferenceSession:
        """A CPU session of the part that `cut` describes, with `heighten` applied when `tall`.

        Raises:
            EngineUnavailableError: the network has no such tensors, or cannot be run.
        """
        try:
            part = cut(self.model, outputs, inputs)
            if tall:
                heighten(part)
            return ort.InferenceSession(part.SerializeToString(), _options(self._threads), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes share no base but Exception
            raise EngineUnavailableError(f"{self._name} is not the voice that was expected: {error}") from error


def open_whole(path: Path, inputs: Sequence[str], threads: int = 1) -> ort.InferenceSession:
    """A CPU session of a file as it is, read by onnxruntime itself, so that a large one is not held twice.

    Raises:
        EngineUnavailableError: it cannot be read, or does not take exactly `inputs`.
    """
    try:
        session = ort.InferenceSession(str(path), _options(threads), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes share no base but Exception
        raise EngineUnavailableError(f"{path.name} cannot be opened: {str(error).splitlines()[0][:200]}") from error
    found = sorted(given.name for given in session.get_inputs())
    if found != sorted(inputs):
        raise EngineUnavailableError(f"{path.name} is not the voice that was expected: it takes {', '.join(found)}, not {', '.join(sorted(inputs))}")
    return session


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False  # it keeps the most that any sentence ever took; without it a run costs one part in thirty more
    # Waiting threads would spin on a core that the renderer needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def cut(model: ModelProto, outputs: Sequence[str], inputs: Sequence[str] = ()) -> ModelProto:
    """A copy of the part of `model` that computes the tensors `outputs` from its inputs and the inner tensors `inputs`.

    Inner tensors must be float32. They are declared anew in `model`, without a shape, because `heighten` changes it.
    Graphs inside nodes (If, Loop) are not looked into.

    Raises:
        ValueError: `model` computes no such tensor.
    """
    computed = {name for node in model.graph.node for name in node.output}
    for name in (*outputs, *inputs):
        if name not in computed:
            raise ValueError(f"no tensor {name!r} is computed in it")
        # The last declaration of a name counts.
        model.graph.value_info.append(make_tensor_value_info(name, TensorProto.FLOAT, None))
    part = Extractor(model).extract_model([*(given.name for given in model.graph.input), *inputs], list(outputs))
    taken = {name for node in part.graph.node for name in node.input}
    unused = [given for given in part.graph.input if given.name not in taken]
    for given in unused:
        part.graph.input.remove(given)
    del part.graph.value_info[:]
    return part


def heighten(model: ModelProto) -> None:
    """Make each convolution of `model` over n one over (1, n): tensors (1, channels, n) become (1, channels, 1, n).

    onnxruntime has its fastest kernels, which keep eight channels side by side, for two-dimensional convolutions alone.
    """
    convolutions = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    for node in convolutions:
        for attribute in node.attribute:
            if attribute.name in _HEIGHT:
                attribute.ints[:] = [number for value in attribute.ints for number in (_HEIGHT[attribute.name], value)]
    kernels = {node.input[1] for node in convolutions}
    for initializer in model.graph.initializer:
        if initializer.name in kernels:
            initializer.dims.insert(len(initializer.dims) - 1, 1)
