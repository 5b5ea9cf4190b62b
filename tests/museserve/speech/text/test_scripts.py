"""Letters that a voice does not read, and Japanese."""

from __future__ import annotations

import pytest

from configs.models import SpeechConfig
from museserve.errors import UnspokenLanguageError
from museserve.messages import Delivery
from museserve.speech.offline import OfflineVoices, refuse_unspoken
from museserve.speech.text import japanese, sentences
from museserve.speech.text.language import scripts
from museserve.speech.text.lexicon import Lexicon
from museserve.speech.text.normalize import normalize

LEXICON = Lexicon.load()


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        ("en", "The word 漢字 means characters.", "The word hanzi means characters."),
        ("en", "Say язык, naïve and 𝐇𝐢.", "Say yazyk, naïve and hi."),
        ("ru", "Слово 漢字", "Слово hanzi"),
        ("ja", "ハングルの 한글", "ハングルノ hangeul"),
        ("ko", "мир의 뜻", "미어의 뜻"),
        ("hi", "नमस्ते दुनिया", "नमस्ते दुनिया"),
        ("uk", "п'ять, пʼять", "п'ять, пʼять"),
    ],
)
def test_letters_of_other_scripts_become_latin(language: str, written: str, spoken: str) -> None:
    assert normalize(written, language, LEXICON).text == spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("自己紹介をお願いします。", "ジコショーカイオ オネガイシマス。"),
        ("学校へ行って、彼女は本を読んだ。", "ガッコーエ イッテ、 カノジョワ ホンオ ヨンダ。"),
        ("経験は3年です。", "ケーケンワ サンネンデス。"),
        ("12月5日の午後3時", "ジューニガツ イツカノ ゴゴ サンジ"),
        ("AWSを20台", "エイダブリューエスオ ニジューダイ"),
    ],
)
def test_japanese_is_read_in_kana_as_it_is_pronounced(written: str, spoken: str) -> None:
    form = normalize(written, "ja", LEXICON)
    assert form.text == spoken
    assert "".join(word for word, _ in form.words) == written


def test_what_no_voice_reads_is_refused_only_where_it_is_all() -> None:
    with pytest.raises(UnspokenLanguageError, match="Khmer"):
        refuse_unspoken(sentences.split("ជំរាបសួរ។ សូមណែនាំខ្លួន"))
    refuse_unspoken(sentences.split("ជំរាបសួរ។ Hello there."))
    refuse_unspoken(sentences.split("𝐇𝐞𝐥𝐥𝐨"))


def test_a_sign_that_the_reading_gives_no_place_ends_nothing() -> None:
    assert [word for word, _ in normalize("99999999999999999?-", "ja", LEXICON).words] == ["99999999999999999?-"]  # once read for ever


def test_kanji_without_their_reading_are_refused_and_kana_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(japanese, "is_read", lambda: False)
    with pytest.raises(UnspokenLanguageError, match=r"museserve\[ja\]"):
        refuse_unspoken(sentences.split("自己紹介をお願いします。"))
    refuse_unspoken(sentences.split("ありがとうございます。"))
    refuse_unspoken(sentences.split("안녕하세요. 今日は良い天気です。"))


@pytest.mark.parametrize("voice", ["auto", "joe", "espeak-f"])
def test_every_voice_says_rows_of_letters_and_tells_what_it_spells(voice: str) -> None:
    offline = OfflineVoices(LEXICON, SpeechConfig())
    for text, language, told in (
        ("hghe", "ko", "hghe as 에이치지에이치이"),
        ("hghe", "en", ""),
        ("A 漢字 in it.", "en", "漢字 as hanzi"),
        ("สวัสดี", "th", "Thai letter by letter"),
    ):
        pieces = list(offline.speak(sentences.split(text, hint=language), Delivery(voice, 1.0, language, "female")))
        assert sum(bool(phoneme.symbol) for piece in pieces for phoneme in piece.synthesis.phonemes) >= 4
        assert told in pieces[0].notice


def test_scripts_of_a_language() -> None:
    assert scripts("sr") == {"LATIN", "CYRILLIC"} and scripts("de") == {"LATIN"} and "CJK" in scripts("zh") and "CJK" not in scripts("ja")
