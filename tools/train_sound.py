"""Train the sound model on our own offline voices: `python -m tools.train_sound`.

Every voice reads sentences; its phonemes make the curves that the network learns. Each utterance is learnt three times,
twice as if through other rooms, microphones and throats. Deterministic: the same voices and seed give the same file.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from museserve.messages import FloatArray, Phoneme
from museserve.timebase import SPEECH_RATE
from musetalk.speech_cues.coarticulation import coarticulate, contacts
from musetalk.speech_cues.controls import JAW, LOWER_DROP, ROUND, TONGUE, UPPER_RAISE, WIDE
from musetalk.speech_cues.drive import smooth
from musetalk.speech_cues.loudness import FEATURE_RATE, LOUDNESS_RATE, loud_level, loudness
from musetalk.speech_cues.segments import aligned_segments
from musetalk.speech_cues.sound_model import MODEL_PATH, SoundModel, features_of
from tools.training_voices import Reading, readings

Samples = NDArray[np.float64]

WIDTHS = (192, 96)
EPOCHS = 16
BATCH = 512
LEARNING_RATE, LEAST_RATE, WARM_UP_STEPS = 2e-3, 1e-6, 200
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam
WEIGHT_DECAY = 1e-5
COPIES = 2  # of each reading, augmented
SEED = 7


@dataclass(frozen=True)
class Example:
    """features (n, 286) and targets (n, 8) at `FEATURE_RATE`."""

    features: FloatArray
    targets: FloatArray


def targets_of(pcm: FloatArray, phonemes: Sequence[Phoneme]) -> FloatArray:
    """The channels (n, 8) that phonemes ask for, one row every 10 ms, contacts kept apart from the opening."""
    segments = aligned_segments(phonemes, loudness(pcm, loud_level(pcm)), 0.0)
    grid = np.arange(2 * (len(pcm) * FEATURE_RATE // SPEECH_RATE + 1)) / LOUDNESS_RATE
    curves = smooth(coarticulate(segments, grid))
    shut, tuck = contacts(segments, grid)
    wanted = [*(curves[:, c] for c in (JAW, LOWER_DROP, UPPER_RAISE, WIDE, ROUND, TONGUE)), shut, tuck]
    return np.stack(wanted, axis=1)[::2].astype(np.float32)


def augmented(pcm: FloatArray, phonemes: Sequence[Phoneme], rng: np.random.Generator) -> tuple[FloatArray, tuple[Phoneme, ...]]:
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
        versions += [augmented(reading.pcm, reading.phonemes, rng) for _ in range(copies)]
        for pcm, phonemes in versions:
            targets = targets_of(pcm, phonemes)
            level = loud_level(pcm) * 10.0 ** (rng.uniform(-2.5, 2.5) / 20.0)  # what a stream has heard so far is not the whole
            features = features_of(pcm, level)
            n = min(len(features), len(targets))
            yield Example(features[:n], targets[:n])


def fit(learnt: Sequence[Example], seed: int = SEED, widths: tuple[int, int] = WIDTHS, epochs: int = EPOCHS) -> SoundModel:
    """Least squares by Adam with a warm-up and a cosine schedule; every channel counts as much as its variation.

    Source: Kingma and Ba, Adam: A Method for Stochastic Optimization (2015).
    """
    rng = np.random.default_rng(seed)
    features = np.concatenate([e.features for e in learnt])
    targets = np.concatenate([e.targets for e in learnt])
    spread = targets.std(axis=0) + 1e-3
    targets = (targets / spread).astype(np.float32)
    sizes = (features.shape[1], *widths, targets.shape[1])
    layers = [np.zeros((a + 1, b), np.float32) for a, b in zip(sizes, sizes[1:], strict=False)]
    for layer in layers:
        layer[:-1] = rng.standard_normal((layer.shape[0] - 1, layer.shape[1])) * np.sqrt(2.0 / (layer.shape[0] - 1))
    layers[-1] *= 0.1
    mean, scale = features.mean(axis=0), 1.0 / (features.std(axis=0) + 1e-3)
    model = SoundModel(mean.astype(np.float32), scale.astype(np.float32), *layers)
    features = model.standardised(features)
    means, squares = ([np.zeros_like(layer) for layer in layers] for _ in range(2))  # running, of the gradients
    steps_per_epoch = max(len(features) // BATCH, 1)
    for step in range(1, epochs * steps_per_epoch + 1):
        if (step - 1) % steps_per_epoch == 0:
            order = rng.permutation(len(features))
        batch = order[(step - 1) % steps_per_epoch * BATCH :][:BATCH]
        cosine = 0.5 + 0.5 * np.cos(np.pi * step / (epochs * steps_per_epoch))
        rate = LEARNING_RATE * min(1.0, step / WARM_UP_STEPS) * cosine + LEAST_RATE
        for k, gradient in enumerate(_gradients(layers, features[batch], targets[batch])):
            means[k] += (1.0 - BETAS[0]) * (gradient - means[k])
            squares[k] += (1.0 - BETAS[1]) * (np.square(gradient) - squares[k])
            deviation = np.sqrt(squares[k] / (1.0 - BETAS[1] ** step)) + EPSILON
            layers[k] -= (rate * (means[k] / (1.0 - BETAS[0] ** step) / deviation)).astype(np.float32)
    layers[-1] *= spread.astype(np.float32)
    return model


def _gradients(layers: Sequence[FloatArray], x: FloatArray, wanted: FloatArray) -> list[FloatArray]:
    """Of the mean squared error over the batch, for each layer with its bias in the last row."""
    inputs = [x]
    for layer in layers[:-1]:
        inputs.append(np.maximum(inputs[-1] @ layer[:-1] + layer[-1], 0.0))
    error = (inputs[-1] @ layers[-1][:-1] + layers[-1][-1] - wanted) / len(x)
    gradients: list[FloatArray] = []
    for layer, into in zip(reversed(layers), reversed(inputs), strict=True):
        gradients.append(np.concatenate([into.T @ error + WEIGHT_DECAY * layer[:-1], error.sum(axis=0, keepdims=True)]))
        error = (error @ layer[:-1].T) * (into > 0)
    return gradients[::-1]


def save(model: SoundModel, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = {"first", "second"}
    arrays = {name: getattr(model, name).astype(np.float16 if name in half else np.float32) for name in SoundModel.__dataclass_fields__}
    np.savez(path, allow_pickle=False, **arrays)


def main() -> None:
    parser = argparse.ArgumentParser("python -m tools.train_sound", description=__doc__)
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
