"""What a caller sends, parsed once at the edge into types that nothing behind it checks again."""

from __future__ import annotations

from museserve.errors import RequestError, TextError
from museserve.messages import Delivery, SpeechRequest
from museserve.speech.engines import voices
from museserve.speech.text import language as languages
from museserve.speech.text.clean import Speakable, canonical, is_heard

DECOMPOSED = 4  # characters that NFC may make one of, at most
SLOWEST, FASTEST = 0.25, 4.0  # times a voice's own pace


def parse_delivery(voice: str, speed: float, language: str, gender: str = "female") -> Delivery:
    """How to speak: `voice` by its one spelling, `language` as a base tag.

    Args:
        voice: a name in any case.
        speed: 0.25 to 4.
        language: a BCP 47 tag, or "auto".
        gender: "female" or "male".
    Raises:
        UnknownVoiceError, UnknownLanguageError; RequestError for the speed.
    """
    name, tag = voices.parse_name(voice), languages.base_tag(language)
    if not SLOWEST <= speed <= FASTEST:
        raise RequestError(f"speed {speed:g} is out of range; accepted: {SLOWEST:g} to {FASTEST:g}")
    return Delivery(name, float(speed), tag, gender)


def parse_speech(text: str, delivery: Delivery, max_chars: int) -> SpeechRequest:
    """`text`, trimmed and in NFC, to be spoken as `delivery` says.

    Raises:
        TextError: nothing to speak, or more than `max_chars` characters.
    """
    if len(text) > DECOMPOSED * max_chars and len(text := text.strip()) > DECOMPOSED * max_chars:
        raise TextError(f"the text has {len(text):,} characters; accepted: 1 to {max_chars:,}")
    trimmed, accepted = canonical(text).strip(), f"accepted: 1 to {max_chars:,} characters"
    if not trimmed:
        raise TextError(f"the text is empty (seen: {len(text)} characters, all blank); {accepted}")
    if len(trimmed) > max_chars:
        raise TextError(f"the text has {len(trimmed):,} characters; accepted: 1 to {max_chars:,}")
    if not is_heard(trimmed):
        raise TextError(f"the text has nothing to speak (seen: {len(trimmed)} characters, no letter or digit); {accepted}")
    return speech_of(Speakable(trimmed), delivery)


def speech_of(text: Speakable, delivery: Delivery) -> SpeechRequest:
    """`text`, trimmed, to be spoken as `delivery` says."""
    return SpeechRequest(text.strip(), delivery.voice, delivery.speed, delivery.language, delivery.gender)
