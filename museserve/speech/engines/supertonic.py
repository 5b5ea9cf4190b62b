"""Supertonic 3: natural voices of women and men for Korean and thirty other languages, from files that are downloaded once.

Four networks: how long the sentence is, its text encoded, speech made of noise in `steps` passes, and the vocoder. They read letters and know no
phonemes, so times come from espeak-ng's voice saying the same (`forced_alignment`). Korean is given as it is written, numbers and terms in words:
the networks have learned its pronunciation from such text, and a text written as it is pronounced would be pronounced again.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from museserve.errors import EngineUnavailableError, SpeechEngineError, WeightsError
from museserve.messages import FloatArray
from museserve.speech.engines.espeak import EspeakEngine
from museserve.speech.engines.forced_alignment import align
from museserve.speech.engines.loudness import gain_for
from museserve.speech.engines.natural import DOWNLOAD
from museserve.speech.engines.onnx_graph import open_whole
from museserve.speech.engines.postprocess import MARGIN_S, finish, sounding_span
from museserve.speech.engines.resample import resample
from museserve.speech.engines.voice_engine import SpeechMark, Synthesis, joined
from museserve.speech.engines.voices import ESPEAK_MAN, ESPEAK_WOMAN, SUPERTONIC, Voice
from museserve.timebase import SPEECH_RATE
from museserve.weights.catalogue import SUPERTONIC as FOLDER
from museserve.weights.folder import WeightsFolder

logger = logging.getLogger(__name__)

# Letters at once; beyond them the networks drop words. Korean has more sounds to a letter.
LONGEST, LONGEST_KOREAN = 300, 120
MEASURED = "안녕하세요, 만나서 반갑습니다. 먼저 간단하게 자기소개를 부탁드립니다."  # what a voice's level is measured on
SLOW = 0.7  # seconds of work for a second of speech above which a listener may have to wait
_STYLES = {"style_ttl": 3, "style_dp": 3}  # arrays of a voice's file, and their axes
_TEXT = ("text_ids", "text_mask")
_PLAIN = {ord(written): said for written, said in zip("‐‑‒–—“”‘’´`_[]|/<>", 5 * "-" + 2 * '"' + 4 * "'" + 7 * " ", strict=True)}
_ENDINGS = tuple(".!?;:,'\")]}…。」』】〉》›»")


@dataclass(frozen=True)
class _Networks:
    duration: ort.InferenceSession
    text: ort.InferenceSession
    speech: ort.InferenceSession
    vocoder: ort.InferenceSession
    letters: list[int]  # the number of each code point, -1 for none
    rate: int
    channels: int
    hop: int  # samples of a step


@dataclass(frozen=True)
class _Style:
    ttl: FloatArray
    dp: FloatArray


class SupertonicEngine:
    name = "supertonic"
    speeds = (0.7, 2.0)

    def __init__(self, weights: WeightsFolder, steps: int, threads: int = 1) -> None:
        self._weights, self._steps, self._threads = weights, steps, threads
        self._espeak = EspeakEngine()
        self._lock = threading.Lock()
        self._networks: _Networks | None = None
        self._styles: dict[str, _Style] = {}
        self._gains: dict[str, float] = {}

    def warm(self) -> None:
        """The two voices that `auto` takes; says how fast they are."""
        for name in ("supertonic-f1", "supertonic-m1"):
            self._gain(SUPERTONIC[name])
        began = time.perf_counter()
        seconds = len(self._synthesize(MEASURED, SUPERTONIC["supertonic-f1"], "ko", 1.0)) / SPEECH_RATE
        cost = (time.perf_counter() - began) / seconds
        say = logger.warning if cost > SLOW else logger.info
        advice = "; fewer speech.supertonic.steps or more speech.threads make it faster" if cost > SLOW else ""
        say("supertonic makes a second of Korean in %.2f s with %d steps%s", cost, self._steps, advice)

    def speak(self, text: str, voice: Voice, language: str, speed: float) -> Iterator[Synthesis]:
        gain = self._gain(voice)
        parts = _parts(text, LONGEST_KOREAN if language == "ko" else LONGEST)
        for number, (first, last) in enumerate(parts):
            made = self._part(text[first:last], voice, language, speed, gain)
            marks = tuple(SpeechMark(m.first + first, m.last + first, m.start, m.end) for m in made.marks)
            following = parts[number + 1][0] if number + 1 < len(parts) else None
            yield replace(made, marks=marks, text_end=following)

    def _part(self, text: str, voice: Voice, language: str, speed: float, gain: float) -> Synthesis:
        pcm = self._synthesize(text, voice, language, speed)
        margin = round(MARGIN_S * SPEECH_RATE)
        first, last = sounding_span(pcm)
        pcm = pcm[max(0, first - margin) : last + margin] if last else pcm[:0]
        known = joined(self._espeak.speak(text, ESPEAK_MAN if voice.gender == "male" else ESPEAK_WOMAN, language, speed))
        phonemes, marks = align(pcm, known)
        return finish(pcm, phonemes, marks, gain, 0.0)

    def _gain(self, voice: Voice) -> float:
        """Of this voice, measured when it first speaks; the same in every process, as its sound is."""
        if voice.name not in self._gains:
            gain = gain_for(self._synthesize(MEASURED, voice, "ko", 1.0))
            if gain is None:
                raise EngineUnavailableError(f"the voice {voice.name} makes no sound. To mend it: museserve weights verify --for voices")
            self._gains[voice.name] = gain
        return self._gains[voice.name]

    def _synthesize(self, text: str, voice: Voice, language: str, speed: float) -> FloatArray:
        """float32 (n,) at `SPEECH_RATE`, as it comes. Raises SpeechEngineError: the networks failed on this text."""
        made, style = self._loaded(), self._style(voice)
        ids = encode(text, language, made.letters)
        if not ids.size:
            return np.zeros(0, np.float32)
        given = {"text_ids": ids, "text_mask": np.ones((1, 1, ids.shape[1]), np.float32)}
        try:
            (lasts, *_) = made.duration.run(None, {**given, "style_dp": style.dp})
            samples = int(float(lasts.reshape(-1)[0]) / speed * made.rate)
            if samples <= 0:
                return np.zeros(0, np.float32)
            (encoded, *_) = made.text.run(None, {**given, "style_ttl": style.ttl})
            # The noise depends on what is said alone: the same clause is the same sound in any process.
            noise = np.random.default_rng(crc32(ids.tobytes() + voice.name.encode()))
            latent = noise.standard_normal((1, made.channels, -(-samples // made.hop)), np.float32)
            fixed = {
                "text_emb": encoded,
                "style_ttl": style.ttl,
                "text_mask": given["text_mask"],
                "latent_mask": np.ones((1, 1, latent.shape[2]), np.float32),
                "total_step": np.asarray([self._steps], np.float32),
            }
            for step in range(self._steps):
                (latent, *_) = made.speech.run(None, {**fixed, "noisy_latent": latent, "current_step": np.asarray([step], np.float32)})
            (sound, *_) = made.vocoder.run(None, {"latent": latent})
        except Exception as error:  # onnxruntime's own classes share no base but Exception
            raise SpeechEngineError(f"{voice.name} failed on {len(text)} characters: {str(error).splitlines()[0][:200]}") from error
        return resample(sound.reshape(-1)[:samples].astype(np.float32), made.rate)

    def _loaded(self) -> _Networks:
        with self._lock:
            if self._networks is None:
                self._networks = self._load()
            return self._networks

    def _load(self) -> _Networks:
        told, letters = self._json("onnx/tts.json"), self._json("onnx/unicode_indexer.json")
        try:
            rate, chunk = int(told["ae"]["sample_rate"]), int(told["ae"]["base_chunk_size"])
            channels, factor = int(told["ttl"]["latent_dim"]), int(told["ttl"]["chunk_compress_factor"])
        except (KeyError, TypeError, ValueError) as error:
            raise EngineUnavailableError(f"{FOLDER}/onnx/tts.json is not the description that was expected: {error!r}") from None
        if not isinstance(letters, list) or not letters:
            raise EngineUnavailableError(f"{FOLDER}/onnx/unicode_indexer.json is not the list that was expected")
        speech = ("noisy_latent", "text_emb", "style_ttl", "text_mask", "latent_mask", "current_step", "total_step")
        return _Networks(
            self._open("duration_predictor", (*_TEXT, "style_dp")),
            self._open("text_encoder", (*_TEXT, "style_ttl")),
            self._open("vector_estimator", speech),
            self._open("vocoder", ("latent",)),
            letters,
            rate,
            channels * factor,
            chunk * factor,
        )

    def _open(self, name: str, inputs: tuple[str, ...]) -> ort.InferenceSession:
        try:
            return open_whole(self._weights.path(f"{FOLDER}/onnx/{name}.onnx"), inputs, self._threads)
        except WeightsError as error:
            raise EngineUnavailableError(f"the natural voices cannot be loaded: {error}") from None

    def _style(self, voice: Voice) -> _Style:
        if voice.name not in self._styles:
            file = f"voice_styles/{voice.name.rpartition('-')[2].upper()}.json"
            told, arrays = self._json(file), {}
            for name, axes in _STYLES.items():
                try:
                    array = np.asarray(told[name]["data"], np.float32).reshape(told[name]["dims"])
                except (KeyError, TypeError, ValueError) as error:
                    raise EngineUnavailableError(f"{FOLDER}/{file} is not the voice that was expected: {error!r}") from None
                if array.ndim != axes or array.shape[0] != 1:
                    raise EngineUnavailableError(f"{FOLDER}/{file} is not the voice that was expected: {name} is of shape {array.shape}")
                arrays[name] = array
            self._styles[voice.name] = _Style(arrays["style_ttl"], arrays["style_dp"])
        return self._styles[voice.name]

    def _json(self, file: str) -> Any:
        try:
            return json.loads(self._weights.path(f"{FOLDER}/{file}").read_text(encoding="utf-8"))
        except (WeightsError, OSError, ValueError) as error:
            raise EngineUnavailableError(f"the natural voices cannot be loaded: {error} ({DOWNLOAD})") from None


def encode(text: str, language: str, letters: list[int]) -> NDArray[np.int64]:
    """The numbers (1, n) of a text between its language's tags; (1, 0) when nothing of it is known.

    As the networks were trained: decomposed (NFKD, Hangul into its letters), plain signs, ended by a mark.
    """
    plain = " ".join(unicodedata.normalize("NFKD", text).translate(_PLAIN).split())
    known = "".join(char for char in plain if _number(char, letters) >= 0)
    if not any(char.isalnum() for char in known):
        return np.zeros((1, 0), np.int64)
    ended = known if known.endswith(_ENDINGS) else f"{known}."
    tagged = f"<{language}>{ended}</{language}>"
    return np.asarray([[_number(char, letters) for char in tagged]], np.int64)


def _number(char: str, letters: list[int]) -> int:
    return letters[ord(char)] if ord(char) < len(letters) else -1


def _parts(text: str, longest: int) -> list[tuple[int, int]]:
    """Stretches (first, last) of at most `longest` characters, as equal as words allow: a short rest would sound torn off."""
    parts: list[tuple[int, int]] = []
    first = 0
    while len(text) - first > longest:
        wanted = first + (len(text) - first) // -(-(len(text) - first) // longest)
        blanks = [i for i in range(first + 1, first + longest + 1) if text[i - 1] == " "]
        last = min(blanks, key=lambda i: abs(i - wanted)) if blanks else wanted
        parts.append((first, last))
        first = last
    return [*parts, (first, len(text))]
