"""A contact sheet of a talking head: `python -m benchmarks.sheets FILM.mp4 SHEET.jpg [--full] [--from S] [--mouth-from S]`.

Above, the whole picture a few times a second; below, the mouth in consecutive frames, each with its frame number. A sheet shows what figures do not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.lips.faces import FaceReader, Seen
from museserve.messages import ByteArray

HEADS_A_ROW, MOUTHS_A_ROW = 6, 8
CORNERS, NOSE, CHIN = (61, 291), 2, 152
MOUTH_WIDTHS = 2.1  # of the mouth's width: what the lower rows show
LABEL = (40, 150, 40)


@dataclass(frozen=True)
class Layout:
    """heads: whole pictures, every `step_s` seconds, `head_px` wide; mouths: consecutive frames; limit_bytes: of the file."""

    heads: int
    step_s: float
    head_px: int
    mouths: int
    limit_bytes: int


SMALL, FULL = Layout(12, 0.4, 220, 32, 500_000), Layout(24, 0.36, 256, 40, 1_500_000)  # for a page, and to judge by


def sheet(film: Path, reader: FaceReader, start_s: float = 0.0, mouth_from_s: float | None = None, layout: Layout = SMALL) -> ByteArray:
    """RGB (h, w, 3). `start_s`: of the first head; `mouth_from_s`: of the first mouth, by default the same.

    Raises:
        ValueError: the film is too short for its sheet, or a mouth frame shows no face.
    """
    mouth_from_s = start_s if mouth_from_s is None else mouth_from_s
    with av.open(str(film)) as container:
        frames = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]
        fps = float(container.streams.video[0].average_rate or 25)
    heads = [round((start_s + i * layout.step_s) * fps) for i in range(layout.heads)]
    mouths = [round(mouth_from_s * fps) + i for i in range(layout.mouths)]
    px = layout.head_px
    if max(*heads, *mouths) >= len(frames):
        raise ValueError(f"the sheet needs frame {max(*heads, *mouths)}, {film.name} has {len(frames)} frames")
    top = [labelled(cv2.resize(frames[n], (px, px), interpolation=cv2.INTER_AREA), n) for n in heads]
    width = HEADS_A_ROW * px // MOUTHS_A_ROW * MOUTHS_A_ROW
    cell = width // MOUTHS_A_ROW, round(width / MOUTHS_A_ROW * 0.78)
    bottom = [labelled(_mouth(frames[n], reader.read(frames[n]), n, *cell), n) for n in mouths]
    rows = [*_rows(top, HEADS_A_ROW), *_rows(bottom, MOUTHS_A_ROW)]
    return np.concatenate([row[:, :width] for row in rows])


def write(picture: ByteArray, path: Path, limit_bytes: int = SMALL.limit_bytes) -> int:
    """Write a sheet as JPEG, as good as `limit_bytes` allow; returns its bytes."""
    for quality in range(92, 40, -4):
        done, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1])
        if done and len(data) <= limit_bytes:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.tobytes())
            return len(data)
    raise ValueError(f"the sheet does not fit into {limit_bytes} bytes")


def _mouth(frame: ByteArray, seen: Seen | None, number: int, width: int, height: int) -> ByteArray:
    if seen is None:
        raise ValueError(f"frame {number} shows no face")
    left, right = seen.points[list(CORNERS)]
    span = MOUTH_WIDTHS * float(np.linalg.norm(right - left))
    center = (float(left[0] + right[0]) / 2, float(seen.points[NOSE, 1] + seen.points[CHIN, 1]) / 2)
    scale = width / span
    move = np.array([[scale, 0, width / 2 - scale * center[0]], [0, scale, height / 2 - scale * center[1]]])
    return np.asarray(cv2.warpAffine(frame, move, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def labelled(picture: NDArray[Any], label: int | str) -> ByteArray:
    """The picture with a word in its corner."""
    return np.asarray(cv2.putText(picture, str(label), (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, LABEL, 1, cv2.LINE_AA), np.uint8)


def _rows(pictures: Sequence[ByteArray], count: int) -> list[ByteArray]:
    return [np.concatenate(pictures[i : i + count], axis=1) for i in range(0, len(pictures), count)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sheets", description="Draws a contact sheet of a talking head.")
    parser.add_argument("film", type=Path)
    parser.add_argument("sheet", type=Path, help="a .jpg file")
    parser.add_argument("--full", action="store_true", help="24 heads and 40 mouths, to judge by look.md")
    parser.add_argument("--from", dest="start_s", type=float, default=0.4, metavar="S", help="second of the first head")
    parser.add_argument("--mouth-from", dest="mouth_from_s", type=float, metavar="S", help="second of the first mouth")
    options = parser.parse_args(arguments)
    reader = FaceReader()
    try:
        layout = FULL if options.full else SMALL
        size = write(sheet(options.film, reader, options.start_s, options.mouth_from_s, layout), options.sheet, layout.limit_bytes)
    finally:
        reader.close()
    print(f"{options.sheet}: {size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
