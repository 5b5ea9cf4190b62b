"""Pictures for the tests of faces, made from the two shipped portraits."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from musetalk.avatars.builtin import shipped_portrait

DATA = Path(__file__).parents[1] / "data"


@cache
def woman():
    return shipped_portrait("interviewer_woman").portrait


@cache
def man():
    return shipped_portrait("interviewer_man").portrait


def photo(name):
    return np.asarray(Image.open(DATA / name).convert("RGB"))


def encoded(rgb, kind="PNG", **options):
    """The bytes of a picture file."""
    image = rgb if isinstance(rgb, Image.Image) else Image.fromarray(rgb)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def tilted(rgb, degrees):
    """Turned counter-clockwise."""
    side = rgb.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, 1)
    return cv2.warpAffine(rgb, matrix, (side, side), borderMode=cv2.BORDER_REFLECT)


def turned(rgb, degrees):
    """The head of a shipped portrait turned to the picture's right, as if it were printed on a cylinder. A landmarker sees about half."""
    y, x = np.mgrid[0:1024, 0:1024].astype(np.float32)
    centre, radius = 512.0, 215.0
    across = (x - centre) / radius
    angle = np.arcsin(np.clip(across, -1, 1)) - np.radians(degrees)
    seen = (np.abs(across) < 1) & (np.abs(angle) < np.pi / 2)
    source = np.where(seen, centre + radius * np.sin(angle), x).astype(np.float32)
    return cv2.remap(rgb, source, y, cv2.INTER_LINEAR)


def in_a_crowd(rgb, side, width=4000, height=3000):
    """A small copy in a large empty picture."""
    picture = np.full((height, width, 3), 120, np.uint8)
    picture[height // 3 : height // 3 + side, width // 2 : width // 2 + side] = cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA)
    return picture
