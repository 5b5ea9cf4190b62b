"""hibari: a neural woman's voice for English, eight megabytes, with the durations that its network predicts made visible."""

from __future__ import annotations

import json
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hibari
import numpy as np
import onnxruntime as ort
from hibari import dsp
from hibari.g2p import G2P
from hibari.g2p.normalize import normalize as hibari_normalize

from museserve.errors import EngineUnavailableError
from museserve.messages import FloatArray, Phoneme
from museserve.speech.engines import ipa
from museserve.speech.engines.alignment import durations_to_phonemes
from museserve.speech.engines.onnx_graph import Network
from museserve.speech.engines.postprocess import finish
from museserve.speech.engines.voice_engine import SpeechMark, Synthesis
from museserve.speech.engines.voices import Voice
from museserve.timebase import SPEECH_RATE

SPECTRUM = ("lh", "theta", "ln", "lr", "phi", "f0")  # what `dsp.synth` takes
DURATIONS = "/Clip_output_0"  # frames a symbol, of `FRAME` samples
FRAME = SPEECH_RATE // 40  # samples, 25 ms
# Seconds by which the sound runs ahead of the labels, a part of it with every label's length; measured by `tools.calibration`.
SHIFT_S, SHIFT_BY_LENGTH_S = -0.020, -0.031
MAX_SYMBOLS = 400  # what the network was made for
# What its reader does not bear (hibari-tts 0.2.1), each as one that it knows: raised, circled and other scripts' digits, at some of which it raises
# ValueError, and the one letter that has two when it is small, at which it raises TypeError.
_KNOWN = {ord(c): str(unicodedata.digit(c)) for c in map(chr, range(0x80, 0x20000)) if c.isdigit()} | {ord("İ"): "I"}
_ASSETS = Path(hibari.__file__).parent / "assets"


@dataclass(frozen=True)
class _Token:
    """One token of the text: its signs, and text[first:last] that it stands for (empty when it could not be found again)."""

    signs: str
    first: int
    last: int


class HibariEngine:
    name = "hibari"
    speeds = (0.5, 2.0)

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._session: ort.InferenceSession | None = None
        self._g2p: G2P | None = None
        self._vocabulary: dict[str, int] = {}

    def warm(self) -> None:
        session, g2p = self._loaded()
        g2p("Zyxlo warm up.")  # an unknown word, so that the spelling network is loaded as well
        self._synthesize(session, "wˈɔɹm ˈʌp.", 1.0)

    def speak(self, text: str, voice: Voice, language: str, speed: float) -> Iterator[Synthesis]:
        session, g2p = self._loaded()
        tokens = _tokens(g2p, text)
        pcms: list[FloatArray] = []
        phonemes: list[Phoneme] = []
        marks: list[SpeechMark] = []
        at = 0
        for part in _parts(tokens):
            signs = "".join(token.signs for token in part)
            known = [sign for sign in signs if sign in self._vocabulary]
            if not any(ipa.is_letter(sign) for sign in known):
                continue
            pcm, frames = self._synthesize(session, signs, speed)
            row, spans = durations_to_phonemes(["", *known, ""], frames * FRAME)
            phonemes += [Phoneme(p.symbol, p.start + at, p.end + at, p.stress) for p in row]
            position = 1  # the pad before the first sign
            for token in part:
                length = sum(sign in self._vocabulary for sign in token.signs)
                sounds = [span for span in spans[position : position + length] if span is not None]
                if sounds and token.last > token.first:
                    marks.append(SpeechMark(token.first, token.last, sounds[0][0] + at, sounds[-1][1] + at))
                position += length
            pcms.append(pcm)
            at += len(pcm)
        if not pcms:
            yield Synthesis(np.zeros(0, np.float32), ())
            return
        yield finish(np.concatenate(pcms), phonemes, marks, voice.gain, SHIFT_S + SHIFT_BY_LENGTH_S / speed)

    def _loaded(self) -> tuple[ort.InferenceSession, G2P]:
        with self._lock:
            if self._session is None or self._g2p is None:
                try:
                    self._vocabulary = json.loads((_ASSETS / "vocab.json").read_text(encoding="utf-8"))
                except (OSError, ValueError) as error:
                    raise EngineUnavailableError(f"hibari-tts is incomplete: {error}") from None
                self._session = Network(_ASSETS / "hibari.onnx", self._threads).open((*SPECTRUM, DURATIONS))
                self._g2p = G2P()
            return self._session, self._g2p

    def _synthesize(self, session: ort.InferenceSession, signs: str, speed: float) -> tuple[FloatArray, FloatArray]:
        """pcm float32 (samples,) at `SPEECH_RATE`, and frames (n + 2,) of the n known signs with a pad at both ends."""
        ids = [0, *[self._vocabulary[sign] for sign in signs if sign in self._vocabulary], 0]
        feeds = {"ids": np.asarray([ids], np.int64), "speed": np.asarray([speed], np.float32)}
        *spectrum, frames = session.run(None, feeds)
        if len(frames) != len(ids):
            raise EngineUnavailableError(f"hibari's durations do not fit its symbols: {len(frames)} for {len(ids)}")
        # The noise part is seeded: the same text is the same sound.
        return dsp.synth(*(part[0] for part in spectrum), np.random.default_rng(0)), frames


def _tokens(g2p: G2P, text: str) -> list[_Token]:
    """What `G2P.__call__` joins to one string, with the place of each token in `text`."""
    tokens = []
    cursor = 0
    text = text.translate(_KNOWN)
    for token in g2p.phonemize_tokens(g2p.tokenize(hibari_normalize(text))):
        found = text.find(token.text, cursor)
        first, last = (found, found + len(token.text)) if found >= 0 and token.text else (cursor, cursor)
        cursor = last
        tokens.append(_Token((token.phonemes or "") + (" " if token.whitespace else ""), first, last))
    return tokens


def _parts(tokens: list[_Token]) -> list[list[_Token]]:
    """Runs of at most `MAX_SYMBOLS` signs, cut between words."""
    parts: list[list[_Token]] = [[]]
    size = 0
    for token in tokens:
        if size + len(token.signs) > MAX_SYMBOLS and parts[-1]:
            parts.append([])
            size = 0
        parts[-1].append(token)
        size += len(token.signs)
    return parts
