"""Which language a sentence is in: the script decides, then function words and diacritics, then the caller's hint."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache

from museserve.errors import UnknownLanguageError

AUTO = "auto"

# Base tags that the offline voices of espeak-ng 1.52 can speak; "zh" and "yue" are its "cmn" and "yue".
LANGUAGES = tuple(
    "af am an ar as az ba be bg bn bpy bs ca cs cv cy da de el en eo es et eu fa fi fr ga gd gn grc gu hak haw he hi hr ht hu hy hyw ia id "
    "io is it ja jbo ka kk kl kn ko kok ku ky la lb lfn lt ltg lv mi mk ml mr ms mt mto my nb nci ne nl nog om or pa pap piqd pl pt py qdb qu "
    "quc qya ro ru sd shn si sjn sk sl smj sq sr sv sw ta te th ti tk tn tr tt ug uk ur uz vi yue zh".split()
)
ALIASES = {"cmn": "zh", "no": "nb", "nn": "nb", "iw": "he", "in": "id", "tl": "id", "fil": "id", "qaa": "en"}
ESPEAK_NAMES = {"zh": "cmn"}  # every other tag is espeak-ng's own name

# One language for each script that is not Latin; those with several are told apart by letters below.
_SCRIPTS = {
    "HANGUL": "ko",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "CJK": "zh",
    "CYRILLIC": "ru",
    "GREEK": "el",
    "ARABIC": "ar",
    "HEBREW": "he",
    "DEVANAGARI": "hi",
    "BENGALI": "bn",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "TAMIL": "ta",
    "TELUGU": "te",
    "KANNADA": "kn",
    "MALAYALAM": "ml",
    "ORIYA": "or",
    "SINHALA": "si",
    "THAI": "th",
    "MYANMAR": "my",
    "GEORGIAN": "ka",
    "ARMENIAN": "hy",
    "ETHIOPIC": "am",
}
# Languages that may be written in a script, so that a hint among them is believed.
_SHARED = {
    "ru": {"ru", "uk", "be", "bg", "sr", "mk", "kk", "ky", "tt", "ba", "cv", "nog", "tk", "uz"},
    "ar": {"ar", "fa", "ur", "sd", "ug", "ku"},
    "hi": {"hi", "mr", "ne", "kok"},
    "zh": {"zh", "yue", "hak", "ja"},
    "bn": {"bn", "as", "bpy"},
    "my": {"my", "shn"},
    "hy": {"hy", "hyw"},
    "am": {"am", "ti"},
    "el": {"el", "grc"},
}
_NOT_LATIN = set(_SCRIPTS.values()).union(*_SHARED.values()) - {"sr", "ku", "uz", "tk"}

SCRIPTS = frozenset({*_SCRIPTS, "LATIN"})  # that some voice reads
# What espeak-ng makes of a language whose writing says too little, or too much for it.
POORLY_READ = {
    "th": "Thai letter by letter, hard to understand",
    **{
        tag: f"{name} without the vowels that are not written"
        for tag, name in zip("ar fa ur sd he".split(), "Arabic Persian Urdu Sindhi Hebrew".split(), strict=True)
    },
}

_LETTERS = (("ru", "іїєґ", "uk"), ("ru", "ўі", "be"), ("ar", "ٹڈڑںے", "ur"), ("ar", "پچژگ", "fa"))

_WORDS = {
    "en": "the is are and you of to in what how your do did have has would can could that this with for it was why when tell me about a an i we be",
    "es": "el la los las que de del en un una por para con como qué cómo está es su se lo usted y me más muy pero hola gracias",
    "fr": "le la les de des du me mon sont plus cette et est que qui dans un une pour avec vous votre je ne pas sur ce c'est au aux "
    "comment quel quelle bonjour merci",
    "de": "der die das und ist nicht sie ein eine mit für auf wie was haben ich zu den dem von im wir bitte ihre ihr guten danke",
    "it": "il lo la gli le che di un una per con come è sono non del della nel lei suo si mi ma ciao grazie questo quali",
    "pt": "o a os as que de do da em um uma para com como é você seu não se no na por mais obrigado olá são isso",
}
_WORD_SETS = {tag: frozenset(words.split()) for tag, words in _WORDS.items()}
_LATIN_LETTERS = {"es": "ñ¿¡", "fr": "êçèùœâîûë", "de": "ßäöü", "it": "ìòù", "pt": "ãõ"}
_ADDRESS = re.compile(r"://|@|\w\.\w")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")


def base_tag(tag: str) -> str:
    """The base tag of `tag` ("en-US" -> "en"), or "auto".

    Raises:
        UnknownLanguageError: no offline voice speaks it.
    """
    base = re.split(r"[-_]", tag.strip().lower(), maxsplit=1)[0]
    base = ALIASES.get(base, base)
    if base == AUTO or base in LANGUAGES:
        return base
    raise UnknownLanguageError(f"unknown language {tag[:40]!r}; accepted: auto, {', '.join(LANGUAGES)} (a region may follow, as in en-US)")


def scripts(tag: str) -> frozenset[str]:
    """The scripts that the voice of `tag` (a base tag) reads, as Unicode names them."""
    own = {script for script, base in _SCRIPTS.items() if tag in _SHARED.get(base, {base}) and (base, tag) != ("zh", "ja")}
    return frozenset({"LATIN", *own})


def detect(text: str, hint: str = AUTO, fallback: str = "en") -> str:
    """The base tag of the language that `text` (a sentence) is to be spoken in.

    Args:
        text: any text; Korean sentences usually contain English terms and stay Korean.
        hint: the base tag the caller asked for, or "auto"; followed unless the script rules it out: an English voice cannot read Hangul.
        fallback: the answer when nothing tells, such as "3." or "OK" (the language of the text around it).
    """
    counts = _scripts(text)
    latin = counts.pop("LATIN", 0)
    words = _words(text) if latin else []
    if counts:
        found = _other_script(text, counts)
        if not _is_quoted(found, counts, words):
            return hint if hint in _SHARED.get(found, {found}) else found
    if not latin:
        return fallback if hint == AUTO else hint
    tag, score = _latin(text, words)
    if hint == AUTO:
        return tag if score >= (1 if tag in ("en", fallback) else 2) else fallback
    if hint in _NOT_LATIN:  # "AWS?" to a Korean interviewer stays Korean, a whole English sentence does not
        return tag if score >= 2 and len(words) >= 4 else hint
    return hint


def _words(text: str) -> list[str]:
    prose = " ".join(token for token in text.split() if not _ADDRESS.search(token)) if _ADDRESS.search(text) else text
    return [word.lower().replace("’", "'") for word in _WORD.findall(prose)]


def _scripts(text: str) -> Counter[str]:
    counts = Counter(map(_script, text))
    del counts[""]
    return counts


@lru_cache(8192)
def _script(char: str) -> str:
    """The script of a letter by its Unicode name; "" for what is no letter or of a script that no voice reads."""
    if not char.isalpha():
        return ""
    script, _, rest = unicodedata.name(char, "").partition(" ")
    if script in ("HALFWIDTH", "FULLWIDTH"):
        script = rest.split(" ", 1)[0]
    return script if script in _SCRIPTS or script == "LATIN" else ""


def _other_script(text: str, counts: Counter[str]) -> str:
    if counts["HANGUL"]:
        return "ko"
    if counts["HIRAGANA"] or counts["KATAKANA"]:
        return "ja"
    found = _SCRIPTS[counts.most_common(1)[0][0]]
    for base, letters, tag in _LETTERS:
        if base == found and any(letter in text.lower() for letter in letters):
            return tag
    return found


def _is_quoted(found: str, counts: Counter[str], words: list[str]) -> bool:
    """True when a Latin sentence only mentions something in the other script: 'What does 안녕 mean in Korean?'"""
    foreign = sum(1 for word in words if not word[0].isascii() and unicodedata.name(word[0], "LATIN").split(" ", 1)[0] in counts)
    functional = sum(word in _WORD_SETS["en"] for word in words)
    return functional >= 2 and foreign * 4 <= len(words) and (found != "ko" or functional > 2 * foreign)


def _latin(text: str, words: list[str]) -> tuple[str, int]:
    lowered = text.lower()
    words = [word for word in words if len(word) > 1] + sorted({word for word in words if len(word) == 1})  # two O(n) make no Portuguese
    scores = {tag: sum(word in known for word in words) for tag, known in _WORD_SETS.items()}
    for tag, letters in _LATIN_LETTERS.items():
        scores[tag] += 2 * any(letter in lowered for letter in letters)
    best = max(scores, key=lambda tag: (scores[tag], tag == "en"))
    return best, scores[best]
