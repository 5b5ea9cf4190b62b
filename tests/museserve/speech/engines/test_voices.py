"""Every name is accepted or refused by name, and has an offline voice in every language."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from museserve.errors import UnknownVoiceError
from museserve.speech.engines import voices
from museserve.speech.text import language


@pytest.mark.parametrize(("given", "name"), [("nova", "nova"), (" Nova ", "nova"), ("AUTO", "auto"), ("joe", "joe"), ("espeak-ko-f", "espeak-ko-f")])
def test_known_names(given: str, name: str) -> None:
    assert voices.parse_name(given) == name


@pytest.mark.parametrize("given", ["", "novaa", "espeak", "espeak-xx-f", "espeak-ko-x", "../nova", "nova\n\nx", "해피"])
def test_unknown_names_are_refused_with_what_is_accepted(given: str) -> None:
    with pytest.raises(UnknownVoiceError) as caught:
        voices.parse_name(given)
    message = str(caught.value)
    assert repr(given) in message
    assert all(name in message for name in ("auto", "nova", "onyx", "hibari", "joe", "espeak-f"))


def test_a_long_name_does_not_flood_the_message() -> None:
    with pytest.raises(UnknownVoiceError) as caught:
        voices.parse_name("x" * 10_000)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", [info.id for info in voices.list_voices()])
@pytest.mark.parametrize("tag", ["en", "ko", "fr", "zh"])
def test_every_name_speaks_every_language(name: str, tag: str) -> None:
    assert voices.offline_voice(name, "female", tag).speaks(tag)


@pytest.mark.parametrize(("name", "tag", "expected"), [
    ("nova", "en", "hibari"),
    ("onyx", "en", "joe"),
    ("nova", "ko", "espeak-f"),
    ("onyx", "ko", "espeak-m"),
    ("joe", "ko", "espeak-m"),
    ("hibari", "fr", "espeak-f"),
    ("espeak-m", "en", "espeak-m"),
    ("espeak-ko-f", "ko", "espeak-ko-f"),
    ("espeak-ko-f", "en", "hibari"),
])  # fmt: skip
def test_stand_ins(name: str, tag: str, expected: str) -> None:
    assert voices.offline_voice(name, "female", tag).name == expected


@pytest.mark.parametrize(("gender", "english", "openai"), [("female", "hibari", "nova"), ("male", "joe", "onyx")])
def test_gender_decides_for_auto(gender: str, english: str, openai: str) -> None:
    assert voices.offline_voice("auto", gender, "en").name == english
    assert voices.openai_name("auto", gender) == openai


def test_named_voices_keep_their_own_gender() -> None:
    assert voices.offline_voice("nova", "male", "en").gender == "female"
    assert voices.openai_name("echo", "female") == "echo"


def test_offline_names_are_told_from_openai_names() -> None:
    offline = [name for name in voices.names() if voices.is_offline(name)]
    assert offline == ["hibari", "joe", *voices.SUPERTONIC, "espeak-f", "espeak-m"]


def test_the_list_is_json() -> None:
    listed = json.loads(json.dumps([asdict(info) for info in voices.list_voices()]))
    assert {"id": "nova", "engine": "openai", "gender": "female", "languages": [], "synthetic": False, "auto_for": []} in listed
    assert {"id": "joe", "engine": "piper", "gender": "male", "languages": ["en"], "synthetic": False, "auto_for": ["en"]} in listed
    assert {"id": "espeak-f", "engine": "espeak", "gender": "female", "languages": [], "synthetic": True, "auto_for": ["*"]} in listed
    assert len({info["id"] for info in listed}) == len(listed)


def test_downloaded_voices_are_listed_where_they_are_and_tell_for_what() -> None:
    def auto(natural: voices.Natural, provider: bool = False) -> dict[str, tuple[str, ...]]:
        return {info.id: info.auto_for for info in voices.list_voices(natural, provider=provider) if info.auto_for}

    there = voices.Natural(True, ("ko", "en"), "")
    assert not any(info.engine == "supertonic" for info in voices.list_voices())
    assert len([info for info in voices.list_voices(there) if info.engine == "supertonic"]) == 10
    assert auto(voices.NOT_THERE) == {"hibari": ("en",), "joe": ("en",), "espeak-f": ("*",), "espeak-m": ("*",)}
    assert auto(there) == {"supertonic-f1": ("en", "ko"), "supertonic-m1": ("en", "ko"), "espeak-f": ("*",), "espeak-m": ("*",)}
    assert auto(there, provider=True) == {"nova": ("*",), "onyx": ("*",)}


def test_the_languages_of_espeak_are_all_there() -> None:
    from museserve.speech.engines import espeak_library
    from museserve.speech.text.language import ESPEAK_NAMES

    for tag in language.LANGUAGES:
        espeak_library.load().synthesize("1", f"{ESPEAK_NAMES.get(tag, tag)}+f2")
