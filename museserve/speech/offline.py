"""The offline voices together: one clause in, its sound with phonemes and words out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from configs.models import SpeechConfig, WeightsConfig
from museserve.errors import UnspokenLanguageError
from museserve.messages import Delivery, Phoneme, SpeechChunk, Word
from museserve.speech import words
from museserve.speech.engines import natural, voices
from museserve.speech.engines.espeak import EspeakEngine
from museserve.speech.engines.hibari import HibariEngine
from museserve.speech.engines.piper import PiperEngine
from museserve.speech.engines.postprocess import MARGIN_S
from museserve.speech.engines.supertonic import SupertonicEngine
from museserve.speech.engines.voice_engine import SpeechMark, Synthesis, VoiceEngine
from museserve.speech.engines.voices import Voice
from museserve.speech.text import japanese, scripts
from museserve.speech.text import language as languages
from museserve.speech.text.lexicon import Lexicon
from museserve.speech.text.normalize import normalize, warm_normalizer
from museserve.speech.text.rewrite import SpokenForm
from museserve.speech.text.sentences import Clause
from museserve.timebase import SPEECH_RATE
from museserve.weights.folder import WeightsFolder

Span = tuple[int, int]
NAMED = 3  # words of a clause that a notice names


@dataclass(frozen=True)
class SpokenPiece:
    """A synthesis with what the engine does not know of it.

    words: the written ones, in samples of the synthesis. pause_s: silence to put after it, seconds.
    notice: in what it is not as it was asked for.
    """

    synthesis: Synthesis
    words: tuple[Word, ...]
    engine: str
    pause_s: float
    notice: str

    @property
    def ends_clause(self) -> bool:
        return self.synthesis.text_end is None

    def chunk(self, start: int, silence: int, notice: str, final: bool) -> SpeechChunk:
        """The piece as a chunk that begins at sample `start`, with `silence` zeros before it and, unless it is the last, its pause after it."""
        margin = 2 * MARGIN_S  # of silence that the voices bring with them
        tail = 0 if final else max(0, round((self.pause_s - margin) * SPEECH_RATE))
        pcm = np.concatenate([np.zeros(silence, np.float32), self.synthesis.pcm, np.zeros(tail, np.float32)])
        begin = start + silence
        before, after = Phoneme("", -silence, 0), Phoneme("", len(self.synthesis.pcm), len(self.synthesis.pcm) + tail)
        row = [Phoneme(p.symbol, p.start + begin, p.end + begin, p.stress) for p in _joined([before, *self.synthesis.phonemes, after])]
        said = tuple(Word(w.text, w.start + begin, w.end + begin, w.estimated) for w in self.words)
        return SpeechChunk(start, pcm, tuple(row), said, final, self.engine, notice)


class OfflineVoices:
    """Thread-safe.

    Args:
        weights: where downloaded voices lie; None = none are looked for.
    Raises:
        ConfigError: a language that the natural voices do not speak.
    """

    def __init__(self, lexicon: Lexicon, config: SpeechConfig, weights: WeightsConfig | None = None) -> None:
        self.natural = natural.find(config, weights)
        engines: list[VoiceEngine] = [HibariEngine(config.threads), PiperEngine(config.threads), EspeakEngine()]
        if weights is not None and self.natural.there:
            engines.append(SupertonicEngine(WeightsFolder(weights), config.supertonic.steps, config.threads))
        self._engines = {engine.name: engine for engine in engines}
        self._lexicon = lexicon

    @property
    def names(self) -> list[str]:
        return list(self._engines)

    def warm(self) -> None:
        """Raises EngineUnavailableError."""
        wanted = [engine for engine in self._engines.values() if engine.name != SupertonicEngine.name or self.natural.languages]
        with ThreadPoolExecutor(len(wanted)) as pool:  # most of it is onnxruntime's work, and reading
            warming = [pool.submit(engine.warm) for engine in wanted]
            warm_normalizer(self._lexicon)
            for warmed in warming:
                warmed.result()
        for text, language in (("Warm up.", "en"), ("준비 1번 API.", "ko")):
            list(self.speak([Clause(text, 0, len(text), language, 0.0)], Delivery("auto", 1.0, language, "female")))

    def voice(self, delivery: Delivery, language: str) -> Voice:
        """Who speaks a clause in `language`."""
        return voices.offline_voice(delivery.voice, delivery.gender, language, self.natural)

    def speak(self, clauses: Sequence[Clause], delivery: Delivery) -> Iterator[SpokenPiece]:
        """Pieces in order, each made when it is asked for. Raises SpeechEngineError."""
        for clause in clauses:
            yield from self._speak(clause, delivery)

    def _speak(self, clause: Clause, delivery: Delivery) -> Iterator[SpokenPiece]:
        voice = self.voice(delivery, clause.language)
        engine = self._engines[voice.engine]
        slowest, fastest = engine.speeds
        speed = min(max(delivery.speed, slowest), fastest)
        notices = []
        if voices.is_offline(delivery.voice) and voice.name != delivery.voice:
            if delivery.voice in voices.SUPERTONIC and not self.natural.there:
                notices.append(f"{delivery.voice} is not there: {self.natural.reason}; {voice.name} speaks")
            else:
                notices.append(f"{delivery.voice} does not speak {clause.language}: {voice.name} does")
        if speed != delivery.speed:
            notices.append(f"{voice.name} speaks at {slowest:.2f} to {fastest:.2f} times its pace, not {delivery.speed:g}: {speed:.2f} was used")
        spoken = normalize(clause.text, clause.language, self._lexicon)
        notices += _unread(clause, spoken, voice.name)
        notice = "; ".join(notices)
        if not spoken.words:
            yield SpokenPiece(Synthesis(np.zeros(0, np.float32), ()), (), engine.name, clause.pause_s, notice)
            return
        begun = 0
        for synthesis in engine.speak(spoken.text, voice, clause.language, speed):
            reached = len(spoken.text) if synthesis.text_end is None else synthesis.text_end
            said = [(written, span) for written, span in spoken.words if begun <= span[0] < reached]
            pause_s = clause.pause_s if synthesis.text_end is None else 0.0
            yield SpokenPiece(synthesis, _words(said, spoken.text, synthesis), engine.name, pause_s, notice)
            begun = reached


def refuse_unspoken(clauses: Sequence[Clause]) -> None:
    """Raises UnspokenLanguageError when no voice reads any of the clauses; one among others is spelled."""
    if clauses and all(_is_unspoken(clause) for clause in clauses):
        raise UnspokenLanguageError(_why_unspoken(clauses[0]))


def _is_unspoken(clause: Clause) -> bool:
    return scripts.is_unread(clause.text) or (clause.language == "ja" and not japanese.is_read() and japanese.KANJI.search(clause.text) is not None)


def _why_unspoken(clause: Clause) -> str:
    if clause.language == "ja":
        return "no voice here reads Japanese kanji; install museserve[ja], write kana, or ask for a voice of a configured provider"
    letter = next(char for char in clause.text if char.isalpha())
    return f"no offline voice reads {scripts.script(letter).capitalize()} letters; ask for a voice of a configured provider"


def _unread(clause: Clause, spoken: SpokenForm, voice: str) -> list[str]:
    """What the voice cannot say as it is written, and what it says instead."""
    notices = []
    if clause.language in languages.POORLY_READ:
        notices.append(f"{voice} reads {languages.POORLY_READ[clause.language]}")
    spelled = [change for change in spoken.changes if change.rule in ("spelled", scripts.RULE) and not scripts.is_styled(change.written)]
    if spelled:
        told = ", ".join(f"{change.written[:20]} as {change.spoken[:40] or 'nothing'}" for change in spelled[:NAMED])
        notices.append(f"{voice} cannot read and spells {told}{' ...' if len(spelled) > NAMED else ''}")
    return notices


def _joined(phonemes: list[Phoneme]) -> list[Phoneme]:
    """Pauses that touch become one, those of no length go."""
    row: list[Phoneme] = []
    for phoneme in [p for p in phonemes if p.end > p.start]:
        if row and not row[-1].symbol and not phoneme.symbol:
            row[-1] = Phoneme("", row[-1].start, phoneme.end)
        else:
            row.append(phoneme)
    return row


def _words(said: list[tuple[str, Span]], text: str, synthesis: Synthesis) -> tuple[Word, ...]:
    """Each written word with the time of the marks on its spoken form text[first:last]; all estimated if one has none."""
    if not len(synthesis.pcm) or not said:
        return ()
    timed: list[Word] = []
    for written, (first, last) in said:
        inside = [mark for mark in synthesis.marks if mark.first < last and mark.last > first]
        if inside:
            start = max(_at(inside[0], first, forward=True), timed[-1].end if timed else 0)
            timed.append(Word(written, start, max(start, _at(inside[-1], last, forward=False))))
    if len(timed) == len(said):
        return tuple(timed)
    sounds = [phoneme for phoneme in synthesis.phonemes if phoneme.symbol]
    forms = [text[first:last] for _, (first, last) in said]
    silences = words.silences(synthesis.pcm)
    return words.estimate([written for written, _ in said], sounds[0].start, sounds[-1].end, silences, spoken=forms)


def _at(mark: SpeechMark, char: int, *, forward: bool) -> int:
    """The sample of a character: a mark may span several words, which then share it by their letters."""
    if forward and char <= mark.first:
        return mark.start
    if not forward and char >= mark.last:
        return mark.end
    return mark.start + round((mark.end - mark.start) * (char - mark.first) / (mark.last - mark.first))
