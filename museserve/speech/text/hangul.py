"""Hangul syllables and their letters."""

from __future__ import annotations

ONSETS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
CODAS = " ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"

# Revised Romanization of Korean, letter by letter.
_ROMAN_ONSETS = "g kk n d tt r m b pp s ss - j jj ch k t p h".replace("-", "").split(" ")
_ROMAN_VOWELS = "a ae ya yae eo e yeo ye o wa wae oe yo u wo we wi yu eu ui i".split(" ")
_ROMAN_CODAS = "- k k k n n n t l k m l l l p l m p p t t ng t t k t p t".replace("-", "").split(" ")


def compose(onset: str, vowel: str, coda: str = " ") -> str:
    return chr(0xAC00 + (ONSETS.index(onset) * 21 + VOWELS.index(vowel)) * 28 + CODAS.index(coda))


def romanize(text: str) -> str:
    """Hangul in Latin letters, for a voice that cannot read it; everything else as it is."""
    out = []
    for char in text:
        if "가" <= char <= "힣":
            index = ord(char) - 0xAC00
            out.append(_ROMAN_ONSETS[index // 588] + _ROMAN_VOWELS[index // 28 % 21] + _ROMAN_CODAS[index % 28])
        else:
            out.append(char)
    return "".join(out)
