"""Train the sound drive on our own offline voices: `python -m musetalk.animator.train_sound`.

Every voice reads sentences; its phonemes make the curves that the regressor learns to hear. Each utterance is learnt three times, twice as
if through other rooms, microphones and throats. Deterministic: the same voices and seed give the same file.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contracts import FloatArray, Phoneme
from musetalk.animator.controls import JAW, LOWER_DROP, ROUND, TONGUE, UPPER_RAISE, WIDE
from musetalk.animator.drive import smooth
from musetalk.animator.hearing import FEATURE_RATE, LOUDNESS_RATE, loud_level, loudness
from musetalk.animator.segments import segments_of, slide_closures, with_gains
from musetalk.animator.shapes import blend, contacts
from musetalk.animator.sound import MODEL_PATH, SoundModel, features_of
from musetalk.animator.training_voices import Reading, readings
from timeline import SPEECH_RATE

Samples = NDArray[np.float64]

HIDDEN = 600
RIDGE = 30.0
COPIES = 2
SEED = 7


@dataclass(frozen=True)
class Example:
    """features (n, 286) and targets (n, 8) at `FEATURE_RATE`."""

    features: FloatArray
    targets: FloatArray


def targets_of(pcm: FloatArray, phonemes: Sequence[Phoneme]) -> FloatArray:
    """The channels (n, 8) that phonemes ask for, one row every 10 ms, contacts kept apart from the opening."""
    level = loud_level(pcm)
    loud = loudness(pcm, level)
    segments = with_gains(slide_closures(segments_of(phonemes), loud, LOUDNESS_RATE, 0.0), loud, LOUDNESS_RATE, 0.0)
    grid = np.arange(2 * (len(pcm) * FEATURE_RATE // SPEECH_RATE + 1)) / LOUDNESS_RATE
    curves = smooth(blend(segments, grid))
    shut, tuck = contacts(segments, grid)
    wanted = [*(curves[:, c] for c in (JAW, LOWER_DROP, UPPER_RAISE, WIDE, ROUND, TONGUE)), shut, tuck]
    return np.stack(wanted, axis=1)[::2].astype(np.float32)


def disguised(pcm: FloatArray, phonemes: Sequence[Phoneme], rng: np.random.Generator) -> tuple[FloatArray, tuple[Phoneme, ...]]:
    """The same words as if from another throat (resampled), through another microphone and room, with noise behind them."""
    factor = float(rng.uniform(0.86, 1.18))
    n = int(len(pcm) * factor)
    other: Samples = np.interp(np.arange(n) / factor, np.arange(len(pcm)), pcm)
    moved = tuple(Phoneme(p.symbol, round(p.start * factor), round(p.end * factor), p.stress) for p in phonemes)
    if rng.random() < 0.4:
        other = _in_a_room(other, rng)
    spectrum = np.fft.rfft(other)
    hertz = np.linspace(0.0, SPEECH_RATE / 2, len(spectrum))
    octaves = np.log2(np.maximum(hertz, 60.0) / 1_000.0)
    decibels = rng.uniform(-3.5, 3.5) * octaves
    for _ in range(3):
        decibels += rng.uniform(-4.0, 4.0) * np.cos(octaves * rng.uniform(0.6, 3.0) + rng.uniform(0.0, 2 * np.pi))
    if rng.random() < 0.25:  # a telephone or a narrow codec
        decibels -= 60.0 * (np.clip((hertz - rng.uniform(3_300, 5_500)) / 600.0, 0.0, 1.0) + np.clip((250.0 - hertz) / 200.0, 0.0, 1.0))
    other = np.fft.irfft(spectrum * 10.0 ** (np.clip(decibels, -60.0, 15.0) / 20.0), n)
    level = loud_level(other.astype(np.float32))
    return (other + level * 10.0 ** (rng.uniform(-40.0, -14.0) / 20.0) * _noise(n, rng)).astype(np.float32), moved


def _in_a_room(pcm: Samples, rng: np.random.Generator) -> Samples:
    length = round(rng.uniform(0.06, 0.25) * SPEECH_RATE)
    tail = rng.standard_normal(length) * np.exp(-5.0 * np.arange(length) / length)
    tail *= 10.0 ** (rng.uniform(-14.0, -5.0) / 20.0) / np.sqrt(np.square(tail).sum())
    tail[0] = 1.0
    size = len(pcm) + length
    wet = np.fft.irfft(np.fft.rfft(pcm, size) * np.fft.rfft(tail, size), size)
    return np.asarray(wet[: len(pcm)])


def _noise(n: int, rng: np.random.Generator) -> Samples:
    """Noise of unit RMS, somewhere between white and brown."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    hertz = np.maximum(np.linspace(0.0, SPEECH_RATE / 2, len(spectrum)), 50.0)
    coloured = np.fft.irfft(spectrum * hertz ** -rng.uniform(0.0, 1.0), n)
    return np.asarray(coloured / np.sqrt(np.mean(np.square(coloured))))


def examples(spoken: Sequence[Reading], copies: int, seed: int) -> Iterator[Example]:
    rng = np.random.default_rng(seed)
    for reading in spoken:
        versions = [(reading.pcm, reading.phonemes)]
        versions += [disguised(reading.pcm, reading.phonemes, rng) for _ in range(copies)]
        for pcm, phonemes in versions:
            targets = targets_of(pcm, phonemes)
            level = loud_level(pcm) * 10.0 ** (rng.uniform(-2.5, 2.5) / 20.0)  # what a stream has heard so far is not the whole
            features = features_of(pcm, level)
            n = min(len(features), len(targets))
            yield Example(features[:n], targets[:n])


def fit(learnt: Sequence[Example], seed: int = SEED, hidden: int = HIDDEN, ridge: float = RIDGE) -> SoundModel:
    """Ridge regression on the features and on random ReLU features of them."""
    rng = np.random.default_rng(seed)
    everything = np.concatenate([e.features for e in learnt])
    mean, scale = everything.mean(axis=0), 1.0 / (everything.std(axis=0) + 1e-3)
    d = len(mean)
    projection = np.concatenate([rng.standard_normal((d, hidden)) / np.sqrt(d), rng.uniform(-1.0, 1.0, (1, hidden))])
    projection = projection.astype(np.float16).astype(np.float32)
    gram, moment = np.zeros((d + 1 + hidden, d + 1 + hidden)), np.zeros((d + 1 + hidden, learnt[0].targets.shape[1]))
    for example in learnt:
        x = np.ones((len(example.features), d + 1), np.float32)
        x[:, :-1] = np.clip((example.features - mean) * scale, -5.0, 5.0)
        z = np.concatenate([x, np.maximum(x @ projection, 0.0)], axis=1)
        gram += z.T @ z
        moment += z.T @ example.targets
    weights = np.linalg.solve(gram + ridge * np.eye(len(gram)), moment).astype(np.float32)
    ones = np.ones(weights.shape[1], np.float32)
    model = SoundModel(mean.astype(np.float32), scale.astype(np.float32), projection, weights[: d + 1], weights[d + 1 :], ones)
    predicted = np.concatenate([model.predict(e.features) for e in learnt[:: COPIES + 1]])
    wanted = np.concatenate([e.targets for e in learnt[:: COPIES + 1]])
    gains = np.clip(wanted.std(axis=0) / predicted.std(axis=0), 1.0, 1.35).astype(np.float32)
    return SoundModel(model.mean, model.scale, model.hidden, model.linear, model.readout, gains)


def save(model: SoundModel, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {"hidden": np.float16}
    arrays = {name: getattr(model, name).astype(kinds.get(name, np.float32)) for name in SoundModel.__dataclass_fields__}
    np.savez(path, allow_pickle=False, **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=MODEL_PATH)
    options = parser.parse_args()
    began = time.perf_counter()
    spoken = list(readings())
    learnt = list(examples(spoken, COPIES, SEED))
    print(f"{len(spoken)} utterances, {sum(len(r.pcm) for r in spoken) / SPEECH_RATE:.0f} s of speech in {time.perf_counter() - began:.1f} s")
    began = time.perf_counter()
    model = fit(learnt)
    save(model, options.output)
    print(f"fitted in {time.perf_counter() - began:.1f} s: {options.output} ({options.output.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    main()
