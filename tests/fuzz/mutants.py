"""Mutants of a corpus, each made by its seed alone, and what is mutated."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Sequence
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deployments.ingress.sessions.protocol import FrameFlag, FrameHeader
from musetalk.avatars import arrow_file
from tests.fuzz.targets import CORPUS
from tests.museserve.media.films import film
from tests.sounds import CODECS, encoded

ROOT = Path(__file__).parents[2]
EDGES = (
    b"\x00",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\x00\x00\x00\x00",
    b"\x00\x00\x00\x01",
    b"NaN",
    b"\xed\xa0\x80",
)


def sound() -> Any:
    return (0.3 * np.sin(np.arange(12_000) * 0.06)).astype(np.float32)


def _picture(size: int = 96) -> Image.Image:
    return Image.open(ROOT / "tests" / "data" / "astronaut.jpg").convert("RGB").resize((size, size))


def _saved(kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    _picture().save(out, kind, **options)
    return out.getvalue()


def _clips() -> list[bytes]:
    frames = np.asarray(_picture(128), np.uint8)
    kinds: tuple[dict[str, Any], ...] = (
        {},
        {"kind": "matroska"},
        {"kind": "webm", "codec": "libvpx"},
        {"kind": "mpegts"},
        {"turned": 90, "sound_s": 0.5},
    )
    return [film(repeat(frames, 26), **each) for each in kinds]


def _arrays() -> list[bytes]:
    made = arrow_file.to_bytes(
        {"a": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "b": np.ones(5, np.bool_), "empty": np.zeros((0, 2), np.int16)}
    )
    return [bytes(made)]


MADE: dict[str, Callable[[], list[bytes]]] = {
    "recording": lambda: [encoded(sound(), kind) for kind in CODECS],
    "portrait": lambda: [
        _saved("PNG"),
        _saved("JPEG", progressive=True),
        _saved("WEBP"),
        _saved("PNG", optimize=True),
        _saved("WEBP", lossless=True),
    ],
    "clip": _clips,
    "avatar_arrays": _arrays,
    "init_segment": lambda: [_clips()[0][:4_000]],
    "frame_header": lambda: [FrameHeader(1, 2, 3, 8, 88, FrameFlag.STARTS).pack()],
    "lexicon_file": lambda: [(ROOT / "museserve" / "speech" / "text" / "lexicon.yaml").read_bytes()[:2_000]],
    "config_file": lambda: [(ROOT / "configs" / "local.yaml").read_bytes()],
    "session_message": lambda: [json.dumps({"type": "ping", "t": 1.5}).encode()],
}


@cache
def seeds(name: str) -> list[bytes]:
    """What a target's mutants are made of: the kept corpus, and what is made here because it would be large or is in the project already."""
    folder = CORPUS / name
    kept = [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []
    return kept + (MADE[name]() if name in MADE else [])


def mutant(name: str, seed: int) -> bytes:
    """The same bytes for the same corpus and seed."""
    dice = random.Random(f"{name} {seed}")
    return mutated(dice.choice(seeds(name)), seeds(name), dice)


def mutated(source: bytes, others: Sequence[bytes], dice: random.Random) -> bytes:
    """`source` after some changes, or none. others: what it may go on as from some byte on."""
    data = bytearray(source)
    for _ in range(dice.choice((0, 1, 1, 2, 4, 16))):
        if not data:
            data = bytearray(dice.randbytes(8))
        # Headers decide most of what a parser does.
        near = min(len(data), 512) if dice.random() < 0.6 else len(data)
        at = dice.randrange(near)
        length = min(len(data) - at, dice.choice((1, 2, 4, 8, 64, 1_024)))
        how = dice.randrange(8)
        if how == 0:
            data[at] ^= 1 << dice.randrange(8)
        elif how == 1:
            data[at : at + length] = dice.randbytes(length)
        elif how == 2:
            del data[at : at + length]
        elif how == 3:
            data[at:at] = dice.randbytes(length)
        elif how == 4:
            del data[at:]
        elif how == 5:
            data[at : at + length] *= dice.choice((2, 3, 40))
        elif how == 6:
            edge = dice.choice(EDGES)
            data[at : at + len(edge)] = edge
        else:
            other = dice.choice(others)
            cut = dice.randrange(len(other)) if other else 0
            data[at:] = other[cut:]
    return bytes(data)
