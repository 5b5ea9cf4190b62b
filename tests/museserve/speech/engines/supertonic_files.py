"""Supertonic's files, generated: graphs with the published inputs, outputs and shapes, that make a real sound of the length they tell.

The length is `LETTER_S` for each letter. What the letters are becomes how loud a tone is, moment by moment: so two texts sound differently, and the
letters lie in time where a voice would have them.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from museserve.weights.catalogue import SUPERTONIC

RATE, CHUNK, FACTOR, LATENT = 44_100, 512, 6, 24
LETTER_S = 0.06
CHANNELS, HOP = LATENT * FACTOR, CHUNK * FACTOR
STYLE_TTL, STYLE_DP = (1, 50, 256), (1, 8, 16)
FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def _values(**arrays: object) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()]


def _model(nodes: list[onnx.NodeProto], inputs: list[tuple], outputs: list[tuple], values: list[onnx.TensorProto]) -> onnx.ModelProto:
    given, made = ([helper.make_tensor_value_info(*each) for each in side] for side in (inputs, outputs))
    model = helper.make_model(helper.make_graph(nodes, "generated", given, made, values), opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


IDS, MASK = ("text_ids", INT, [1, "t"]), ("text_mask", FLOAT, [1, 1, "t"])
TTL, DP = ("style_ttl", FLOAT, list(STYLE_TTL)), ("style_dp", FLOAT, list(STYLE_DP))


def duration_predictor() -> onnx.ModelProto:
    """`LETTER_S` a letter, times the mean of the style."""
    node = helper.make_node
    nodes = [
        node("ReduceSum", ["text_mask", "last_two"], ["letters"], keepdims=0),
        node("Mul", ["letters", "letter_s"], ["plain"]),
        node("ReduceMean", ["style_dp", "last_two"], ["pace"], keepdims=0),
        node("Mul", ["plain", "pace"], ["paced"]),
        node("Cast", ["text_ids"], ["numbers"], to=FLOAT),
        node("ReduceSum", ["numbers"], ["sum"], keepdims=0),
        node("Mul", ["sum", "nothing"], ["zero"]),
        node("Add", ["paced", "zero"], ["duration"]),
    ]
    values = _values(last_two=np.asarray([1, 2]), letter_s=np.float32(LETTER_S), nothing=np.float32(0.0))
    return _model(nodes, [IDS, DP, MASK], [("duration", FLOAT, [1])], values)


def text_encoder() -> onnx.ModelProto:
    """A loudness for each letter, in all channels, times the mean of the style."""
    node = helper.make_node
    nodes = [
        node("Cast", ["text_ids"], ["numbers"], to=FLOAT),
        node("Sin", ["numbers"], ["waves"]),
        node("Mul", ["waves", "spread"], ["spreading"]),
        node("Add", ["spreading", "middle"], ["loud"]),
        node("Unsqueeze", ["loud", "axis"], ["row"]),
        node("Mul", ["row", "text_mask"], ["masked"]),
        node("ReduceMean", ["style_ttl", "last_two"], ["timbre"], keepdims=1),
        node("Mul", ["masked", "timbre"], ["styled"]),
        node("Expand", ["styled", "channels"], ["text_emb"]),
    ]
    values = _values(
        spread=np.float32(0.2), middle=np.float32(0.3), axis=np.asarray([1]), last_two=np.asarray([1, 2]), channels=np.asarray([1, 256, 1])
    )
    return _model(nodes, [IDS, TTL, MASK], [("text_emb", FLOAT, [1, 256, "t"])], values)


def vector_estimator() -> onnx.ModelProto:
    """A step from where it is to the letters' loudness, as much as is left of the way: the last step arrives."""
    node = helper.make_node
    nodes = [
        node("ReduceMean", ["text_emb", "channel_axis"], ["row"], keepdims=1),
        node("Shape", ["latent_mask"], ["size"]),
        node("Resize", ["row", "", "", "size"], ["stretched"], mode="linear"),
        node("Mul", ["stretched", "latent_mask"], ["target_row"]),
        node("Expand", ["target_row", "channels"], ["target"]),
        node("Sub", ["target", "noisy_latent"], ["way"]),
        node("Sub", ["total_step", "current_step"], ["left"]),
        node("Div", ["way", "left"], ["step"]),
        node("Add", ["noisy_latent", "step"], ["moved"]),
        node("ReduceSum", ["text_mask"], ["letters"], keepdims=0),
        node("ReduceSum", ["style_ttl"], ["style"], keepdims=0),
        node("Add", ["letters", "style"], ["both"]),
        node("Mul", ["both", "nothing"], ["zero"]),
        node("Add", ["moved", "zero"], ["denoised_latent"]),
    ]
    inputs = [
        ("noisy_latent", FLOAT, [1, CHANNELS, "l"]),
        ("text_emb", FLOAT, [1, 256, "t"]),
        TTL,
        ("latent_mask", FLOAT, [1, 1, "l"]),
        MASK,
        ("current_step", FLOAT, [1]),
        ("total_step", FLOAT, [1]),
    ]
    values = _values(channel_axis=np.asarray([1]), channels=np.asarray([1, CHANNELS, 1]), nothing=np.float32(0.0))
    return _model(nodes, inputs, [("denoised_latent", FLOAT, [1, CHANNELS, "l"])], values)


def vocoder() -> onnx.ModelProto:
    """A tone of 220 Hz, as loud as the latents' mean says."""
    node = helper.make_node
    nodes = [
        node("ReduceMean", ["latent", "channel_axis"], ["loud"], keepdims=0),
        node("Unsqueeze", ["loud", "last"], ["column"]),
        node("Expand", ["column", "hop"], ["held"]),
        node("Reshape", ["held", "flat"], ["envelope"]),
        node("Shape", ["envelope"], ["size"]),
        node("Gather", ["size", "one"], ["n"]),
        node("Range", ["zero", "n", "one"], ["times"]),
        node("Cast", ["times"], ["numbers"], to=FLOAT),
        node("Mul", ["numbers", "radians"], ["phase"]),
        node("Sin", ["phase"], ["tone"]),
        node("Mul", ["envelope", "tone"], ["wav_tts"]),
    ]
    values = _values(
        channel_axis=np.asarray([1]),
        last=np.asarray([2]),
        hop=np.asarray([1, 1, HOP]),
        flat=np.asarray([1, -1]),
        one=np.asarray(1),
        zero=np.asarray(0),
        radians=np.float32(2 * np.pi * 220 / RATE),
    )
    return _model(nodes, [("latent", FLOAT, [1, CHANNELS, "l"])], [("wav_tts", FLOAT, [1, "n"])], values)


GRAPHS = {"duration_predictor": duration_predictor, "text_encoder": text_encoder, "vector_estimator": vector_estimator, "vocoder": vocoder}


def style(timbre: float = 1.0, pace: float = 1.0) -> dict[str, object]:
    return {
        "style_ttl": {"data": np.full(STYLE_TTL, timbre).tolist(), "dims": list(STYLE_TTL), "type": "float32"},
        "style_dp": {"data": np.full(STYLE_DP, pace).tolist(), "dims": list(STYLE_DP), "type": "float32"},
    }


def contents() -> dict[str, bytes]:
    """Path in the repository -> what it holds."""
    told = {"ae": {"sample_rate": RATE, "base_chunk_size": CHUNK}, "ttl": {"latent_dim": LATENT, "chunk_compress_factor": FACTOR}}
    # Letters, marks and Hangul's own letters have numbers; most of what else there is has none.
    known = [*range(32, 127), *range(0x3B1, 0x3CA), *range(0x1100, 0x1113), *range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]
    letters = np.full(65_536, -1)
    letters[known] = np.arange(len(known)) + 1
    files = {f"onnx/{name}.onnx": make().SerializeToString() for name, make in GRAPHS.items()}
    files["onnx/tts.json"] = json.dumps(told).encode()
    files["onnx/unicode_indexer.json"] = json.dumps(letters.tolist()).encode()
    for number in range(1, 6):
        files[f"voice_styles/F{number}.json"] = json.dumps(style(0.5 + 0.1 * number, 1.0)).encode()
        files[f"voice_styles/M{number}.json"] = json.dumps(style(1.5 - 0.1 * number, 1.1)).encode()
    return files


def write(folder: Path) -> Path:
    """The files as they lie in a weights folder; returns it."""
    for name, content in contents().items():
        path = folder / SUPERTONIC / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
