"""What the offline voices make of a text: a window for whoever writes a lexicon, or wonders why something sounds as it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from configs.models import SpeechConfig, WeightsConfig
from museserve.messages import SpeechRequest
from museserve.speech.offline import OfflineVoices, refuse_unspoken
from museserve.speech.synthesizer import MAX_CLAUSE_CHARS
from museserve.speech.text import sentences
from museserve.speech.text.lexicon import Lexicon
from museserve.speech.text.normalize import normalize
from museserve.speech.text.pronounce_ko import pronounce
from museserve.speech.text.rewrite import Change
from museserve.timebase import SPEECH_RATE


@dataclass(frozen=True)
class SpokenClause:
    """One clause on its way from paper to lips.

    written: the clause. spoken: what the voice is given. pronounced: the same as Korean says it; of other languages the voice alone knows.
    changes: what of the written became what, and by which rule or the lexicon. phonemes, words: (symbol or word, start, end), seconds from
    the clause's beginning. notice: in what it is not as it was asked for.
    """

    language: str
    voice: str
    written: str
    spoken: str
    pronounced: str
    changes: tuple[Change, ...]
    phonemes: tuple[tuple[str, float, float], ...]
    words: tuple[tuple[str, float, float], ...]
    notice: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def spoken(request: SpeechRequest, config: SpeechConfig, weights: WeightsConfig | None = None) -> Iterator[SpokenClause]:
    """Clause by clause, as an offline voice speaks it now; a cloud voice gets the text as it is written.

    Raises SpeechEngineError, UnspokenLanguageError, ConfigError.
    """
    lexicon = Lexicon.load(config.lexicon)
    offline, delivery = OfflineVoices(lexicon, config, weights), request.delivery
    clauses = sentences.split(request.text, config.first_clause_chars, MAX_CLAUSE_CHARS, request.language)
    refuse_unspoken(clauses)
    for clause in clauses:
        voice = offline.voice(delivery, clause.language)
        form = normalize(clause.text, clause.language, lexicon)
        phonemes: list[tuple[str, float, float]] = []
        words: list[tuple[str, float, float]] = []
        start, notice = 0, ""
        for piece in offline.speak([clause], delivery):
            phonemes += [(p.symbol, *_seconds(start, p.start, p.end)) for p in piece.synthesis.phonemes if p.symbol]
            words += [(word.text, *_seconds(start, word.start, word.end)) for word in piece.words]
            start, notice = start + len(piece.synthesis.pcm), piece.notice
        yield SpokenClause(
            clause.language,
            voice.name,
            clause.text,
            form.text,
            pronounce(form.text) if clause.language == "ko" and voice.engine == "espeak" else "",
            form.changes,
            tuple(phonemes),
            tuple(words),
            notice,
        )


def _seconds(offset: int, start: int, end: int) -> tuple[float, float]:
    return round((offset + start) / SPEECH_RATE, 3), round((offset + end) / SPEECH_RATE, 3)
