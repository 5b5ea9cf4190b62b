"""What it costs to parse a recording in a process of its own, and whether damaged files break one.

    python -m benchmarks.foreign [--mutated N] [--seed N] [--out FILE]

Each recording is read both ways in turn, so that what else the machine does falls on both alike. Damaged are recordings, pictures and clips:
bytes changed, taken out, put in, or the end cut off.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from configs.models import ClipConfig
from museserve.errors import AudioError, ClipError, ImageError, MuseserveError
from museserve.media.clip import read_clip
from museserve.media.decode import decode_speech
from museserve.messages import FloatArray
from museserve.runtime.foreign import READERS
from musetalk.faces.framing import read_portrait
from tests.museserve.media.films import film, marked
from tests.sounds import CODECS, encoded

RESULTS = Path(__file__).parent / "results" / "foreign.json"
RECORDINGS = ((4, "wav"), (10, "mp3"), (60, "m4a"))
ROUNDS = 40
LENGTHS = {"min_s": 0.2, "max_s": 600.0}


def tone(seconds: float) -> FloatArray:
    return (0.3 * np.sin(np.arange(round(seconds * 24_000)) * 0.06)).astype(np.float32)


def paired() -> list[dict[str, Any]]:
    rows = []
    for seconds, kind in RECORDINGS:
        data, here, there = encoded(tone(seconds), kind), [], []
        for _ in range(ROUNDS + 1):
            times = [time.perf_counter()]
            decode_speech(data, **LENGTHS)
            times.append(time.perf_counter())
            READERS.array(AudioError, "the recording", decode_speech, data, **LENGTHS)
            times.append(time.perf_counter())
            here.append(1e3 * (times[1] - times[0]))
            there.append(1e3 * (times[2] - times[1]))
        later = sorted(b - a for a, b in zip(here[1:], there[1:], strict=True))
        row = {"recording": f"{seconds} s of {kind}", "here_ms": statistics.median(here[1:]), "there_ms": statistics.median(there[1:])}
        rows.append({**row, "later_p50_ms": statistics.median(later), "later_p95_ms": later[int(0.95 * len(later))]})
    return rows


def damaged(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 3, 10, 60))):
        how, at = chance.random(), chance.randrange(min(len(changed), chance.choice((64, 600, len(changed)))))
        if how < 0.6:
            changed[at] = chance.randrange(256)
        elif how < 0.75:
            del changed[at : at + chance.randrange(1, 400)]
        elif how < 0.9:
            changed[at:at] = chance.randbytes(chance.randrange(1, 60))
        else:
            changed = changed[: max(20, at)]
        changed = changed or bytearray(b"x")
    return bytes(changed)


def mutated(n: int, seed: int) -> dict[str, Any]:
    chance = random.Random(seed)
    picture = Image.effect_noise((600, 600), 80).convert("RGB")
    pictures = [io.BytesIO() for _ in range(3)]
    for kind, file in zip(("PNG", "JPEG", "WEBP"), pictures, strict=True):
        picture.save(file, kind)
    sources = {
        "recording": [encoded(tone(3), kind) for kind in CODECS],
        "picture": [file.getvalue() for file in pictures],
        "clip": [film(map(marked, range(30)))],
    }
    ended: Counter[str] = Counter()
    slowest = 0.0
    for _ in range(n):
        kind = chance.choice(list(sources))
        data, began = damaged(chance.choice(sources[kind]), chance), time.perf_counter()
        try:
            if kind == "recording":
                READERS.array(AudioError, "it", decode_speech, data, **LENGTHS)
            elif kind == "picture":
                READERS.array(ImageError, "it", read_portrait, data, 24_000_000)
            else:
                for _ in READERS.items(ClipError, "it", read_clip, data, ClipConfig()):
                    pass
            ended[f"{kind} read"] += 1
        except MuseserveError as error:
            broke = " by a lost reader" if str(error).startswith("it could not be read") else ""
            ended[f"{kind} refused{broke}"] += 1
        slowest = max(slowest, time.perf_counter() - began)
    memory = [child.memory_info().rss for child in psutil.Process().children()]
    return {"files": n, "seed": seed, "ended": dict(sorted(ended.items())), "slowest_s": slowest, "reader_mb": max(memory) / 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutated", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    text = json.dumps({"paired": paired(), "mutated": mutated(asked.mutated, asked.seed)}, indent=2)
    print(text)
    asked.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
