from __future__ import annotations

from pathlib import Path

import espeakng_loader
import pytest
from hypothesis import given
from hypothesis import strategies as st

from museserve.errors import UnknownLanguageError
from museserve.speech.text.language import ESPEAK_NAMES, LANGUAGES, base_tag, detect


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Tell me about yourself.", "en"),
        ("간단히 자기소개 부탁드립니다.", "ko"),
        ("AWS Lambda와 Kubernetes Deployment를 비교해 주세요.", "ko"),
        ("Spring Boot, JPA, Redis 써 보셨나요?", "ko"),
        ("What does 안녕 mean in Korean, and when is it used?", "en"),
        ("これは何ですか。", "ja"),
        ("東京タワーへ行きます", "ja"),
        ("请介绍一下你自己。", "zh"),
        ("Расскажите о себе.", "ru"),
        ("Розкажіть про її досвід.", "uk"),
        ("¿Cómo estás hoy?", "es"),
        ("Hábleme de usted y de su experiencia, por favor.", "es"),
        ("Pouvez-vous me parler de votre expérience ?", "fr"),
        ("Können Sie mir von Ihrer Erfahrung erzählen?", "de"),
        ("Mi parli della sua esperienza con questo progetto.", "it"),
        ("Você não gosta do seu trabalho?", "pt"),
        ("Πείτε μου για εσάς.", "el"),
        ("حدثني عن نفسك", "ar"),
        ("अपने बारे में बताइए", "hi"),
        ("ｱｲｳ", "ja"),
        ("", "en"),
        ("42", "en"),
        ("👍", "en"),
        ("See https://a.de/b?d=e.", "en"),
    ],
)
def test_detects_the_language_of_a_sentence(text: str, language: str) -> None:
    assert detect(text) == language


@pytest.mark.parametrize(
    ("text", "hint", "language"),
    [
        ("안녕하세요", "en", "ko"),  # an English voice cannot read it
        ("AWS?", "ko", "ko"),
        ("Tell me about the project you are most proud of.", "ko", "en"),
        ("Guten Tag", "de-AT", "de"),
        ("Hello", "fr", "fr"),
        ("東京大学", "ja", "ja"),
        ("Привет", "bg", "bg"),
        ("123", "ko-KR", "ko"),
    ],
)
def test_a_hint_is_followed_where_the_script_allows(text: str, hint: str, language: str) -> None:
    assert detect(text, base_tag(hint)) == language


def test_the_surrounding_language_decides_when_nothing_tells() -> None:
    assert detect("3.", fallback="ko") == "ko"
    assert detect("OK?", fallback="de") == "de"


@pytest.mark.parametrize(
    ("tag", "base"), [("en", "en"), ("en-US", "en"), ("KO-kr", "ko"), ("zh-CN", "zh"), ("pt_BR", "pt"), ("auto", "auto"), ("no", "nb")]
)
def test_a_tag_becomes_its_base_tag(tag: str, base: str) -> None:
    assert base_tag(tag) == base


@pytest.mark.parametrize("tag", ["", "klingon", "xx", "e n", "en1", "한국어"])
def test_an_unknown_tag_is_refused_with_what_is_accepted(tag: str) -> None:
    with pytest.raises(UnknownLanguageError, match=r"accepted: auto, .*en.*ko"):
        base_tag(tag)


def test_every_language_has_an_offline_voice() -> None:
    names = set()
    for path in (Path(espeakng_loader.get_data_path()) / "lang").rglob("*"):
        if path.is_file():
            names |= {line.split()[1] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("language ")}
    assert {ESPEAK_NAMES.get(tag, tag) for tag in LANGUAGES} <= names


@given(st.text())
def test_any_text_has_a_language(text: str) -> None:
    assert detect(text) in LANGUAGES
