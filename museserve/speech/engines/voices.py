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

    `gain`, linear, brings it to `loudness.TARGET_LUFS`, as `benchmarks.loudness` measures it; Supertonic's are measured when they are loaded.
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
    key is configured. `languages`: base tags; empty = all. `synthetic`: it sounds like a machine.
    `auto_for`: the languages that it speaks where "auto" is asked for with its gender; "*" = those of no other voice.
    """

    id: str
    engine: str
    gender: str
    languages: tuple[str, ...]
    synthetic: bool = False
    auto_for: tuple[str, ...] = ()


@dataclass(frozen=True)
class Natural:
    """Whether the files of the Supertonic voices are `there`, for which `languages` "auto" takes them, and why so, in words."""

    there: bool
    languages: tuple[str, ...]
    reason: str


HIBARI = Voice("hibari", "hibari", "female", gain=3.25, languages=("en",))
JOE = Voice("joe", "piper", "male", gain=4.0, languages=("en",))
ESPEAK_WOMAN = Voice("espeak-f", "espeak", "female", gain=1.40, variant="f2", pitch=55)
ESPEAK_MAN = Voice("espeak-m", "espeak", "male", gain=1.98, variant="m3", pitch=40)
SUPERTONIC_LANGUAGES = tuple("ar bg cs da de el en es et fi fr hi hr hu id it ja ko lt lv nl pl pt ro ru sk sl sv tr uk vi".split())
SUPERTONIC = {
    f"supertonic-{letter}{number}": Voice(f"supertonic-{letter}{number}", "supertonic", gender, gain=1.0, languages=SUPERTONIC_LANGUAGES)
    for letter, gender in (("f", "female"), ("m", "male"))
    for number in range(1, 6)
}
# By the names of the engines, for people.
TITLES = {
    "hibari": "Hibari",
    "piper": "Joe (Piper)",
    "supertonic": "Supertonic 3",
    "espeak": "espeak-ng (synthetic)",
    "openai": "the speech provider",
}
NOT_THERE = Natural(False, (), "not looked for")

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
_NEURAL = {voice.name: voice for voice in (HIBARI, JOE)} | SUPERTONIC
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
    return [AUTO, *OPENAI, *_NEURAL, *(voice.name for voice in _ESPEAK.values())]


def list_voices(natural: Natural = NOT_THERE, *, provider: bool = False) -> list[VoiceInfo]:
    """What callers may ask for and get, for people and for `GET /v1/voices`. provider: a key is configured, so "auto" is a provider's voice."""
    offline = [voice for voice in (*_NEURAL.values(), *_ESPEAK.values()) if natural.there or voice.engine != "supertonic"]
    return [
        VoiceInfo(AUTO, "any", "any", ()),
        *(
            VoiceInfo(name, "openai", gender, (), auto_for=("*",) if provider and name == OPENAI_DEFAULTS[gender] else ())
            for name, gender in OPENAI.items()
        ),
        *(VoiceInfo(v.name, v.engine, v.gender, v.languages, v.engine == "espeak", () if provider else _auto_for(v, natural)) for v in offline),
    ]


def _auto_for(voice: Voice, natural: Natural) -> tuple[str, ...]:
    if voice.engine == "espeak":
        return ("*",)
    return tuple(tag for tag in voice.languages if offline_voice(AUTO, voice.gender, tag, natural) == voice)


def is_offline(voice: str) -> bool:
    """True for a name that means an offline voice, whether or not a key is configured."""
    return _offline(voice) is not None


def openai_name(voice: str, gender: str) -> str:
    """The name to send to OpenAI for "auto"; every other name as it is."""
    return OPENAI_DEFAULTS.get(gender, OPENAI_DEFAULTS["female"]) if voice == AUTO else voice


def offline_voice(voice: str, gender: str, language: str, natural: Natural = NOT_THERE) -> Voice:
    """The offline voice that speaks `language` (a base tag) for the name `voice`.

    `gender` decides for "auto" and for names that only the configured server knows.
    """
    own = _offline(voice)
    if own is not None and own.speaks(language) and (natural.there or own.engine != "supertonic"):
        return own
    gender = own.gender if own is not None else OPENAI.get(voice, gender)
    male = gender == "male"
    if natural.there and language in natural.languages:
        return SUPERTONIC["supertonic-m1" if male else "supertonic-f1"]
    if language == "en":
        return JOE if male else HIBARI
    return ESPEAK_MAN if male else ESPEAK_WOMAN


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
