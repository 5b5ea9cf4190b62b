"""A small ONNX network with DWPose's inputs and outputs whose keypoints stand around a coloured blob, so that geometry can be checked.

Keypoint k lies at the blob's middle plus `offsets[k]`, in pixels of the network's input. Its colour is that of `channels[k]`: 0 the first plane.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, HEIGHT, K = 288, 384, 133
REACH = 80  # pixels an offset may have


def pose_network(path: Path, offsets: np.ndarray, channels: np.ndarray, floor: float = 0.5) -> Path:
    """offsets: int (133, 2); channels: int (133,)."""
    taps = 4 * REACH + 1
    weights: dict[str, np.ndarray] = {}
    for axis, name in enumerate("xy"):
        kernel = np.zeros((K, 3, taps), np.float32)
        bump = np.exp(-0.5 * (np.arange(taps) - taps // 2)[None] ** 2 / 3.0**2)
        for k in range(K):
            kernel[k, channels[k]] = np.roll(bump[0], -2 * int(offsets[k, axis]))
        weights[f"kernel_{name}"] = kernel
        bins = 2 * (WIDTH, HEIGHT)[axis]
        spread = np.zeros((bins // 2, bins), np.float32)
        spread[np.arange(bins) // 2, np.arange(bins)] = 1.0
        weights[f"spread_{name}"] = spread
    weights["floor"] = np.array(floor, np.float32)
    weights["axis_x"], weights["axis_y"] = np.array([2]), np.array([3])
    nodes = [helper.make_node("Sub", ["input", "floor"], ["above"]), helper.make_node("Relu", ["above"], ["lit"])]
    for name in "xy":
        nodes += [
            helper.make_node("ReduceMean", ["lit", f"axis_{name}"], [f"sum_{name}"], keepdims=0),
            helper.make_node("MatMul", [f"sum_{name}", f"spread_{name}"], [f"wide_{name}"]),
            helper.make_node("Conv", [f"wide_{name}", f"kernel_{name}"], [f"simcc_{name}"], pads=[taps // 2, taps // 2], kernel_shape=[taps]),
        ]
    graph = helper.make_graph(
        nodes,
        "pose",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, HEIGHT, WIDTH])],
        [
            helper.make_tensor_value_info("simcc_x", TensorProto.FLOAT, ["n", K, 2 * WIDTH]),
            helper.make_tensor_value_info("simcc_y", TensorProto.FLOAT, ["n", K, 2 * HEIGHT]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def blob(width: int, height: int, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> np.ndarray:
    """An RGB picture, black but for a soft round spot."""
    yy, xx = np.mgrid[0:height, 0:width]
    strength = np.exp(-0.5 * ((xx - x) ** 2 + (yy - y) ** 2) / radius**2)
    return np.round(strength[..., None] * np.array(colour)).astype(np.uint8)
