"""Films and sheets of faces, to be judged by `look.md`: `python -m benchmarks.look FOLDER [--only FACE ...] [--photograph FILE[:male] ...]`.

`--shapes PICTURE.jpg` draws rounded lips and a closing lid instead, above without the light and shadow that the animator adds, below with.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from benchmarks.lips.cases import INTRO_KO, PROJECT_KO, QUESTIONS, TEAM, WELCOME, Case
from benchmarks.lips.faces import FaceReader
from benchmarks.lips.picture import without_sway
from benchmarks.lips.stage import FilmSet
from benchmarks.sheets import FULL, labelled, sheet, write
from museserve.media.compositing import paste
from museserve.messages import ByteArray
from musetalk.animator import eyelids, mouth
from musetalk.animator.render import idle_frame, render_crop
from musetalk.animator.rig import Rig
from musetalk.avatars.builtin import shipped_portrait
from musetalk.avatars.from_portrait import prepare_portrait
from musetalk.speech_cues.controls import BLINK, CONTROLS, N_CONTROLS
from musetalk.speech_cues.visemes import Viseme, visemes_of

TEXTS = {"woman": (WELCOME, INTRO_KO), "man": (TEAM, PROJECT_KO)}
PHOTO_TEXTS = (QUESTIONS, INTRO_KO)
START_S, MOUTH_FROM_S = 0.4, 1.0

SHAPES = {"o": "o", "u": "u", "w": "w", "sh": "ʃ"}
OPENED = 1.3  # times what a viseme asks for, as in speech
LID = 0.8
SHAPE_PX, LID_PX, HEIGHT_PX, MOUTH_MM, EYES_MM = 240, 452, 220, 78.0, 118.0
PLAIN = {  # of the modules: constants without which lids and lips are as flat as a warp leaves them
    eyelids: ("SMOOTHING", "CREASE_DARKNESS", "BULGE_LIGHT", "FOLD_STRENGTH", "LASH_COMPRESSION"),
    mouth: ("ROUND_SHADE",),
}


def films(folder: Path, faces: Sequence[str], photographs: Sequence[tuple[Path, str]]) -> Iterator[tuple[str, Path]]:
    """Film every face in both languages, and draw its sheet beside the film; yields the name and the sheet of each.

    Args:
        photographs: files, each with "female" or "male".
    Raises:
        ImageError: a photograph is none of a usable face.
    """
    film_set = FilmSet(folder)
    cases = [(face, "male" if face == "man" else "female", TEXTS[face]) for face in faces]
    for file, gender in photographs:
        name = file.stem.lower()
        prepare_portrait(file.read_bytes(), id=name, gender=gender, size=film_set.config.avatars.size, store=film_set.local.store)
        cases.append((name, gender, PHOTO_TEXTS))
    reader = FaceReader()
    try:
        for face, gender, texts in cases:
            for language, text in zip(("en", "ko"), texts, strict=True):
                take = film_set.film(Case(f"{face}-{language}", face, text, gender))
                path = take.path.with_suffix(".jpg")
                write(sheet(take.path, reader, START_S, MOUTH_FROM_S, FULL), path, FULL.limit_bytes)
                yield take.path.stem, path
    finally:
        reader.close()


def shapes(avatar_id: str = "interviewer_woman") -> ByteArray:
    """RGB of rounded lips and of a closing lid, without added light and shadow and with."""
    shipped = shipped_portrait(avatar_id)
    with plain():
        flat = without_sway(Rig.build(shipped.portrait, shipped.landmarks))
        flat = replace(flat, relief=replace(flat.relief, levels=np.full_like(flat.relief.levels, 128)))
        above = _row(flat)
    return np.concatenate([above, _row(without_sway(Rig.build(shipped.portrait, shipped.landmarks)))])


@contextmanager
def plain() -> Iterator[None]:
    """Without what `PLAIN` names."""
    kept = {module: {name: getattr(module, name) for name in names} for module, names in PLAIN.items()}
    try:
        for module, names in PLAIN.items():
            for name in names:
                setattr(module, name, 0.0)
        yield
    finally:
        for module, values in kept.items():
            for name, value in values.items():
                setattr(module, name, value)


def _row(rig: Rig) -> ByteArray:
    pictures = []
    for label, symbol in SHAPES.items():
        pictures.append(labelled(_part(rig, _drawn(rig, visemes_of(symbol)[0]), rig.anatomy.origin, MOUTH_MM, SHAPE_PX), label))
    lids = np.zeros(N_CONTROLS, np.float32)
    lids[BLINK] = LID
    eyes = rig.anatomy.landmarks[[468, 473]].mean(0) - [0.0, 4.0 * rig.anatomy.scale]
    pictures.append(labelled(_part(rig, _frame(rig, lids), eyes, EYES_MM, LID_PX), f"lid {LID}"))
    return np.concatenate(pictures, axis=1)


def _drawn(rig: Rig, viseme: Viseme) -> ByteArray:
    row = np.zeros(N_CONTROLS, np.float32)
    for name in ("jaw", "lower_drop", "upper_raise", "wide", "round"):
        row[CONTROLS.index(name)] = getattr(viseme, name) * (OPENED if name == "jaw" else 1.0)
    return _frame(rig, row)


def _frame(rig: Rig, row: np.ndarray) -> ByteArray:
    """RGB of the whole picture."""
    picture = idle_frame(rig, 0)
    paste(picture, render_crop(rig, 0, row), rig.box)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_YUV2RGB_I420), np.uint8)


def _part(rig: Rig, picture: ByteArray, center: np.ndarray, wide_mm: float, px: int) -> ByteArray:
    scale = px / (wide_mm * rig.anatomy.scale)
    move = np.array([[scale, 0, px / 2 - scale * center[0]], [0, scale, HEIGHT_PX / 2 - scale * center[1]]])
    return np.asarray(cv2.warpAffine(picture, move, (px, HEIGHT_PX), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _photograph(text: str) -> tuple[Path, str]:
    path, _, gender = text.partition(":")
    return Path(path), gender or "female"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.look", description="Films faces and draws the sheets that look.md judges.")
    parser.add_argument("folder", type=Path, nargs="?", help="where films, sheets and avatars land")
    parser.add_argument("--only", nargs="*", default=list(TEXTS), choices=list(TEXTS), metavar="FACE", help="of the shipped faces")
    parser.add_argument("--photograph", nargs="+", default=[], type=_photograph, metavar="FILE[:male]", help="pictures of further faces")
    parser.add_argument("--shapes", type=Path, metavar="PICTURE", help="draw rounded lips and a closing lid into this .jpg file")
    options = parser.parse_args(arguments)
    if options.folder is None and options.shapes is None:
        parser.error("a folder or --shapes is needed")
    cv2.setNumThreads(1)
    if options.shapes is not None:
        print(f"{options.shapes}: {write(shapes(), options.shapes)} bytes")
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        for name, path in films(options.folder, options.only, options.photograph):
            print(f"{name}: {path}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
