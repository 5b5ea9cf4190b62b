"""Which voices there are: OpenAI's names, the offline voices, and which offline voice stands in for which name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from museserve.errors import UnknownLanguageError, UnknownVoiceError
from museserve.speech.text import language as languages

AUTO = "auto"


@dataclass(frozen=True)
class Voice:
    """An offline voice.

    `gain`, linear, brings it to `loudness.TARGET_LUFS`, as `benchmarks.loudness` measures it.
    `variant`, `pitch` (0 to 99) and `pace` (1 = espeak-ng's own) are for espeak-ng.
    `languages`: base tags it speaks; empty = all of `text.language.LANGUAGES`.
    """

    name: str
    engine: str
    gender: str
    gain: float
    languages: tuple[str, ...] = ()
    variant: str = ""
    pitch: int = 50
    pace: float = 1.0

    def speaks(self, language: str) -> bool:
        return not self.languages or language in self.languages


@dataclass(frozen=True)
class VoiceInfo:
    """One accepted name. `engine`: who speaks it; OpenAI's names are spoken by an offline voice of that gender when no
    key is configured. `languages`: base tags; empty = all.
    """

    id: str
    engine: str
    gender: str
    languages: tuple[str, ...]


HIBARI = Voice("hibari", "hibari", "female", gain=3.25, languages=("en",))
JOE = Voice("joe", "piper", "male", gain=4.0, languages=("en",))
ESPEAK_WOMAN = Voice("espeak-f", "espeak", "female", gain=1.40, variant="f2", pitch=55)
ESPEAK_MAN = Voice("espeak-m", "espeak", "male", gain=1.98, variant="m3", pitch=40)

# The voices of OpenAI's speech endpoint, each with the gender that its stand-in has.
OPENAI = {
    "alloy": "female",
    "ash": "male",
    "ballad": "male",
    "cedar": "male",
    "coral": "female",
    "echo": "male",
    "fable": "male",
    "marin": "female",
    "nova": "female",
    "onyx": "male",
    "sage": "female",
    "shimmer": "female",
    "verse": "male",
}
OPENAI_DEFAULTS = {"female": "nova", "male": "onyx"}
_NEURAL = {voice.name: voice for voice in (HIBARI, JOE)}
_ESPEAK = {"f": ESPEAK_WOMAN, "m": ESPEAK_MAN}
_ESPEAK_NAME = re.compile(r"espeak-(?:(?P<language>[a-z]{2,4})-)?(?P<gender>[fm])")


def parse_name(voice: str) -> str:
    """`voice` trimmed and in lower case.

    Raises:
        UnknownVoiceError: it is none of `names`.
    """
    name = voice.strip().lower()
    if name == AUTO or name in OPENAI or _offline(name) is not None:
        return name
    raise UnknownVoiceError(f"unknown voice {voice[:40]!r}; accepted: {', '.join(names())}, espeak-<language>-f and espeak-<language>-m")


def names() -> list[str]:
    """Every name that `parse_name` accepts, with espeak-ng's given once instead of for each language."""
    return [voice.id for voice in list_voices()]


def list_voices() -> list[VoiceInfo]:
    """What callers may ask for, for people and for `GET /v1/voices`."""
    return [
        VoiceInfo(AUTO, "any", "any", ()),
        *(VoiceInfo(name, "openai", gender, ()) for name, gender in OPENAI.items()),
        *(VoiceInfo(voice.name, voice.engine, voice.gender, voice.languages) for voice in (*_NEURAL.values(), *_ESPEAK.values())),
    ]


def is_offline(voice: str) -> bool:
    """True for a name that means an offline voice, whether or not a key is configured."""
    return _offline(voice) is not None


def openai_name(voice: str, gender: str) -> str:
    """The name to send to OpenAI for "auto"; every other name as it is."""
    return OPENAI_DEFAULTS.get(gender, OPENAI_DEFAULTS["female"]) if voice == AUTO else voice


def offline_voice(voice: str, gender: str, language: str) -> Voice:
    """The offline voice that speaks `language` (a base tag) for the name `voice`.

    `gender` decides for "auto" and for names that only the configured server knows.
    """
    own = _offline(voice)
    if own is not None and own.speaks(language):
        return own
    gender = own.gender if own is not None else OPENAI.get(voice, gender)
    if language == "en":
        return JOE if gender == "male" else HIBARI
    return ESPEAK_MAN if gender == "male" else ESPEAK_WOMAN


def _offline(name: str) -> Voice | None:
    if name in _NEURAL:
        return _NEURAL[name]
    match = _ESPEAK_NAME.fullmatch(name)
    if match is None:
        return None
    voice = _ESPEAK[match["gender"]]
    if match["language"] is None:
        return voice
    try:
        tag = languages.base_tag(match["language"])
    except UnknownLanguageError:
        return None
    return Voice(name, voice.engine, voice.gender, voice.gain, (tag,), voice.variant, voice.pitch, voice.pace)
