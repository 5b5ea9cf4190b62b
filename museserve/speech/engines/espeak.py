"""espeak-ng: Korean and a hundred other languages, a few milliseconds a sentence, phonemes with exact times."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from museserve.messages import Phoneme
from museserve.speech.engines import espeak_library, ipa
from museserve.speech.engines.espeak_library import Rendition
from museserve.speech.engines.postprocess import finish
from museserve.speech.engines.resample import resample
from museserve.speech.engines.voice_engine import SpeechMark, Synthesis
from museserve.speech.engines.voices import Voice
from museserve.speech.text.hangul import CODAS
from museserve.speech.text.language import ESPEAK_NAMES
from museserve.speech.text.pronounce_ko import pronounce
from museserve.timebase import SPEECH_RATE

NORMAL_WPM = 175
# Seconds by which the sound runs ahead of the events, by variant and times the normal pace; measured by `tools.calibration`
# over two languages, to 5 ms. A variant that was not measured takes those of its gender.
SHIFT_SPEEDS = (0.5, 1.0, 1.5, 2.5)
SHIFTS_S = {"f2": (-0.017, -0.016, -0.009, -0.001), "m3": (-0.038, -0.025, -0.018, -0.006)}
# By how much louder or quieter, dB, than English at the same gain a language has to be made; measured by `benchmarks.loudness`.
LEVELS_DB = {"fr": 1.2, "ja": -0.7, "ko": -1.2}
# Signs of single voices that are not IPA: espeak-ng's Korean writes its plain velar "q" and its voiced coronal "t-".
_KOREAN = {"q": "k", "qʰ": "k"}
# It gives a coda ㄷ a voice, and not a ㅅ, which at the end of a syllable is the same sound.
_CODA_T, _CODA_S = CODAS.index("ㄷ"), CODAS.index("ㅅ")


class EspeakEngine:
    name = "espeak"
    speeds = (80 / NORMAL_WPM, 450 / NORMAL_WPM)

    def speak(self, text: str, voice: Voice, language: str, speed: float) -> Iterator[Synthesis]:
        library = espeak_library.load()
        tag = ESPEAK_NAMES.get(language, language)
        words_per_minute = round(NORMAL_WPM * voice.pace * speed)
        said = _korean(text) if language == "ko" else text  # as many characters
        rendition = library.synthesize(said, f"{tag}+{voice.variant}", min(max(words_per_minute, 80), 450), voice.pitch)
        pcm = resample(rendition.pcm.astype(np.float32) / 32768.0, library.rate)
        phonemes = _phonemes(rendition, library.rate, language)
        shifts = SHIFTS_S.get(voice.variant, SHIFTS_S["m3" if voice.gender == "male" else "f2"])
        gain = voice.gain * 10 ** (LEVELS_DB.get(language, 0.0) / 20)
        yield finish(pcm, phonemes, _marks(said, rendition, phonemes), gain, float(np.interp(speed, SHIFT_SPEEDS, shifts)))

    def warm(self) -> None:
        espeak_library.load().synthesize("a", "en")


def _korean(text: str) -> str:
    """It reads Korean letter by letter, so it is given what is said."""
    said = (ord(char) for char in pronounce(text))
    return "".join(chr(code + _CODA_S - _CODA_T if 0xAC00 <= code <= 0xD7A3 and (code - 0xAC00) % 28 == _CODA_T else code) for code in said)


def _phonemes(rendition: Rendition, rate: int, language: str) -> list[Phoneme]:
    starts = [event.sample * SPEECH_RATE // rate for event in rendition.phonemes]
    starts.append(len(rendition.pcm) * SPEECH_RATE // rate)
    row = []
    for number, event in enumerate(rendition.phonemes):
        symbol, stress = ipa.bare(event.symbol)
        row.append(Phoneme(_KOREAN.get(symbol, symbol) if language == "ko" else symbol, starts[number], starts[number + 1], stress))
    return row


def _marks(text: str, rendition: Rendition, phonemes: list[Phoneme]) -> list[SpeechMark]:
    marks = []
    for first, last, begin, end in rendition.spans(text):
        sounds = [phoneme for phoneme in phonemes[begin:end] if phoneme.symbol]
        if sounds:
            marks.append(SpeechMark(first, last, sounds[0].start, sounds[-1].end))
    return marks
