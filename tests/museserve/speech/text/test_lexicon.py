from __future__ import annotations

from pathlib import Path

import pytest

from museserve.errors import ConfigError
from museserve.speech.text.lexicon import Lexicon
from museserve.speech.text.normalize import normalize


@pytest.fixture
def shipped() -> Lexicon:
    return Lexicon.load()


@pytest.mark.parametrize(
    ("term", "spoken"),
    [("AWS", "에이더블유에스"), ("Docker", "도커"), ("docker", "도커"), ("DOCKER", "도커"), ("C++", "씨 플러스 플러스"), ("Node.js", "노드제이에스")],
)
def test_shipped_terms_match_in_any_case(shipped: Lexicon, term: str, spoken: str) -> None:
    assert shipped.section("ko").spoken(term) == spoken


def test_no_shipped_korean_reading_has_latin_letters_or_digits(shipped: Lexicon) -> None:
    section = shipped.section("ko")
    readings = [section.spoken(term) or "" for term in section.terms]
    assert len(readings) > 150
    assert [said for said in readings if any(char.isascii() and char.isalnum() for char in said)] == []


def test_exact_case_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("ko:\n  IT: 아이티\n  it: 잇\n", encoding="utf-8")
    lexicon = Lexicon.load(path)
    spoken = lexicon.section("ko").spoken
    assert (spoken("IT"), spoken("it"), spoken("It")) == ("아이티", "잇", "아이티")


def test_a_users_file_wins_and_adds(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("ko:\n  AWS: 아마존\n  우아한형제들: 우아한 형제들\nen:\n  Ximera: zy mera\nfr:\n  SQL: esse ku elle\n", encoding="utf-8")
    lexicon = Lexicon.load(path)
    assert normalize("AWS와 Docker", "ko", lexicon).text == "아마존와 도커"
    assert normalize("우아한형제들에서", "ko", lexicon).text == "우아한 형제들에서"
    assert normalize("At Ximera.", "en", lexicon).text == "At zy mera."
    assert normalize("Le SQL.", "fr", lexicon).text == "Le esse ku elle."


def test_text_that_looks_like_another_yaml_type_stays_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("en:\n  NO: no\n  404: four oh four\n  null: null\n", encoding="utf-8")
    lexicon = Lexicon.load(path)
    assert [lexicon.section("en").spoken(term) for term in ("NO", "404", "null")] == ["no", "four oh four", "null"]


def test_a_term_is_matched_as_a_whole(shipped: Lexicon) -> None:
    assert normalize("Gopher", "ko", shipped).text != "고pher"
    assert "고" == normalize("Go", "ko", shipped).text
    assert normalize("REST API를", "ko", shipped).words[0][0] == "REST API를"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ko:\n  AWS: [에이\n", "not YAML.*line"),
        ("- AWS\n", "section for each language, got a list"),
        ("just text", "section for each language, got a str"),
        ("kor:\n  AWS: 에이\n", "section 'kor'; accepted: .*ko"),
        ("ko: AWS\n", "section ko: expected 'written: spoken'"),
        ("ko:\n  AWS:\n    - 에이\n", "ko.'AWS'.*got"),
        ("ko:\n  AWS: ''\n", "ko.'AWS'.*got ''"),
        ("ko:\n  AWS:\n", "ko.'AWS'"),
        ("ko:\n  AWS: 에이\n  AWS: 비\n", "'AWS' comes twice"),
        ("ko:\n  ? [a, b]\n  : c\n", "line 2.*unhashable key"),
        (f"ko:\n  {'a' * 81}: b\n", "81 characters; at most 80"),
    ],
)
def test_a_malformed_file_is_refused_by_line_or_key(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"(?s)mine\.yaml.*{message}"):
        Lexicon.load(path)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        Lexicon.load(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00ko")
    with pytest.raises(ConfigError, match="not UTF-8"):
        Lexicon.load(tmp_path / "binary.yaml")


def test_an_empty_file_adds_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing yet\nko:\n", encoding="utf-8")
    assert Lexicon.load(tmp_path / "empty.yaml").section("ko").spoken("AWS") == "에이더블유에스"
