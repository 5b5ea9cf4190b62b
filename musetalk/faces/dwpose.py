"""DWPose landmarks from its ONNX file, equal to the published PyTorch path: RGB, the whole frame as one person, averaged with the mirrored frame.

The network gives one vector of scores for each axis of each keypoint (SimCC); where it is highest, is the keypoint.

Source: DWPose repository (Apache-2.0) and the RTMPose configuration that MuseTalk repository at 0a89dec runs; written anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from museserve.errors import EngineUnavailableError
from museserve.messages import ByteArray, FloatArray
from museserve.runtime import cpu

WIDTH, HEIGHT = 288, 384  # of the network's input
SPLIT = 2.0  # bins a pixel
PADDING = 1.25
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)
N_KEYPOINTS = 133  # 0-16 body, 17-22 feet, 23-90 face in iBUG order, 91-111 left hand, 112-132 right hand
FACE = slice(23, 91)

Keypoints = NDArray[np.float64]


def _mirrored() -> NDArray[np.intp]:
    """Which keypoint each one is in a mirror."""
    swap = np.arange(N_KEYPOINTS)
    jaw, brows, nostrils, outer_lip, inner_lip = [(23, 40)], [(40, 50)], [(54, 59)], [(71, 78), (78, 83)], [(83, 88), (88, 91)]
    for begin, end in jaw + brows + nostrils + outer_lip + inner_lip:
        swap[begin:end] = swap[begin:end][::-1]
    body, feet = (range(1, 17, 2), range(2, 17, 2)), (range(17, 20), range(20, 23))
    hands, eyes = (range(91, 112), range(112, 133)), ((59, 60, 61, 62, 63, 64), (68, 67, 66, 65, 70, 69))
    for left, right in (body, feet, hands, eyes):
        swap[list(left)], swap[list(right)] = right, left
    return swap


MIRRORED = _mirrored()


class DWPose:
    """Thread-safe. `rgb` and `flip` are off only to compare with tools that leave them out. threads: frames that `faces` looks at side by side.

    Raises:
        EngineUnavailableError: the file is not this network.
    """

    def __init__(self, model: Path | bytes, *, rgb: bool = True, flip: bool = True, cuda: bool = False, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # frames side by side gain more than threads within one
        options.log_severity_level = 3
        wanted = ["CUDAExecutionProvider"] if cuda and "CUDAExecutionProvider" in ort.get_available_providers() else []
        try:
            source = model if isinstance(model, bytes) else str(model)
            self._session = ort.InferenceSession(source, options, providers=[*wanted, "CPUExecutionProvider"])
            (entry,) = self._session.get_inputs()
            outputs = [output.shape[-1] for output in self._session.get_outputs()]
        except Exception as error:  # onnxruntime's errors have no common base
            raise EngineUnavailableError(f"the DWPose network cannot be read: {error}") from None
        if list(entry.shape[-3:]) != [3, HEIGHT, WIDTH] or outputs != [WIDTH * SPLIT, HEIGHT * SPLIT]:
            raise EngineUnavailableError(
                f"the DWPose network takes {entry.shape} and gives vectors of {outputs}; "
                f"(1, 3, {HEIGHT}, {WIDTH}) and {[int(WIDTH * SPLIT), int(HEIGHT * SPLIT)]} are needed (dw-ll_ucoco_384.onnx)"
            )
        self._input, self._one_at_a_time = entry.name, entry.shape[0] == 1
        self._rgb, self._flip, self._threads = rgb, flip, threads

    @property
    def provider(self) -> str:
        """The device it runs on, as onnxruntime names it."""
        return str(self._session.get_providers()[0])

    def keypoints(self, rgb: ByteArray) -> tuple[Keypoints, FloatArray]:
        """All keypoints of the person that fills an RGB frame uint8 (h, w, 3).

        Returns:
            float64 (133, 2) pixels of the frame, and their scores float32 (133,): the lower of the two axes' highest values.
            A keypoint without a positive score lies at bin -1.
        """
        height, width = rgb.shape[:2]
        scale = person_scale(width, height)
        center = np.array([width * 0.5, height * 0.5])
        bgr = rgb[:, :, ::-1] if not self._rgb else rgb
        # The frame is handed over as the original lays it out in memory: rows of interleaved pixels.
        cut = cv2.warpAffine(np.ascontiguousarray(bgr), _warp(center, scale), (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
        pixels = ((np.asarray(cut, np.float32) - MEAN) / STD).transpose(2, 0, 1)[None]
        x, y = self._vectors(np.ascontiguousarray(pixels))
        locations, scores = decode(x[0], y[0])
        return locations / SPLIT / (WIDTH, HEIGHT) * scale + center - scale / 2, scores

    def face_points(self, rgb: ByteArray) -> tuple[Keypoints, FloatArray]:
        """The 68 face points of `keypoints` and their scores. The published code truncates the points to whole pixels."""
        points, scores = self.keypoints(rgb)
        return points[FACE], scores[FACE]

    def faces(self, frames: Iterable[ByteArray]) -> Iterator[tuple[Keypoints, FloatArray]]:
        """`face_points` of each frame, in order. Holds a few frames more than threads."""
        return cpu.parallel_map(self.face_points, frames, self._threads)

    def _vectors(self, pixels: FloatArray) -> tuple[FloatArray, FloatArray]:
        if not self._flip:
            x, y = self._run(pixels)
            return x, y
        x, y = self._run(np.concatenate([pixels, pixels[..., ::-1]]))
        mirrored_x, mirrored_y = x[1:, MIRRORED, ::-1], y[1:, MIRRORED]
        half = np.float32(0.5)
        return (x[:1] + mirrored_x) * half, (y[:1] + mirrored_y) * half

    def _run(self, pixels: FloatArray) -> list[FloatArray]:
        batches: list[Any] = [pixels[i : i + 1] for i in range(len(pixels))] if self._one_at_a_time else [pixels]
        found = [self._session.run(None, {self._input: np.ascontiguousarray(batch)}) for batch in batches]
        return [np.concatenate([part[axis] for part in found]) for axis in (0, 1)]


def person_scale(width: int, height: int) -> NDArray[np.float64]:
    """Width and height of the cut around a whole frame: padded, then enlarged to the network's proportions."""
    w, h = width * PADDING, height * PADDING
    aspect = WIDTH / HEIGHT
    return np.array([w, w / aspect] if w > h * aspect else [h * aspect, h])


def decode(x: FloatArray, y: FloatArray) -> tuple[Keypoints, FloatArray]:
    """The highest bin of each keypoint: x (k, 576), y (k, 768) -> bins float64 (k, 2), scores float32 (k,)."""
    scores = np.minimum(x.max(1), y.max(1))
    bins = np.stack([x.argmax(1), y.argmax(1)], 1).astype(np.float64)
    bins[scores <= 0] = -1
    return bins, scores


def _warp(center: NDArray[np.float64], scale: NDArray[np.float64]) -> Any:
    """The affine map from the frame to the network's input, from three points in float32 as the original has them."""

    def corners(at: Any, width: float) -> Any:
        points = np.empty((3, 2), np.float32)
        points[0], points[1] = at, at + (0.0, width * -0.5)
        across = points[0] - points[1]
        points[2] = points[1] + (-across[1], across[0])
        return points

    return cv2.getAffineTransform(corners(center, scale[0]), corners(np.array([WIDTH, HEIGHT]) * 0.5, WIDTH))
