"""How loud each offline voice is by ITU-R BS.1770, over sentences and one by one. What `Voice.gain` is chosen by.

    python -m benchmarks.loudness [--speed 1.0] [--json FILE]

whole: integrated over all sentences, the figure that has to be `loudness.TARGET_LUFS`. lowest, highest: of single sentences. peak: the highest true
peak of all. gain: what would bring `whole` to the target, the limiter aside.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from museserve.messages import FloatArray
from museserve.speech.engines.espeak import EspeakEngine
from museserve.speech.engines.hibari import HibariEngine
from museserve.speech.engines.loudness import TARGET_LUFS, measure
from museserve.speech.engines.piper import PiperEngine
from museserve.speech.engines.voice_engine import VoiceEngine, joined
from museserve.speech.engines.voices import ESPEAK_MAN, ESPEAK_WOMAN, HIBARI, JOE, Voice
from tools.training_voices import ENGLISH, KOREAN

SPEAKERS = ((HIBARI, "en"), (JOE, "en"), (ESPEAK_WOMAN, "ko"), (ESPEAK_MAN, "ko"), (ESPEAK_WOMAN, "en"), (ESPEAK_MAN, "en"))
SENTENCES = 16


@dataclass(frozen=True)
class Row:
    voice: str
    language: str
    sentences: int
    whole: float
    lowest: float
    highest: float
    peak: float
    gain: float


def row(voice: Voice, language: str, takes: list[FloatArray]) -> Row:
    """Of sentences in float32 at `SPEECH_RATE`."""
    each, whole = [measure(pcm) for pcm in takes], measure(np.concatenate(takes)).lufs
    levels, peak = [found.lufs for found in each], max(found.true_peak_db for found in each)
    gain = voice.gain * 10 ** ((TARGET_LUFS - whole) / 20)
    return Row(voice.name, language, len(takes), whole, min(levels), max(levels), round(peak, 2), round(gain, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    engines: dict[str, VoiceEngine] = {"hibari": HibariEngine(), "piper": PiperEngine(), "espeak": EspeakEngine()}
    rows = []
    for voice, language in SPEAKERS:
        texts = (KOREAN if language == "ko" else ENGLISH)[:SENTENCES]
        rows.append(row(voice, language, [joined(engines[voice.engine].speak(text, voice, language, options.speed)).pcm for text in texts]))
        print("  ".join(f"{name} {value}" for name, value in asdict(rows[-1]).items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"speed": options.speed, "voices": [asdict(found) for found in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
