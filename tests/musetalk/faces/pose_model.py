"""DWPose's network as an ONNX file of the published size: RTMPose-l with normalisation folded into the convolutions, weights from a seed.

Source: mmpose's configuration rtmpose-l_8xb32-270e_coco-ubody-wholebody-384x288, CSPNeXt and RTMCCHead (Apache-2.0); written anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, HEIGHT, K = 288, 384, 133
STAGES = ((128, 3, True), (256, 6, True), (512, 6, True), (1024, 3, False))  # channels, blocks, whether blocks add their input


class Graph:
    def __init__(self, seed: int, flat: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self._random, self._flat = np.random.default_rng(seed), flat

    def weight(self, name: str, *shape: int, scale: float = 1.0) -> str:
        values = np.zeros(shape, np.float32) if self._flat else self._random.standard_normal(shape, np.float32) * np.float32(scale)
        self.weights[name] = values
        return name

    def constant(self, value: float | list[int], name: str) -> str:
        self.weights[name] = np.array(value, np.int64 if isinstance(value, list) else np.float32)
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        out = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], name=f"{out} of {', '.join(inputs[1:])}", **attributes))
        return out

    def silu(self, x: str) -> str:
        return self.op("Mul", x, self.op("Sigmoid", x))

    def conv(self, x: str, name: str, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True) -> str:
        weight = self.weight(f"{name}.weight", c_out, c_in // groups, kernel, kernel, scale=(2 / (c_in // groups * kernel**2)) ** 0.5)
        bias = self.weight(f"{name}.bias", c_out, scale=0.01)
        out = self.op("Conv", x, weight, bias, strides=[stride] * 2, pads=[kernel // 2] * 4, kernel_shape=[kernel] * 2, group=groups)
        return self.silu(out) if act else out

    def linear(self, x: str, name: str, c_in: int, c_out: int) -> str:
        return self.op("MatMul", x, self.weight(f"{name}.weight", c_in, c_out, scale=c_in**-0.5))

    def scale_norm(self, x: str, name: str, width: int) -> str:
        length = self.op("ReduceL2", x, "last", keepdims=1)
        norm = self.op("Max", self.op("Mul", length, self.constant(width**-0.5, f"{name}.scale")), "eps")
        return self.op("Mul", self.op("Div", x, norm), self.weight(f"{name}.g", 1))


def _csp(g: Graph, x: str, name: str, c: int, blocks: int, add: bool) -> str:
    main, short = g.conv(x, f"{name}.main_conv", c, c // 2), g.conv(x, f"{name}.short_conv", c, c // 2)
    for n in range(blocks):
        block = f"{name}.blocks.{n}"
        y = g.conv(main, f"{block}.conv1", c // 2, c // 2, 3)
        y = g.conv(y, f"{block}.conv2.depthwise_conv", c // 2, c // 2, 5, groups=c // 2)
        y = g.conv(y, f"{block}.conv2.pointwise_conv", c // 2, c // 2)
        main = g.op("Add", main, y) if add else y
    joined = g.op("Concat", main, short, axis=1)
    attention = g.conv(g.op("GlobalAveragePool", joined), f"{name}.attention.fc", c, c, act=False)
    gated = g.op("Mul", joined, g.op("HardSigmoid", attention, alpha=1 / 6))
    return g.conv(gated, f"{name}.final_conv", c, c)


def _spp(g: Graph, x: str, name: str, c: int) -> str:
    x = g.conv(x, f"{name}.conv1", c, c // 2)
    pooled = [g.op("MaxPool", x, kernel_shape=[k, k], pads=[k // 2] * 4, strides=[1, 1]) for k in (5, 9, 13)]
    return g.conv(g.op("Concat", x, *pooled, axis=1), f"{name}.conv2", 2 * c, c)


def _gated_attention(g: Graph, x: str) -> str:
    wide = g.silu(g.linear(g.scale_norm(x, "head.gau.ln", 256), "head.gau.uv", 256, 1152))
    g.constant([512, 512, 128], "parts")
    u, v, base = (f"gau_{part}" for part in "uvb")
    g.nodes.append(helper.make_node("Split", [wide, "parts"], [u, v, base], axis=-1))
    q, k = (g.op("Add", g.op("Mul", base, g.weight(f"head.gau.gamma.{n}", 128)), g.weight(f"head.gau.beta.{n}", 128, scale=0.01)) for n in range(2))
    scores = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 2, 1]))
    kernel = g.op("Relu", g.op("Mul", scores, g.constant(128**-0.5, "head.gau.scale")))
    attended = g.op("Mul", u, g.op("MatMul", g.op("Mul", kernel, kernel), v))
    return g.op("Add", g.linear(attended, "head.gau.o", 512, 256), g.op("Mul", x, g.weight("head.gau.res_scale.scale", 256)))


def pose_model(seed: int = 0, flat: bool = False) -> onnx.ModelProto:
    """flat: all weights are zero."""
    g = Graph(seed, flat)
    g.constant([-1], "last"), g.constant(1e-5, "eps")
    x = g.conv("input", "backbone.stem.0", 3, 32, 3, 2)
    x = g.conv(g.conv(x, "backbone.stem.1", 32, 32, 3), "backbone.stem.2", 32, 64, 3)
    before = 64
    for n, (c, blocks, add) in enumerate(STAGES, 1):
        name = f"backbone.stage{n}"
        x = g.conv(x, f"{name}.0", before, c, 3, 2)
        if n == len(STAGES):
            x = _spp(g, x, f"{name}.1", c)
        x = _csp(g, x, f"{name}.{2 if n == len(STAGES) else 1}", c, blocks, add)
        before = c
    x = g.conv(x, "head.final_layer", before, K, 7, act=False)
    x = g.op("Reshape", x, g.constant([0, 0, -1], "flattened"))
    x = g.linear(g.scale_norm(x, "head.mlp.0", 108), "head.mlp.1", 108, 256)
    x = _gated_attention(g, x)
    for axis, bins in (("x", 2 * WIDTH), ("y", 2 * HEIGHT)):
        weight = g.weight(f"head.cls_{axis}.weight", 256, bins, scale=1 / 16)
        g.nodes.append(helper.make_node("MatMul", [x, weight], [f"simcc_{axis}"]))
    graph = helper.make_graph(
        g.nodes,
        "dwpose",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, HEIGHT, WIDTH])],
        [
            helper.make_tensor_value_info(f"simcc_{axis}", TensorProto.FLOAT, ["batch", K, bins])
            for axis, bins in (("x", 2 * WIDTH), ("y", 2 * HEIGHT))
        ],
        [numpy_helper.from_array(value, name) for name, value in g.weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def save_pose(path: Path, model: onnx.ModelProto) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path
