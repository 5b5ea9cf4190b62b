"""Clips of a person for the tests: a shipped portrait that sways before a wall, and whatever else is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np

from tests.musetalk.pictures import man, turned, woman


def place(scene: np.ndarray, portrait: np.ndarray, x: float, y: float, side: int) -> np.ndarray:
    """The portrait in the scene with its upper left corner at x, y, in parts of a pixel, with soft edges; in place."""
    scale = side / portrait.shape[0]
    small = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
    alpha: np.ndarray = np.zeros((side, side), np.float32)
    alpha[8:-8, 8:-8] = 1
    alpha = cv2.GaussianBlur(alpha, (0, 0), 4)
    matrix = np.array([[1, 0, x], [0, 1, y]], np.float64)
    size = scene.shape[1], scene.shape[0]
    moved, mask = (cv2.warpAffine(layer, matrix, size, flags=cv2.INTER_LINEAR) for layer in (small, alpha))
    assert scale > 0
    scene[:] = np.round(scene * (1 - mask[..., None]) + moved * mask[..., None]).astype(np.uint8)
    return scene


def wall(width: int = 640, height: int = 360) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 6, (height // 8, width // 8, 3))
    return np.clip(150 + cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def sway(i: int, n: int) -> tuple[float, float]:
    return 9 * np.sin(2 * np.pi * i / n), 4 * np.sin(4 * np.pi * i / n)


def person(
    n: int = 29,
    *,
    width: int = 640,
    height: int = 360,
    side: int = 350,
    yaw: float = 0.0,
    hidden: Callable[[int], bool] = lambda i: False,
    other: int = 0,
    at: float = 0.5,
) -> Iterator[np.ndarray]:
    """n frames. yaw: the head is turned. hidden: frames with nobody in them. other: side of a second portrait, at the left edge. at: middle, 0..1."""
    face = turned(woman(), yaw) if yaw else woman()
    for i in range(n):
        scene = wall(width, height)
        dx, dy = sway(i, n)
        if other:
            place(scene, man(), 0, (height - other) / 2, other)
        if not hidden(i):
            place(scene, face, width * at - side / 2 + dx, (height - side) / 2 + dy, side)
        yield scene
