"""English words in Hangul by rule, for terms that are in no lexicon: spelling -> sounds -> syllables.

The sounds follow the commonest reading of each spelling; the syllables follow the Korean rules for loanwords (외래어 표기법, English):
a voiceless stop closes a short syllable (cat -> 캣), other consonants take ㅡ (desk -> 데스크), l between vowels doubles (color -> 컬러).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from museserve.speech.text.english_sounds import pronounce
from museserve.speech.text.hangul import compose
from museserve.speech.text.korean_numbers import number
from museserve.speech.text.tables import table

LETTERS = dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "에이 비 씨 디 이 에프 지 에이치 아이 제이 케이 엘 엠 엔 오 피 큐 알 에스 티 유 브이 더블유 엑스 와이 제트".split(),
        strict=True,
    )
)
ENGLISH_DIGITS = "제로 원 투 쓰리 포 파이브 식스 세븐 에이트 나인".split()

# Patterns of spelling and their sounds; None: the spelling's first letter is its sound.
_RULES: dict[re.Pattern[str], str | None] = {re.compile(rule): said for rule, said in table("transliterate").items()}

_ONSET = dict(b="ㅂ", d="ㄷ", f="ㅍ", g="ㄱ", h="ㅎ", j="ㅈ", k="ㅋ", l="ㄹ", m="ㅁ", n="ㄴ", p="ㅍ", r="ㄹ", s="ㅅ", t="ㅌ", v="ㅂ", z="ㅈ", ch="ㅊ")
_CODA = dict(m="ㅁ", n="ㄴ", ng="ㅇ", l="ㄹ")
_STOPS = dict(p="ㅂ", t="ㅅ", k="ㄱ")
_Y = dict(zip("ㅏㅐㅓㅔㅗㅜ", "ㅑㅒㅕㅖㅛㅠ", strict=True))
_W = dict(zip("ㅏㅐㅓㅔㅣㅗ", "ㅘㅙㅝㅞㅟㅝ", strict=True))
_I_FILLED = ("ch", "j", "sh")  # without a vowel they take ㅣ, not ㅡ


_PHONES = {
    **dict(zip("bdfhklmnpstvz-", "bdfhklmnpstvz-", strict=True)),
    **dict(zip("ɡŋɹʃʒʧʤθðɾTwj", "g ng r sh j ch j s d t t w y".split(), strict=True)),
    **{"A": "ㅔ ㅣ", "I": "ㅏ ㅣ", "W": "ㅏ ㅜ", "Y": "ㅗ ㅣ", "O": "ㅗ", "i": "ㅣ", "u": "ㅜ", "ɔ": "ㅗ", "ɜ": "ㅓ", "e": "ㅔ"},
    **{"æ": "ㅐ'", "ɛ": "ㅔ'", "ɪ": "ㅣ'", "ᵻ": "ㅣ'", "ʌ": "ㅓ'", "ə": "ㅓ'", "ᵊ": "ㅓ'", "ʊ": "ㅜ'", "ɑ": "ㅏ'", "ɒ": "ㅗ'", "a": "ㅏ'"},
}
_PHONE_VOWELS = tuple("AIWYOiuɔɜeæɛɪᵻʌəᵊʊɑɒa")
_UPPER_RUN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[A-Z]|\d+")
_VOWEL = re.compile(r"[aeiouy]")


def say_letters(letters: str) -> str:
    """AWS -> 에이더블유에스."""
    return "".join(LETTERS[letter] for letter in letters.upper())


def _unknown(term: str) -> str | None:
    return None


@lru_cache(4096)
def say_identifier(token: str, known: Callable[[str], str | None] = _unknown) -> str:
    """A token of ASCII letters and digits that may be an acronym, a word, or several joined: getUserName -> 겟 유저 네임, S3 -> 에스 쓰리.

    `known`: the reading of a part that needs no rule, or None.
    """
    parts: list[str] = []
    for run in _UPPER_RUN.findall(token):
        if len(run) > 1 and (said := known(run)):
            parts.append(said)
        elif run.isdecimal():
            parts.append(ENGLISH_DIGITS[int(run)] if len(run) == 1 and parts else number(run))
        elif is_spelled(run):
            parts.append(say_letters(run))
        else:
            parts.append(say_word(run.lower()) or say_letters(run))
    return " ".join(parts)


def is_spelled(run: str) -> bool:
    """Whether a run of letters is said letter by letter: short capitals, and what has no vowel."""
    return len(run) == 1 or (run.isupper() and len(run) <= 4) or not _VOWEL.search(run.lower())


@lru_cache(4096)
def say_word(word: str) -> str:
    """A lower-case English word in Hangul: server -> 서버."""
    said = pronounce(word)
    return _syllables(_sounds_of(said, word) if said else _sounds(word))


def _sounds_of(said: str, word: str) -> list[str]:
    """hibari's phoneme letters as sounds. Weak vowels and the American a of "lock" follow the spelling, as they do in Korean (토큰, 시스템)."""
    sounds: list[str] = []
    written = _written_vowels(said, word)
    for i, letter in enumerate(said):
        after = said[i + 1 : i + 2]
        if letter == "ɹ" and after not in _PHONE_VOWELS:
            if said[i - 1 : i] in ("ɛ", "ɪ", "ʊ"):  # ware -> 웨어
                sounds.append("ㅓ")
        elif letter == "ɑ" and after != "ɹ":
            sounds.append("ㅗ'" if "o" in word else "ㅏ'")
        elif letter in "əᵊ" and after == "l" and said[i - 1 : i] in tuple("bpdtkɡfvszT") and said[i + 2 : i + 3] not in _PHONE_VOWELS:
            sounds.append("ㅡ")
        elif letter in "əᵊᵻ":
            sounds.append(_weak(written.get(i), word) + ("'" if after != "ɹ" else ""))
        elif letter in _PHONES:
            sound = _PHONES[letter].split()
            sounds += [part.rstrip("'") for part in sound] if after == "ɹ" else sound
    return sounds


def _written_vowels(said: str, word: str) -> dict[int, tuple[int, int]]:
    """Where in `word` each vowel of `said` is written, if the two have as many."""
    heard = [i for i, letter in enumerate(said) if letter in "AIWYOiuɔɜeæɛɪᵻʌəᵊʊɑɒa"]
    seen = [match.span() for match in re.finditer(r"(?<!q)[aeiou]+|(?<!^)y", word)]
    if len(seen) == len(heard) + 1 and word.endswith(("e", "es", "ed")):
        seen.pop()
    return dict(zip(heard, seen, strict=True)) if len(seen) == len(heard) else {}


def _weak(span: tuple[int, int] | None, word: str) -> str:
    """The Hangul vowel of a schwa that is written `word[span]`."""
    if span is None:
        return "ㅓ"
    letters, rest = word[span[0] : span[1]], word[span[1] :]
    if letters in ("i", "y"):
        return "ㅣ"
    if letters == "a" and not rest:
        return "ㅏ"
    if letters == "e":
        if span[0] == 0 or (span[0] == 1 and word[0] in "rdb" and rest[:1] != "n") or rest in ("t", "ts", "ss"):
            return "ㅣ"
        if rest in ("n", "ns"):
            return "ㅡ"
        return "ㅓ" if rest[:1] in ("n", "r") else "ㅔ"
    return "ㅗ" if letters == "o" and rest[:1] == "r" and rest[1:2] in tuple("aeiouy") else "ㅓ"


def _sounds(word: str) -> list[str]:
    word = re.sub("c{2,}", "k", re.sub("cc(?=[eiy])", "ks", word))  # other doubled letters are one
    sounds: list[str] = []
    pos = 0
    while pos < len(word):
        for pattern, said in _RULES.items():
            if match := pattern.match(word, pos):
                sounds += [word[pos]] if said is None else _split_long(said)
                pos = match.end()
                break
        else:
            pos += 1
    return sounds


def _split_long(said: str) -> list[str]:
    """ "ㅔㅣ t" -> ["ㅔ", "ㅣ", "t"]: a diphthong is two vowels to Hangul."""
    return [sound for part in said.split() for sound in (part if part[0] > "z" and not part.endswith("'") else [part])]


def _is_vowel(sound: str) -> bool:
    return sound[0] > "z"


def _syllables(sounds: list[str]) -> str:
    out: list[list[str]] = []  # [onset, vowel, coda]
    short = False  # the last syllable is open and its vowel short
    i = 0
    while i < len(sounds):
        sound = sounds[i]
        after = sounds[i + 1] if i + 1 < len(sounds) else ""
        if _is_vowel(sound):
            out.append(["ㅇ", sound[0], " "])
            short = sound.endswith("'")
        elif sound == "-":  # between the halves of a compound
            short = False
        elif sound in ("y", "w"):
            if after and _is_vowel(after):
                out.append(["ㅇ", (_Y if sound == "y" else _W).get(after[0], after[0]), " "])
                short = after.endswith("'")
                i += 1
        elif after and _is_vowel(after):
            _onset(out, sound, after[0])
            short = after.endswith("'")
            i += 1
        elif (after == "y" or (after == "w" and sound in ("k", "g", "h"))) and i + 2 < len(sounds) and _is_vowel(sounds[i + 2]):
            vowel = sounds[i + 2]
            _onset(out, sound, (_Y if after == "y" else _W).get(vowel[0], vowel[0]))
            short = vowel.endswith("'")
            i += 2
        else:
            open_before = bool(out) and out[-1][2] == " "
            if open_before and sound in _CODA:
                out[-1][2] = _CODA[sound]
            elif sound == "t" and after == "s":  # ts is one consonant: tests -> 테스츠
                out.append(["ㅊ", "ㅡ", " "])
                i += 1
            elif sound == "m" and out and out[-1][2] == "ㄹ":  # film -> 필름
                out.append(["ㄹ", "ㅡ", "ㅁ"])
            elif open_before and short and sound in _STOPS and after not in ("l", "r", "m", "n"):
                out[-1][2] = _STOPS[sound]
            elif sound == "sh" and not after:
                out.append(["ㅅ", "ㅣ", " "])
            elif sound == "ng":
                pass
            elif sound in _I_FILLED:
                out.append([_ONSET.get(sound, "ㅅ"), "ㅣ", " "])
            else:
                out.append([_ONSET[sound], "ㅡ", " "])
            short = False
        i += 1
    return "".join(compose(*syllable) for syllable in out)


def _onset(out: list[list[str]], sound: str, vowel: str) -> None:
    """A consonant and the vowel after it."""
    if sound == "sh":
        out.append(["ㅅ", _Y.get(vowel, vowel), " "])
        return
    if sound == "ng":
        if out and out[-1][2] == " ":
            out[-1][2] = "ㅇ"
        out.append(["ㅇ", vowel, " "])
        return
    if sound == "l" and out and out[-1][2] == " ":
        out[-1][2] = "ㄹ"
    if sound in ("j", "ch", "z"):  # 쥬 and 츄 are not written in loanwords
        vowel = dict(zip("ㅑㅒㅕㅖㅛㅠ", "ㅏㅐㅓㅔㅗㅜ", strict=True)).get(vowel, vowel)
    if sound == "r" and vowel == "ㅠ":
        vowel = "ㅜ"
    out.append([_ONSET[sound], vowel, " "])
