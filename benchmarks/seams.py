"""How much the picture jumps where segments meet, on decoded pictures: inside the idle loop, into speech, inside it, and back. No browser.

python -m benchmarks.seams [--json FILE]

Luma is scaled to 128 x 128; a jump is the mean absolute difference of neighbouring pictures in levels of 255. `drawn` is the same before encoding.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from configs.models import load_config
from museserve.app.inprocess import LocalPipeline
from museserve.messages import ByteArray, FloatArray, SpeechRequest, VideoRequest
from museserve.pipeline.idle_phase import idle_frame
from museserve.timebase import FPS, SEGMENT_FRAMES
from musetalk.animator.render import idle_loop
from musetalk.animator.rig import Rig
from musetalk.avatars.builtin import BUILTIN
from tests.decoded import pictures

TEXTS = ("Number 1.", "Say a.", "Tell me about a project you are proud of, and what you would change.")
PHASES = (0, 13, 50, 100, 118, 171, 203, 245, 30)
SIDE = 128
FULL_RANGE = 255 / 219


def decoded(film: bytes) -> ByteArray:
    """Luma (n, h, w)."""
    shown = pictures(film)
    return shown[:, : shown.shape[1] * 2 // 3]


def small(luma: ByteArray) -> FloatArray:
    return np.stack([cv2.resize(picture.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for picture in luma]) * np.float32(FULL_RANGE)


def psnr(a: ByteArray, b: ByteArray) -> float:
    return round(float(10 * np.log10(255**2 / np.mean((a.astype(np.float32) - b) ** 2))), 2)


def measure(local: LocalPipeline) -> dict[str, Any]:
    jumps: dict[str, list[float]] = defaultdict(list)
    idle_bytes, speech_bytes, speech_frames, quality = 0, 0, 0, []

    def note(kind: str, before: FloatArray, after: FloatArray) -> None:
        jumps[kind].append(float(np.abs(after - before).mean()))

    def follow(kind: str, pictures: FloatArray, first: int) -> None:
        for i in range(first, len(pictures)):
            note(f"{kind} border" if i % SEGMENT_FRAMES == 0 else kind, pictures[i - 1], pictures[i])

    for name in BUILTIN:
        avatar = local.store.load(name)
        assert avatar.idle is not None
        drawn = idle_loop(Rig.from_arrays(avatar.arrays("animator")))[:, : avatar.meta.size]
        loop = decoded(avatar.idle["mp4"])
        quality.append(psnr(loop, drawn))
        idle_bytes += sum(map(len, avatar.idle["segments"]))
        shown = small(loop)
        follow("drawn", small(drawn), 0)
        follow("idle", shown, 0)
        for n, phase in enumerate(PHASES):
            request = VideoRequest("", name, SpeechRequest(TEXTS[n % len(TEXTS)]), paced=False, phase=phase)
            film = b"".join(fragment.data for fragment in asyncio.run(local.fragments(request)))
            spoken = small(decoded(film))
            speech_bytes, speech_frames = speech_bytes + len(film), speech_frames + len(spoken)
            note("into speech", shown[phase - 1], spoken[0])
            follow("speech", spoken, 1)
            note("out of speech", spoken[-1], shown[idle_frame(phase, len(spoken), len(shown))])
    return {
        "jumps": {
            kind: {"mean": _rounded(np.mean(v)), "p95": _rounded(np.percentile(v, 95)), "max": _rounded(max(v)), "n": len(v)}
            for kind, v in jumps.items()
        },
        "idle_bytes_per_s": round(idle_bytes * FPS / len(jumps["idle"] + jumps["idle border"])),
        "speech_bytes_per_s": round(speech_bytes * FPS / speech_frames),
        "idle_psnr_db": quality,
    }


def _rounded(value: Any) -> float:
    return round(float(value), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(LocalPipeline(load_config("local", {"avatars": {"uri": folder}, "lipsync": {"engine": "animator"}})))
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
