"""Where a streamed frame's processor time goes, from text to fragments, beside the least that its steps could take.

OMP_NUM_THREADS=1 python -m benchmarks.frame [--avatar interviewer_woman] [--voice nova] [--takes 5] [--json FILE]

The whole pipeline in one process films the same text several times; each step's time is that of the thread that does it, without the steps that it
calls, as the median over takes. A busy machine changes how fast its shared caches are: compare shares, or two builds in turns.

Floors: a crop's three planes warped once by maps that are there; H.264 of a picture that stands still; AAC of silence; one copy of a picture.

Found by four pairs of runs side by side (the build before eyes were laid into the texture, the mouth was drawn at its own size, x264 was told its
quantiser, AAC was given a fragment by one call, and fragments were written here), on two cores that others kept busy, where everything takes about
twice as long as on a quiet machine; 512 px, the woman:

    step                           before  after  floor
    voice                            0.89   0.81
    hearing                          0.37   0.34
    where the nodes come from        0.40   0.44
    the same for every pixel         0.87   0.62
    eyes                             0.84   0.13
    the warp                         0.98   0.94   0.37
    mouth and relief                 1.52   1.17
    drawing, the rest                0.55   0.43
    composing                        0.17   0.15   0.14
    H.264                            1.91   1.70   0.95
    AAC                              0.45   0.31   0.11
    fragments                        0.18   0.10   0.08
    tasks, threads, garbage          0.28   0.27
    together                         9.46   7.37          paired 0.83
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.machine import machine
from configs.models import MediaConfig, load_config
from museserve.app.inprocess import LocalPipeline
from museserve.media import background, encode
from museserve.messages import SpeechRequest, VideoRequest
from museserve.pipeline import utterance
from museserve.speech.offline import OfflineVoices
from museserve.timebase import SEGMENT_FRAMES, SPEECH_RATE
from musetalk.animator import engine, render
from musetalk.animator.rig import Rig
from musetalk.animator.sampling import sample_at

TEXT = (
    "Thank you for joining today. I would like you to walk me through a system that you designed, from the first sketch to production, "
    "and to tell me which decision you would make differently now."
)
# What is clocked: module or class, and function.
STEPS: dict[str, tuple[tuple[Any, str], ...]] = {
    "voice": ((OfflineVoices, "_speak"),),
    "hearing": ((engine, "listen"),),
    "where the nodes come from": ((render, "_source_grid"),),
    "the same for every pixel": ((render, "_lip_rows"), (render, "_combined_maps")),
    "eyes": ((render, "texture_with_eyes"),),
    "the warp": ((render, "sample_at"),),
    "mouth and relief": ((render, "_draw_mouth"), (render, "draw_relief")),
    "drawing, the rest": ((engine, "render_crop"), (engine.Animator, "render")),
    "composing": ((background.Background, "picture"), (utterance, "keep_static"), (utterance.UtterancePipeline, "_compose_and_encode")),
    "H.264": ((encode.FragmentEncoder, "_encode_picture"),),
    "AAC": ((encode.FragmentEncoder, "_encode_audio"), (encode.FragmentEncoder, "push_audio"), (encode.FragmentEncoder, "finish_audio")),
    "fragments": ((encode, "mux_fragment"), (encode.FragmentEncoder, "encode"), (encode.FragmentEncoder, "__init__")),
}


class Clock:
    """Processor time of steps that call each other, on any thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._own = threading.local()

    @contextmanager
    def _running(self, step: str) -> Iterator[None]:
        within: list[float] = self._own.__dict__.setdefault("within", [0.0])
        began = time.thread_time()
        within.append(0.0)
        try:
            yield
        finally:
            took = time.thread_time() - began
            self.seconds[step] += took - within.pop()
            within[-1] += took

    def clocked(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            with self._running(step):
                return function(*arguments, **options)

        return call

    def clocked_items(self, step: str, function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """The same of a generator, while it makes its items."""

        def items(*arguments: Any, **options: Any) -> Iterator[Any]:
            made = function(*arguments, **options)
            while True:
                with self._running(step):
                    try:
                        item = next(made)
                    except StopIteration:
                        return
                yield item

        return items


@contextmanager
def clocks() -> Iterator[Clock]:
    clock, kept = Clock(), []
    try:
        for step, places in STEPS.items():
            for owner, name in places:
                original = getattr(owner, name)
                kept.append((owner, name, original))
                wrap = clock.clocked_items if owner is OfflineVoices else clock.clocked
                setattr(owner, name, wrap(step, original))
        yield clock
    finally:
        for owner, name, original in reversed(kept):
            setattr(owner, name, original)


def take(local: LocalPipeline, number: int, avatar: str, voice: str) -> tuple[dict[str, float], int, int]:
    """Milliseconds of each step a frame; frames; bytes a frame."""
    request = VideoRequest("", avatar, SpeechRequest(f"Take {number}. {TEXT}", voice), paced=False)
    with clocks() as clock:
        began = time.process_time()
        fragments = asyncio.run(local.fragments(request))
        took = time.process_time() - began
    frames = sum(fragment.n_frames for fragment in fragments)
    spent = {step: clock.seconds[step] * 1e3 / frames for step in STEPS}
    spent["the rest: tasks, threads, garbage"] = took * 1e3 / frames - sum(spent.values())
    return spent, frames, sum(len(fragment.data) for fragment in fragments) // frames


def least(work: Callable[[], Any], times: int = 60) -> float:
    """Median milliseconds of processor time."""
    took = []
    for _ in range(times):
        began = time.thread_time()
        work()
        took.append((time.thread_time() - began) * 1e3)
    return statistics.median(took)


def floors(rig: Rig, media: MediaConfig) -> dict[str, float]:
    """Milliseconds a frame."""
    box = rig.box
    x, y = np.meshgrid(np.arange(box.w, dtype=np.float32) * 2 + 0.7, np.arange(box.h, dtype=np.float32) * 2 + 0.3)
    half_x, half_y = x[::2, ::2] / 2, y[::2, ::2] / 2
    still = np.full((rig.size * 3 // 2, rig.size), 128, np.uint8)
    still[: rig.size] = cv2.resize(rig.luma, (rig.size, rig.size), interpolation=cv2.INTER_AREA)

    def warp() -> None:
        sample_at(rig.luma, x, y)
        for chroma in (rig.chroma_u, rig.chroma_v):
            sample_at(chroma, half_x, half_y)

    found = {"the warp": least(warp), "composing": least(still.copy)}
    with encode.FragmentEncoder(rig.size, rig.size, media) as encoder, clocks() as clock:
        encoder.push_audio(np.zeros(10 * SPEECH_RATE, np.float32))
        encoder.encode([still] * SEGMENT_FRAMES)
        clock.seconds.clear()
        for _ in range(6):
            encoder.encode([still] * SEGMENT_FRAMES)
        found |= {step: clock.seconds[step] * 1e3 / (6 * SEGMENT_FRAMES) for step in ("H.264", "AAC", "fragments")}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--avatar", default="interviewer_woman")
    parser.add_argument("--voice", default="nova")
    parser.add_argument("--takes", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    described = machine()
    with tempfile.TemporaryDirectory() as folder:
        config = load_config("local", {"cache": {"enabled": False}, "avatars": {"uri": folder}, "lipsync": {"engine": "animator"}})
        local = LocalPipeline(config)
        take(local, 0, options.avatar, options.voice)
        takes = [take(local, number, options.avatar, options.voice) for number in range(1, options.takes + 1)]
        found = floors(Rig.from_arrays(local.store.load(options.avatar).arrays("animator")), config.mux.media)
    steps = {step: round(statistics.median(spent[step] for spent, _, _ in takes), 3) for step in takes[0][0]}
    least_of = {step: round(ms, 3) for step, ms in found.items()}
    print(f"{'milliseconds of processor time a frame':<40} {'here':>7} {'floor':>7}")
    for step, ms in steps.items():
        print(f"{step:<40} {ms:>7.3f} {least_of.get(step, ''):>7}")
    total = round(sum(steps.values()), 3)
    print(f"{'together':<40} {total:>7.3f}")
    result = {
        "machine": described,
        "avatar": options.avatar,
        "voice": options.voice,
        "frames": sum(frames for _, frames, _ in takes),
        "bytes_per_frame": round(statistics.median(size for _, _, size in takes)),
        "steps_ms": steps,
        "total_ms": total,
        "floors_ms": least_of,
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
