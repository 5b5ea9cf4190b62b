"""Make a shipped avatar's files of a framed portrait: film grain softened, landmarks found.

python -m tools.ship_portrait PORTRAIT.png ID       writes portrait.png and landmarks.npy into musetalk/avatars/shipped/ID

Every picture of a film carries the portrait's grain anew, a fraction of a pixel away, and the encoder pays for it each time. Where nobody looks it
goes altogether; in the face, where it makes skin look like skin, most of it stays. `python -m benchmarks.grain` measures what that saves.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from museserve.messages import ByteArray, FloatArray
from musetalk.avatars.builtin import BUILTIN, BUILTIN_DIR
from musetalk.avatars.format import to_png
from musetalk.faces.mediapipe import find_faces
from musetalk.faces.quality import OVAL

STRENGTH = 8.0  # of the non-local means, grey levels: above 10 strands of hair run together
OUTER_SHARE, FACE_SHARE = 0.9, 0.4  # of what it takes away that goes beside the face, and in it: skin without any looks like wax
COLOUR_SHARE = 1.0  # grain in colour is seen nowhere and costs as much
FACE_EDGE = 0.04  # of the picture's side: over so much the face's share becomes the whole
PATCH, SEARCH = 5, 15  # pixels


def soften(portrait: ByteArray, landmarks: FloatArray, strength: float = STRENGTH, face_share: float = FACE_SHARE) -> ByteArray:
    """The portrait with less grain. RGB uint8 (h, w, 3); landmarks: (478, 2 or 3) pixels in it."""
    side = portrait.shape[0]
    planes = cv2.cvtColor(portrait, cv2.COLOR_RGB2LAB)
    smooth = np.dstack([cv2.fastNlMeansDenoising(np.ascontiguousarray(planes[..., c]), None, strength, PATCH, SEARCH) for c in range(3)])
    face = np.zeros((side, side), np.uint8)
    cv2.fillConvexPoly(face, np.round(landmarks[list(OVAL), :2]).astype(np.int32), 255)
    inside = cv2.GaussianBlur(face.astype(np.float32) / 255, (0, 0), FACE_EDGE * side / 2)[..., None]
    outer, inner = (np.array([luma, COLOUR_SHARE, COLOUR_SHARE], np.float32) for luma in (OUTER_SHARE, face_share))
    share = outer + (inner - outer) * inside
    mixed = np.rint(planes + (smooth.astype(np.float32) - planes) * share).astype(np.uint8)
    return np.asarray(cv2.cvtColor(mixed, cv2.COLOR_LAB2RGB), np.uint8)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.ship_portrait", description="Makes a shipped avatar's files of a framed portrait.")
    parser.add_argument("portrait", type=Path, help="a square picture, one face")
    parser.add_argument("id", choices=BUILTIN)
    options = parser.parse_args(arguments)
    picture = np.asarray(Image.open(options.portrait).convert("RGB"))
    soft = soften(picture, find_faces(picture)[0].landmarks)
    landmarks = find_faces(soft)[0].landmarks.astype(np.float32)
    folder = BUILTIN_DIR / options.id
    (folder / "portrait.png").write_bytes(to_png(soft))
    np.save(folder / "landmarks.npy", landmarks)
    print(f"{folder}: portrait.png {(folder / 'portrait.png').stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
