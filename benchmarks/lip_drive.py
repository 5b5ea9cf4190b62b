"""How well the mouth that is heard resembles the one that phonemes ask for, on sentences nothing was trained on; and what listening costs.

    python -m benchmarks.lip_drive [--json]

Correlations (r) over all frames of a voice, sound-only drive against phoneme drive, both as the engine makes them: the gap between the lips,
the jaw, rounding minus spreading; clean and with white noise behind the voice. Closed: share of p/b/m at which the heard lips meet too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from museserve.messages import FloatArray, Phoneme, SpeechWindow
from museserve.timebase import FPS, SEGMENT_FRAMES, SPEECH_RATE, SPEECH_SAMPLES_PER_FRAME, frames_for
from musetalk.speech_cues.controls import JAW, LIP_CLOSE, LOWER_DROP, ROUND, UPPER_RAISE, WIDE
from musetalk.speech_cues.drive import CONTEXT_S, LEAD_S, LOOKAHEAD_S, Drive, listen
from musetalk.speech_cues.loudness import loud_level
from tools.training_voices import Reading, readings

NOISES_DB: tuple[float | None, ...] = (None, -20.0, -10.0)
CLOSED_MM = 1.0


def gap_mm(rows: FloatArray) -> FloatArray:
    return np.asarray(15.0 * (rows[:, JAW] - rows[:, LIP_CLOSE]) + 4.5 * rows[:, LOWER_DROP] + 3.2 * rows[:, UPPER_RAISE])


def rows_of(pcm: FloatArray, phonemes: Sequence[Phoneme], drive: Drive) -> FloatArray:
    speech = SpeechWindow(0, pcm, 0, frames_for(len(pcm)), tuple(phonemes), loud_level(pcm), final=True)
    return np.asarray(listen(speech, drive, head_motion=0.0).rows)


def correlation(a: list[FloatArray], b: list[FloatArray]) -> float:
    return round(float(np.corrcoef(np.concatenate(a), np.concatenate(b))[0, 1]), 3)


def compare(spoken: Sequence[Reading], noise_db: float | None) -> dict[str, float]:
    """One voice's sentences: r of gap, jaw and corners, and the share of closures heard."""
    rng = np.random.default_rng(0)
    wanted: dict[str, list[FloatArray]] = defaultdict(list)
    heard: dict[str, list[FloatArray]] = defaultdict(list)
    closed: list[bool] = []
    for reading in spoken:
        pcm = reading.pcm
        target = rows_of(pcm, reading.phonemes, "phonemes")
        if noise_db is not None:
            pcm = (pcm + loud_level(pcm) * 10 ** (noise_db / 20) * rng.standard_normal(len(pcm))).astype(np.float32)
        result = rows_of(pcm, reading.phonemes, "sound")
        for kind, rows in ((wanted, target), (heard, result)):
            kind["gap"].append(gap_mm(rows))
            kind["jaw"].append(rows[:, JAW])
            kind["corners"].append(rows[:, ROUND] - rows[:, WIDE])
        times = np.arange(len(result)) / FPS + LEAD_S
        for phoneme in reading.phonemes:
            if phoneme.symbol in ("p", "b", "m"):
                near = (times > phoneme.start / SPEECH_RATE - 0.05) & (times < phoneme.end / SPEECH_RATE + 0.05)
                closed.append(bool(gap_mm(result)[near].min(initial=99.0) < CLOSED_MM))
    scores = {name: correlation(wanted[name], heard[name]) for name in ("gap", "jaw", "corners")}
    return scores | {"closed": round(float(np.mean(closed)), 2)}


def cost_ms(pcm: FloatArray, phonemes: Sequence[Phoneme], drive: Drive) -> dict[str, float]:
    """Milliseconds per second of speech: the whole utterance at once, and in stretches of a segment with their context."""
    seconds = len(pcm) / SPEECH_RATE
    level = loud_level(pcm)
    stretches = []
    for first in range(0, frames_for(len(pcm)), SEGMENT_FRAMES):
        begin = max(first * SPEECH_SAMPLES_PER_FRAME - int(CONTEXT_S * SPEECH_RATE), 0) // SPEECH_SAMPLES_PER_FRAME * SPEECH_SAMPLES_PER_FRAME
        end = (first + SEGMENT_FRAMES) * SPEECH_SAMPLES_PER_FRAME + int(LOOKAHEAD_S * SPEECH_RATE)
        near = tuple(p for p in phonemes if p.end > begin and p.start < end)
        stretches.append(SpeechWindow(begin, pcm[begin:end], first, SEGMENT_FRAMES, near, level, final=end >= len(pcm)))

    def best(run: Any) -> float:
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            run()
            taken.append(time.perf_counter() - began)
        return round(min(taken) * 1e3 / seconds, 2)

    return {"whole": best(lambda: rows_of(pcm, phonemes, drive)), "segments": best(lambda: [listen(s, drive) for s in stretches])}


def measure() -> dict[str, Any]:
    by_voice: dict[str, list[Reading]] = defaultdict(list)
    for reading in readings(held_out=True):
        by_voice[reading.speaker].append(reading)
    report: dict[str, Any] = {"voices": {}, "ms_per_second": {}}
    for voice, spoken in by_voice.items():
        report["voices"][voice] = {"clean" if n is None else f"{n:g} dB": compare(spoken, n) for n in NOISES_DB}
    longest = max((r for spoken in by_voice.values() for r in spoken), key=lambda r: len(r.pcm))
    drives: tuple[Drive, ...] = ("mix", "phonemes", "sound")
    report["ms_per_second"] = {drive: cost_ms(longest.pcm, longest.phonemes, drive) for drive in drives}
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    report = measure()
    if options.json:
        print(json.dumps(report))
        return
    print(f"{'voice':22}{'noise':>8}{'gap r':>8}{'jaw r':>8}{'corners r':>11}{'closed':>8}")
    for voice, rows in report["voices"].items():
        for noise, scores in rows.items():
            print(f"{voice:22}{noise:>8}{scores['gap']:8.2f}{scores['jaw']:8.2f}{scores['corners']:11.2f}{scores['closed']:8.0%}")
    for drive, cost in report["ms_per_second"].items():
        print(f"listening, {drive}: {cost['whole']} ms a second of speech at once, {cost['segments']} ms in segments with context")


if __name__ == "__main__":
    main()
