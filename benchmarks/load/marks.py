"""Watermarks that tell in what comes back whose it is: a tone pattern in the sound, a coloured strip in the picture."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from museserve.messages import ByteArray, FloatArray
from museserve.timebase import OUTPUT_RATE, SPEECH_RATE

SYMBOL_S = 0.16
TONES_HZ = tuple(500 + 150 * k for k in range(16))
LEAST_S = 4 * SYMBOL_S  # shorter pieces of sound cannot be told apart: their first and last symbol are passed over
LEVEL = 0.3
PURE = 0.9  # part of a symbol's power between the lowest and the highest tone that its own tone has
OWN = 0.95  # part of the symbols that must be right; the wrong pattern has about a sixteenth
# RGB, far apart also after H.264 with half the chroma.
COLOURS = {"red": (200, 40, 40), "green": (40, 170, 60), "blue": (50, 70, 210), "yellow": (210, 200, 50)}
STRIP = 0.14  # of the portrait's width, at both sides of its upper half
FAR = 40  # a colour whose channels are further off in the mean is none of them


def pattern(key: str, symbols: int) -> NDArray[np.intp]:
    """The tones of `key`, as numbers in `TONES_HZ`; no two that follow each other are the same."""
    steps = np.random.default_rng(zlib.crc32(key.encode())).integers(1, len(TONES_HZ), symbols)
    return np.cumsum(steps) % len(TONES_HZ)


def recording(key: str, seconds: float) -> FloatArray:
    """The pattern of `key` as sound: float32 (n,) at 24 kHz, one tone every `SYMBOL_S`."""
    per_symbol = round(SYMBOL_S * SPEECH_RATE)
    tones = np.repeat(np.array(TONES_HZ)[pattern(key, round(seconds / SYMBOL_S))], per_symbol)
    phase = 2 * np.pi * np.cumsum(tones) / SPEECH_RATE  # no click where the tone changes
    return (LEVEL * np.sin(phase)).astype(np.float32)


@dataclass(frozen=True)
class SoundFound:
    """right: part of the symbols that are those of the key; pure: of which nothing else was to be heard; of: whose pattern it is instead."""

    right: float
    pure: float
    of: str = ""

    @property
    def own(self) -> bool:
        return self.right >= OWN and self.pure >= OWN


def listen(pcm: FloatArray, key: str, seconds: float, others: Mapping[str, float] | None = None) -> SoundFound:
    """What of `recording(key, seconds)` is in float32 (n,) at 48 kHz, symbol by symbol at its place in time.

    others: keys with the seconds of their recordings, which are asked when the pattern is not the key's own.
    The first and last symbol are passed over: the encoder may have taken some of them.
    """
    per_symbol = round(SYMBOL_S * OUTPUT_RATE)
    whole = min(round(seconds / SYMBOL_S), len(pcm) // per_symbol)
    if whole < 3:
        return SoundFound(0.0, 0.0)
    margin = per_symbol // 8
    heard = pcm[: whole * per_symbol].reshape(whole, per_symbol)[1:-1, margin:-margin]
    power = np.square(np.abs(np.fft.rfft(heard * np.hanning(heard.shape[1]))))
    bins = np.fft.rfftfreq(heard.shape[1], 1 / OUTPUT_RATE)
    of_tone = np.stack([power[:, np.abs(bins - tone) < 40].sum(axis=1) for tone in TONES_HZ], axis=1)
    band = power[:, (bins > TONES_HZ[0] - 100) & (bins < TONES_HZ[-1] + 100)].sum(axis=1)
    loudest = of_tone.argmax(axis=1)
    pure = float((of_tone.max(axis=1) > PURE * np.maximum(band, 1e-9)).mean())
    # A recording that stops early is as wrong as one of somebody else's.
    wanted = max(1, round(seconds / SYMBOL_S) - 2)

    def right(name: str, length: float) -> float:
        expected = pattern(name, round(length / SYMBOL_S))[1 : 1 + len(loudest)]
        return float((loudest[: len(expected)] == expected).sum()) / wanted

    own = right(key, seconds)
    if own >= OWN:
        return SoundFound(own, pure)
    whose = max(others or {}, key=lambda name: right(name, (others or {})[name]), default="")
    return SoundFound(own, pure, whose if whose and right(whose, (others or {})[whose]) > 0.5 else "")


def painted(portrait: bytes, colour: str) -> bytes:
    """The picture of an avatar with strips of `colour` beside the head, as PNG."""
    picture = cv2.imdecode(np.frombuffer(portrait, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    height, width = picture.shape[:2]
    for columns in (slice(0, round(STRIP * width)), slice(width - round(STRIP * width), width)):
        picture[: height // 2, columns] = COLOURS[colour][::-1]
    return bytes(cv2.imencode(".png", picture)[1])


def colour_of(rgb: ByteArray) -> str:
    """The colour of the left strip of a picture (h, w, 3); empty when it is none of them."""
    height, width = rgb.shape[:2]
    seen = rgb[height // 16 : height // 4, width // 50 : width // 16].mean(axis=(0, 1))
    name = min(COLOURS, key=lambda each: float(np.abs(seen - COLOURS[each]).mean()))
    return name if float(np.abs(seen - COLOURS[name]).mean()) < FAR else ""


def sound_of(film: bytes) -> FloatArray:
    """All sound of an init segment and its fragments, float32 (n,) at 48 kHz, sample 0 at media time 0."""
    with av.open(io.BytesIO(film), "r") as container:
        stream = container.streams.audio[0]
        parts: list[FloatArray] = []
        at = 0
        for frame in container.decode(stream):
            begins = round(float((frame.pts or 0) * (frame.time_base or 0)) * OUTPUT_RATE)
            if begins > at:  # sound is missing: leave its place empty, so that what follows stays where it is
                parts.append(np.zeros(begins - at, np.float32))
            parts.append(np.asarray(frame.to_ndarray(), np.float32).mean(axis=0))
            at = max(at, begins) + frame.samples
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def picture_of(film: bytes) -> ByteArray:
    """The first picture of an init segment and its fragments, uint8 (h, w, 3). Raises ValueError: there is none."""
    return next(pictures_of(film, 1))


def pictures_of(film: bytes, every: int) -> Iterator[ByteArray]:
    """The first picture of an init segment and its fragments, and each so many behind it: all of them must be decoded, as they are predicted from
    each other. uint8 (h, w, 3). Raises ValueError: there is none."""
    n = -1
    with av.open(io.BytesIO(film), "r") as container:
        for n, frame in enumerate(container.decode(container.streams.video[0])):
            if n % every == 0:
                yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    if n < 0:
        raise ValueError("no picture could be decoded")
