"""What each producer of kept results makes of fixed input, so that a change of it is seen where its version was not raised.

python -m tests.golden.producers [NAME ...]      writes `NAME.npz` beside this file anew, after a version was raised
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.models import MediaConfig, MuxConfig, SpeechConfig
from museserve.messages import SpeechRequest
from museserve.pipeline import cache
from museserve.pipeline.engines import LipSync
from museserve.pipeline.utterance import UtterancePipeline, UtterancePlan
from museserve.runtime.deadline_executor import DeadlineExecutor
from museserve.runtime.versions import stamp
from museserve.speech import synthesizer
from museserve.timebase import SPEECH_RATE
from musetalk.animator import rig
from musetalk.animator.render import idle_loop, render_crop
from musetalk.avatars.builtin import shipped_portrait
from musetalk.speech_cues.controls import N_CONTROLS
from tests import decoded
from tests.fakes import INFO, FakeLips, FakeSpeech, background

FOLDER = Path(__file__).parent
Arrays = dict[str, NDArray[Any]]

TEXTS = {
    "hibari": SpeechRequest("In 2024, 3 of 4 teams moved to AWS.", "hibari"),
    "piper": SpeechRequest("It costs $12.50 a month, doesn't it?", "joe"),
    "espeak": SpeechRequest("저는 2024년에 AWS로 3개 팀을 옮겼습니다.", "espeak-ko-f", language="ko"),
}
TIMES = SPEECH_RATE // 1_000


@dataclass(frozen=True)
class Producer:
    """version: what stands in the key of what it makes. limits: by which its arrays may differ from one processor to another."""

    version: str
    make: Callable[[], Arrays]
    limits: dict[str, float]


def speech(engine: str) -> Arrays:
    """Phonemes, how long each lasts in ms, and how loud it is in dB; Piper draws its own noise, so of its voice only their number.

    A network's durations are whole frames of its own: where a processor rounds the other way, a phoneme is longer, and all after it are later.
    """

    async def spoken() -> list[Any]:
        made = synthesizer.Synthesizer(SpeechConfig(engine="offline"))
        return [chunk async for chunk in made.stream(TEXTS[engine])]

    chunks = asyncio.run(spoken())
    pcm = np.concatenate([chunk.pcm for chunk in chunks])
    phonemes = [p for chunk in chunks for p in chunk.phonemes or ()]
    symbols = np.frombuffer(" ".join(f"{p.symbol}{p.stress}" for p in phonemes if p.symbol).encode(), np.uint8)
    if engine == "piper":
        return {"phonemes": np.array(len(phonemes)), "length_s": np.array(len(pcm) / SPEECH_RATE)}
    return {
        "symbols": symbols,
        "durations_ms": np.array([(p.end - p.start) / TIMES for p in phonemes], np.float32),
        "loudness_db": np.array([10 * np.log10(np.mean(pcm[p.start : max(p.end, p.start + 1)] ** 2) + 1e-6) for p in phonemes], np.float32),
    }


def animator() -> Arrays:
    """Mouths that are open, rounded, spread and half of each, on idle frames with other heads and lids."""
    shipped = shipped_portrait("interviewer_woman")
    made = rig.Rig.build(shipped.portrait, shipped.landmarks, 512)
    rows = np.random.default_rng(0).uniform(0.0, 0.7, (4, N_CONTROLS)).astype(np.float32)
    crops = [render_crop(made, frame, row)[::2, ::2] for frame, row in zip((3, 60, 130, 200), rows, strict=True)]
    return {"crops": np.stack(crops), "idle": idle_loop(made)[::64, ::4, ::4]}


def films() -> Arrays:
    """Decoded pictures and sound of an utterance."""

    async def filmed() -> list[bytes]:
        ground = background(64)
        lips, pool = FakeLips(ground.box, silent=range(10, 14)), DeadlineExecutor()
        engine, plan = LipSync(INFO, lips.listen, lips.render), UtterancePlan(phase=3)
        config = MuxConfig(media=MediaConfig(crf=20))
        utterance = UtterancePipeline(ground, FakeSpeech(0.9).stream(), engine, config, pool, plan)
        return [fragment.data async for fragment in utterance.fragments()]

    data = b"".join(asyncio.run(filmed()))
    return {"pictures": decoded.pictures(data), "sound": (decoded.sound(data)[::7] * 32_767).astype(np.int16)}


PRODUCERS = {
    **{
        f"speech_{engine}": Producer(
            stamp(synthesizer.VERSION, *synthesizer.KEPT_LIBRARIES),
            partial(speech, engine),
            {"phonemes": 6, "length_s": 0.6} if engine == "piper" else {"symbols": 0, "durations_ms": 26, "loudness_db": 4},
        )
        for engine in TEXTS
    },
    "animator": Producer(stamp(rig.VERSION, "opencv-python"), animator, {"crops": 3, "idle": 3}),
    "films": Producer(stamp(cache.VERSION, *cache.KEPT_LIBRARIES), films, {"pictures": 1, "sound": 64}),
}


def path(name: str) -> Path:
    return FOLDER / f"{name}.npz"


def write(name: str) -> None:
    producer = PRODUCERS[name]
    np.savez_compressed(path(name), version=np.array(producer.version), **producer.make())  # type: ignore[arg-type]


if __name__ == "__main__":
    for chosen in sys.argv[1:] or PRODUCERS:
        write(chosen)
        print(f"{path(chosen).name}: {path(chosen).stat().st_size:,} bytes, version {PRODUCERS[chosen].version}")
