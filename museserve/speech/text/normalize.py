"""Text normalisation for the offline voices, from the written to the spoken form: numbers, units, symbols, terms."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from museserve.speech.text import japanese
from museserve.speech.text.clean import clean
from museserve.speech.text.lexicon import Lexicon
from museserve.speech.text.normalize_en import english_rules
from museserve.speech.text.normalize_ko import korean_rules, plain_latin
from museserve.speech.text.rewrite import Finder, SpokenForm, rewrite
from museserve.speech.text.scripts import OtherScript
from museserve.speech.text.transliterate import say_identifier


def normalize(text: str, language: str, lexicon: Lexicon) -> SpokenForm:
    """What a voice of `language` (a base tag) should be given for `text` (a clause), and where each written word lies in it.

    Korean comes out without digits or Latin letters. English leaves to the voice what it reads well itself. Other languages get their
    lexicon, Japanese its reading where the library for it is installed. Letters that the voice does not read become Latin ones. Never
    raises; text without a letter or digit gives no words.
    """
    written = unicodedata.normalize("NFC", clean(text).text)
    if language == "ko":
        written = plain_latin(written)
    return rewrite(written, _rules(language, lexicon))


def warm_normalizer(lexicon: Lexicon) -> None:
    """Build the rules and read the list of English pronunciations (0.1 s), so that the first request does not."""
    for language in ("ko", "en"):
        normalize("Zyxwv 1", language, lexicon)


@lru_cache(256)
def _rules(language: str, lexicon: Lexicon) -> tuple[Finder, ...]:
    terms = lexicon.section(language)
    if language == "ja":
        return (terms, japanese.FURIGANA, *([japanese.Reading()] if japanese.is_read() else []), OtherScript(language))
    if language not in ("ko", "en"):
        return (terms, OtherScript(language))
    addresses, *others = korean_rules(terms.spoken) if language == "ko" else english_rules()
    foreign = OtherScript(language, say_identifier) if language == "ko" else OtherScript(language)
    return (addresses, terms, *others, foreign)  # the https of an address is no term
