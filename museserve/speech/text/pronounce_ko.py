"""Korean as it is pronounced: each written syllable to the one that is said, by the Standard Pronunciation (표준 발음법).

Every rule works on the border of two syllables, so the number of characters stays, and a place in what is written is the
same place in what is said. Numbers beside the code are those of the standard's articles. What no rule can know without
knowing the word (compounds, Sino-Korean suffixes, stems of verbs) stands in pronounce_ko.yaml.

A morphological analyser would know more words: kiwipiepy is the one whose data come in a package, 88 MB of them, and each
replica that speaks would hold and load them, for what these rules miss of an interview's words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from museserve.speech.text.hangul import CODAS, ONSETS, VOWELS, compose
from museserve.speech.text.tables import table

NONE = " "  # no coda, as `CODAS` writes it
# What a border is: inside a word, between two, or as pronounce_ko.yaml marks it.
INSIDE, SPACE, OWN, LETTER, TENSE, NASAL, ADD_N, PLAIN = "", " ", "|", "~", "'", "=", "+", "_"
MARKS = OWN + LETTER + TENSE + NASAL + ADD_N + PLAIN
# 8-11: what of a coda is heard at the end of a word, or before a consonant.
HEARD = dict(zip(CODAS, " ㄱㄱㄱㄴㄴㄴㄷㄹㄱㅁㄹㄹㄹㅂㄹㅁㅂㅂㄷㄷㅇㄷㄷㄱㄷㅂㄷ", strict=True))
# 13, 14: what stays of a coda, and what moves to a syllable that begins with a vowel.
MOVED = {coda: (NONE, coda) for coda in "ㄱㄲㄴㄷㄹㅁㅂㅅㅆㅈㅊㅋㅌㅍ"} | {
    "ㄳ": ("ㄱ", "ㅆ"),
    "ㄵ": ("ㄴ", "ㅈ"),
    "ㄺ": ("ㄹ", "ㄱ"),
    "ㄻ": ("ㄹ", "ㅁ"),
    "ㄼ": ("ㄹ", "ㅂ"),
    "ㄽ": ("ㄹ", "ㅆ"),
    "ㄾ": ("ㄹ", "ㅌ"),
    "ㄿ": ("ㄹ", "ㅍ"),
    "ㅄ": ("ㅂ", "ㅆ"),
    "ㄶ": (NONE, "ㄴ"),
    "ㅀ": (NONE, "ㄹ"),
    "ㅎ": (NONE, "ㅇ"),
}
LETTERS = {**dict.fromkeys("ㄷㅈㅊㅌㅎ", "ㅅ"), "ㅋ": "ㄱ", "ㅍ": "ㅂ"}  # 16
PALATAL = {"ㄷ": (NONE, "ㅈ"), "ㅌ": (NONE, "ㅊ"), "ㄾ": ("ㄹ", "ㅊ")}  # 17
TENSED = dict(zip("ㄱㄷㅂㅅㅈ", "ㄲㄸㅃㅆㅉ", strict=True))
NASALS = {"ㄱ": "ㅇ", "ㄷ": "ㄴ", "ㅂ": "ㅁ"}
H_LEAVES = {"ㅎ": NONE, "ㄶ": "ㄴ", "ㅀ": "ㄹ"}
AFTER_H = {"ㄱ": "ㅋ", "ㄷ": "ㅌ", "ㅈ": "ㅊ", "ㅅ": "ㅆ", "ㅎ": "ㅎ"}  # 12
BEFORE_H = {  # 12: what stays, and what the ㅎ becomes
    **dict.fromkeys("ㄱㄲㅋㄳ", (NONE, "ㅋ")),
    **dict.fromkeys("ㄷㅅㅆㅊㅌ", (NONE, "ㅌ")),
    **dict.fromkeys("ㅂㅍㅄ", (NONE, "ㅍ")),
    "ㅈ": (NONE, "ㅊ"),
    "ㄵ": ("ㄴ", "ㅊ"),
    "ㄺ": ("ㄹ", "ㅋ"),
    "ㄼ": ("ㄹ", "ㅍ"),
}
STEM_CODAS = {"ㄵ": "ㄴ", "ㄻ": "ㅁ", "ㄼ": "ㄹ", "ㄾ": "ㄹ"}  # 24, 25: of verbs; tense what follows
NOUNS = frozenset("닭흙칡슭삶덟")  # that have such a coda: their particles are no endings of verbs
ANY_CODA = "."
LOOK_BACK = 6  # characters that a pattern of what stands before may need

_PHRASE = re.compile(r"[가-힣]+(?: [가-힣]+)*")


@dataclass
class Syllable:
    """onset, vowel, coda: letters, which the rules change; written: as it was."""

    written: str
    onset: str
    vowel: str
    coda: str

    @classmethod
    def of(cls, char: str) -> Syllable:
        index = ord(char) - 0xAC00
        return cls(char, ONSETS[index // 588], VOWELS[index // 28 % 21], CODAS[index % 28])


class Words:
    """Entries of the table: words with marks before their syllables. The longest that matches wins.

    One matches at the beginning of a word; with a * before it, everywhere. A mark at its end is of what follows it.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._marks: dict[str, list[tuple[int, str]]] = {}
        self._anywhere: set[str] = set()
        self._longest: dict[str, int] = {}
        for entry in entries:
            word = "".join(char for char in entry if char not in MARKS + "*")
            marks = re.finditer(f"[{re.escape(MARKS)}]", entry.lstrip("*"))
            self._marks[word] = [(match.start() - nth, match[0]) for nth, match in enumerate(marks)]
            self._longest[word[0]] = max(len(word), self._longest.get(word[0], 0))
            if entry[0] == "*":
                self._anywhere.add(word)

    def find(self, phrase: str) -> Iterator[tuple[int, str]]:
        """Places in the phrase, and the marks of the borders before them."""
        at = 0
        while at < len(phrase):
            begins = at == 0 or phrase[at - 1] == " "
            for size in range(self._longest.get(phrase[at], 0), 0, -1):
                word = phrase[at : at + size]
                if word in self._marks and (begins or word in self._anywhere):
                    yield from ((at + before, mark) for before, mark in self._marks[word])
                    at += size - 1
                    break
            at += 1


@dataclass(frozen=True)
class Context:
    """A border that is known by what stands around it. coda: of the syllable before it; "" = any, ANY_CODA = any but none."""

    coda: str
    before: re.Pattern[str] | None
    after: re.Pattern[str]
    mark: str


_TABLE = table("pronounce_ko")
_WORDS = Words(entry for group in _TABLE["words"].values() for entry in group.split())
_LATERAL = frozenset(_TABLE["lateral"].split())
_END = "(?![가-힣])"
_PARTICLES = "|".join(_TABLE["particles"].split())
_NOUN_ENDS = rf"(?:(?:{_PARTICLES}){_END}|{_END})"


def _context(coda: str, before: str, after: str, mark: str) -> Context:
    return Context(coda, re.compile(f"(?:{before})$") if before else None, re.compile(after), mark)


def _any(name: str) -> str:
    return "|".join(_TABLE[name].split())


# The first that fits decides; the table's words come before all of them. A space belongs to what stands after.
_CONTEXTS = (
    # 26: Sino-Korean ㄹ before ㄷ, ㅅ, ㅈ
    _context("ㄹ", rf"[{_TABLE['sino_left']}]", rf"[{_TABLE['sino_right']}]", TENSE),
    _context("ㄹ", "", rf"적(?:{_END}|이|인|으|일|임)", TENSE),
    # 27: after the ending -(으)ㄹ
    _context("ㄹ", "", rf" (?:(?:{_any('bound_nouns')}){_NOUN_ENDS}|것|겁니|거예|거야|거라)", TENSE),
    _context("ㄹ", _any("will"), " [가-깋다-딯바-빟사-싷자-짛]", TENSE),
    _context("ㄹ", "", "수록|지라도|지언정|진대|세라|걸요|게요|거예요|거야|겁니다", TENSE),
    _context("ㄹ", _any("future"), rf"(?:지|게|걸){_END}|지[는도를에]|밖에", TENSE),
    # 28: -성 of a quality, but not nouns that merely end so
    _context("", rf"[가-힣][가-힣](?<![{''.join(_TABLE['plain_seong'].split())}])", rf"성{_NOUN_ENDS}", TENSE),
    # 28: what costs, rights, tickets, regions, laws and ways, behind a word of their own
    _context("", "[가-힣](?<![제반])", "값", TENSE),
    _context("", "[가-힣][가-힣](?<!제[가-힣])", rf"권(?:{_NOUN_ENDS}|자{_NOUN_ENDS})", TENSE),
    _context("", "[가-힣][가-힣](?<![방사위준])", rf"법(?:{_NOUN_ENDS}|상{_END})", TENSE),
    # 28: departments whose name is also a noun with its particle: 정신과 의사, but 정신과 육체
    _context(
        "",
        "(?<![가-힣])안|정신|신경|방사선|민원",
        rf"과(?:(?:에서|에|를|는|가|의|도|로|입니다){_END}|전문|진료|병원|의사|"
        rf"{_END}(?:$| (?:의사|전문의|진료|병원|간호|치료|상담|병동|환자|수술|외래|근무)))",
        TENSE,
    ),
    # 15: no coda moves to 없
    _context(ANY_CODA, "[가-힣]", "없", OWN),
    # 29: behind a word of their own, what is used for it, stations, rates, journeys, leaves
    _context(ANY_CODA, "[가-힣][가-힣](?<![활적응인운통임병혼남착복실전공상범신관식약겸등중])", rf"용{_NOUN_ENDS}", ADD_N),
    _context(ANY_CODA, "[가-힣][가-힣](?<![통번면방광권전병현반영용검악단공])", rf"역{_NOUN_ENDS}", ADD_N),
    _context("ㄴ", "[가-힣][가-힣](?<![환운선])", "율", ADD_N),
    _context(ANY_CODA, "[가-힣][가-힣]", "여행|요금|요원|요리|요법", ADD_N),
    _context(ANY_CODA, "[가-힣]", "잎|이불", ADD_N),
    # 29: numbers, and " 일", what is done
    _context("", "[십백천만]", "육", ADD_N),
    _context("", "[열물른흔쉰순든]", "여[섯덟]", ADD_N),
    _context("", _any("before_work"), rf" 일(?:{_END}(?! (?:{_any('counted')}))|(?:{_PARTICLES}){_END}|중)", ADD_N),
    _context("", "무슨|한|그런|어떤", " (?:요일|여름)", ADD_N),
    _context("", "못", " [이입읽잊여일]", ADD_N),
    _context("", "옷|잘", " 입", ADD_N),
)


def pronounce(text: str) -> str:
    """What is said for `text`, with as many characters. What is not Hangul stays, and ends a phrase, but for a single space."""
    return _PHRASE.sub(lambda match: _phrase(match[0]), text)


def _phrase(phrase: str) -> str:
    row = [Syllable.of(char) if char != " " else None for char in phrase]
    borders = _borders(phrase)
    spoken = [syllable for syllable in row if syllable is not None]
    places = [place for place, syllable in enumerate(row) if syllable is not None]
    for place, left, right in zip(places[1:], spoken, spoken[1:], strict=False):
        kind, space = borders.get(place, INSIDE), phrase[place - 1] == " "
        if kind == INSIDE and _is_apart(phrase, place, left, right):
            kind = NASAL
        if kind == SPACE and left.coda in "ㄴㄹㅁ" and phrase[max(0, place - 3) : place - 2].strip():
            continue  # two words that are heard as two; of those that are one syllable long the sound runs on: 한 아이, 잘 안
        _join(left, right, kind, space)
    if spoken:
        spoken[-1].coda = HEARD[spoken[-1].coda]
    return "".join(" " if syllable is None else _said(syllable) for syllable in row)


def _borders(phrase: str) -> dict[int, str]:
    """Marks of borders, each by the place of the syllable after it."""
    found: dict[int, str] = {}
    for place in range(1, len(phrase)):
        if phrase[place] == " ":
            found[place + 1] = SPACE
        at = place if phrase[place] == " " or phrase[place - 1] != " " else None  # the space is looked at with its word
        if at is None or phrase[at] == phrase[at - 1]:  # 26: not where a syllable is doubled
            continue
        start = max(0, at - LOOK_BACK)
        coda = CODAS[(ord(phrase[at - 1]) - 0xAC00) % 28]
        for context in _CONTEXTS:
            if context.coda and context.coda != coda and (context.coda != ANY_CODA or coda == NONE) or not context.after.match(phrase, at):
                continue
            if context.before is None or context.before.search(phrase[start:at]):
                found[at + (phrase[at] == " ")] = context.mark
                break
    for place, mark in _WORDS.find(phrase):
        found[place + (phrase[place : place + 1] == " ")] = mark
    return found


def _is_apart(phrase: str, place: int, left: Syllable, right: Syllable) -> bool:
    """20: ㄹ of a Sino-Korean suffix behind a whole word, as in 생산량: it becomes ㄴ. In 관련, or 인력 of 전문인력, it does not."""
    word = phrase.rfind(" ", 0, place) + 1
    return left.coda == "ㄴ" and right.written in "란량력론료령례류로록" and place - word >= 2 and phrase[place - 1 : place + 1] not in _LATERAL


def _join(left: Syllable, right: Syllable, kind: str, space: bool) -> None:
    """The border of two syllables. space: between words, whatever its mark."""
    if kind == ADD_N and right.onset == "ㅇ":
        left.coda, right.onset, kind = HEARD[left.coda], "ㄴ", INSIDE
    apart = space or kind == OWN
    if left.coda == NONE:
        if kind == TENSE:
            right.onset = TENSED.get(right.onset, right.onset)
    elif right.onset == "ㅇ":
        _before_vowel(left, right, kind, apart)
    elif right.onset == "ㅎ" and (HEARD[left.coda] if apart else left.coda) in BEFORE_H:
        _before_h(left, right, apart)
    elif left.coda in H_LEAVES and right.onset in AFTER_H and kind not in (OWN, TENSE):
        left.coda, right.onset = H_LEAVES[left.coda], AFTER_H[right.onset]
    else:
        _before_consonant(left, right, kind, apart)


def _before_vowel(left: Syllable, right: Syllable, kind: str, apart: bool) -> None:
    """13-17."""
    if left.coda == "ㅇ":
        return
    if apart:
        left.coda, right.onset = NONE, HEARD[left.coda]
    elif kind == LETTER:
        left.coda, right.onset = NONE, LETTERS[left.coda]
    elif left.coda in PALATAL and right.vowel in "ㅣㅕ":
        left.coda, right.onset = PALATAL[left.coda]
    else:
        left.coda, right.onset = MOVED[left.coda]


def _before_h(left: Syllable, right: Syllable, apart: bool) -> None:
    """12, and 17 of 닫히다, 닫혔다: but not of 맏형."""
    if left.coda == "ㄷ" and not apart and (right.vowel == "ㅣ" or right.vowel == "ㅕ" and right.coda in (NONE, "ㅆ")):
        left.coda, right.onset = NONE, "ㅊ"
    else:
        left.coda, right.onset = BEFORE_H[HEARD[left.coda] if apart else left.coda]


def _before_consonant(left: Syllable, right: Syllable, kind: str, apart: bool) -> None:
    """10, 11, 18-20, 23-28."""
    coda, onset = HEARD[left.coda], right.onset
    tense = kind == TENSE
    if left.coda in H_LEAVES and onset == "ㄴ":  # 12: 놓는, 뚫네
        coda = "ㄴ" if left.coda == "ㅎ" else H_LEAVES[left.coda]
    elif left.written == "밟" or left.written == "넓" and right.written in "죽둥":
        coda = "ㅂ"
    elif left.coda == "ㄺ" and onset == "ㄱ" and left.written not in NOUNS and not apart:
        coda, tense = "ㄹ", True
    elif left.coda in STEM_CODAS and left.written not in NOUNS and not apart and kind != PLAIN:
        tense = onset in "ㄱㄷㅅㅈ"
    tense = tense or coda in NASALS
    if onset in TENSED and tense and kind != PLAIN:
        onset = TENSED[onset]
    elif onset == "ㄹ":
        if coda in "ㅁㅇ" or kind == NASAL or coda == "ㄴ" and apart:
            onset = "ㄹ" if coda == "ㄴ" and apart and kind != NASAL else "ㄴ"
        elif coda in NASALS:
            coda, onset = NASALS[coda], "ㄴ"
        elif coda == "ㄴ":
            coda = "ㄹ"
    elif onset in "ㄴㅁ" and coda in NASALS:
        coda = NASALS[coda]
    elif onset == "ㄴ" and coda == "ㄹ":
        onset = "ㄹ"
    left.coda, right.onset = coda, onset


def _said(syllable: Syllable) -> str:
    """5: 져, 쪄, 쳐 without their y; ㅢ behind a consonant is ㅣ."""
    vowel = syllable.vowel
    if vowel == "ㅕ" and syllable.onset in "ㅈㅉㅊ":
        vowel = "ㅓ"
    elif vowel == "ㅢ" and Syllable.of(syllable.written).onset != "ㅇ":
        vowel = "ㅣ"
    return compose(syllable.onset, vowel, syllable.coda)
