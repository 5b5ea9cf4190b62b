"""Cut a text into the clauses that are synthesised one after another: the first one short, so that sound starts early."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from museserve.speech.text import language
from museserve.speech.text.clean import Cleaned, clean, is_speakable

PAUSE_CLAUSE_S = 0.12
PAUSE_SENTENCE_S = 0.3
PAUSE_QUESTION_S = 0.35
PAUSE_PARAGRAPH_S = 0.55
PAUSE_BREATH_S = 0.05  # a cut at a space, where the writer set no sign
MIN_CLAUSE_CHARS = 12  # a shorter clause sounds chopped off
WIDE_CHARS = 2  # a Hangul syllable, kana or Han character takes as long to say as so many Latin letters


@dataclass(frozen=True)
class Clause:
    """A stretch to synthesise. `text` is what is written without emoji and Markdown; it comes from `source[start:end]`.

    `language`: the base tag of the sentence it belongs to. `pause_s`: silence to put after it, seconds.
    """

    text: str
    start: int
    end: int
    language: str
    pause_s: float


_SPACES, _SIGNS = re.compile(r"\s+"), re.compile(r"[/_.,;:|+=&?-]+")
_DATE = re.compile(r"(?<!\d)(?:19|20)\d\d\.(?: ?\d{1,2}\.){0,2}$")  # 2026. 12. 4.
_CLOSERS = "\"'”’»)\\]}」』】"
_END = re.compile(rf"(?:[.!?…]+|(?P<wide>[。！？]+))[{_CLOSERS}]*")
_NEWLINES = re.compile(r"\n[ \n]*")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“‘])(?:e\.g|i\.e|a\.k\.a|cf|vs|approx|Dr|Mr|Mrs|Ms|Prof|St|Jr|Sr|Gen|Rep|Sen|Lt|Col|Capt|Sgt|No|Nos|Fig|Figs|Eq|Ch|Sec|Vol|pp|p|ed|"
    r"dept|est|Mt|Ft|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec|z\.B|d\.h|usw|bzw|Sra|Sr|Dra|Mme|M|ca)\.$"
)
_BEFORE_NUMBER = re.compile(
    r"(?:^|[\s(])(?:(?<!is )(?<!said )(?<!was )[Nn]os?|[Ee]xt|[Mm]ax|[Mm]in|[Aa]vg|[Aa]rts?"
    r"|[Pp]ara|[Rr]ev|[Tt]el|[Qq]ty|[Ii]ncl|[Ee]xcl|[Ee]st|Apt|Rm|Bldg|Ste)\.$"
)
_BEFORE_NAME = re.compile(r"(?:^|\s)(?:v|Asst|Assoc|Mgr|Eng|Univ|Dept)\.$")
_LISTED = re.compile(r"\s*(?:[QA]?\d{1,2}|[A-Za-z가-힣])\.")
_INITIALS = re.compile(r"(?:^|[\s(\"'“‘.])(?:[A-Z]\.)+$")
_NAME_BEFORE = re.compile(r"(?:^|[\s(\"'“‘])[A-Z][a-z]+ [A-Z]\.$|^\s*[\"'“‘(]?(?:[A-HJ-Z]\. ?)+$|[A-Z]\.[A-Z]\.$")
_SAID = re.compile(r"\s*(?:이?라[고는며]|하[고며는였]|했|고[ ,]|물[었으]|말[했하씀]|답[했하])")  # after a quotation: the sentence goes on
_LOWER = re.compile(r"\s+(?:[a-zà-öø-ÿа-яё]|[-–—]\s)")  # the sentence goes on

# Clause borders, as the place where the next clause starts. What begins with white space is looked for from the
# beginning of the white space only: from each of its characters would take time that grows with its square.
# Strong: the writer's own signs.
_STRONG = re.compile(
    r"(?<=[,;:、，；：])[\"'”’)]*\s+|[、，；：](?=\S)|(?<!\s)\s+(?=[-–—]\s)|(?:(?<!\s)\s+)?[—](?=\S)"
    r"|(?<=\))\s+|(?<!\s)\s+(?=\()"
)
_JOINED = r"because|although|though|while|whereas|which|unless|until|whether|when|where|before|after|if|so that|as well as"
_WEAK_LATIN = re.compile(
    rf"(?<!\s)\s+(?=(?:{_JOINED})\s)"
    r"|(?<!\s)\s+(?=(?:and|but|so|or|then)\s(?:then|how|what|why|when|where|who|which|if|I|you|we|they|he|she|it|please|explain|describe|tell|give|walk|also|let)\b)"
    r"|(?<!\s)\s+(?=(?:y|pero|porque|cuando|mais|parce que|quand|aber|weil|und|dass|wenn|ma|perché|quando|mas)\s)"
    r"|(?<!\s)\s+(?=(?:что|который|которая|которые|когда|если|потому|но)\s)"
)
_WEAK_KOREAN = re.compile(
    r"(?:(?:[는은인한던운된]데|[^\s]지만|[^\s]으?면서|(?:으니|니)까|[아어여해라려]서|[^\s]려고|[^\s]도록|[^\s]거나|[^\s]든지|[^\s]다가|[^\s]므로|[^\s]으며|[하되이]며"
    r"|[^\s광최사창경참재로원신권충예품]고|[^\s화측장반도전후가라저표단정평양배대]면|[했았었]을 때|할 때|때문에|위해|통해))\s+"
)
_NOT_BORDERS = frozenset(
    "그런데 하지만 그러니까 그리고 그러면 그래서 그러면서 그렇지만 이러면 하면 그러므로 따라서 이어서 해서 "
    "게다가 화면 측면 장면 반면 도면 전면 후면 가면 라면 저면 어떤데".split()
)
_AUXILIARY = re.compile(r"(?:있|싶|계[시셨신]|나서|나면|말[고아았]|합니까|보[았는니면]|가[고는]|오[고는])")


def split(text: str, first_clause_chars: int = 48, max_chars: int = 300, hint: str = language.AUTO) -> list[Clause]:
    """The clauses of `text` in order; their spans do not overlap and together hold every letter.

    Args:
        first_clause_chars: near this length the first sentence is cut at a clause border (Hangul counts double).
        max_chars: no clause is longer.
        hint: as in `language.detect`.
    """
    cleaned = clean(text)
    sentences = list(_sentences(cleaned.text))
    dominant = language.detect(cleaned.text, hint)
    clauses: list[Clause] = []
    for start, end, pause_s in sentences:
        sentence = cleaned.text[start:end]
        tag = language.detect(sentence, hint, fallback=dominant)
        cuts = _cuts(sentence, first_clause_chars if not clauses else None, max_chars)
        for a, b in zip([0, *cuts], [*cuts, len(sentence)], strict=True):
            last = b == len(sentence)
            clauses += _clause(cleaned, start + a, start + b, tag, pause_s if last else _pause(sentence, b))
    return clauses


def complete(text: str, max_chars: int = 160) -> int:
    """How many characters at the beginning of a text that still grows can be spoken, whatever follows: whole sentences.

    A sentence is known to be over when something follows it. One that grows beyond `max_chars` (Hangul counts double) is cut at a clause border.
    """
    written = len(text.rstrip())
    ready = max((end for end, _ in _sentence_ends(text) if end < written), default=0)
    rest = text[ready:]
    weights = _weights(rest)
    if weights[-1] > max_chars:
        for borders in _borders(rest):
            if fitting := [cut for cut in borders if weights[cut] >= MIN_CLAUSE_CHARS and weights[-1] - weights[cut] >= MIN_CLAUSE_CHARS]:
                return ready + fitting[-1]
    if weights[-1] <= 3 * max_chars:
        return ready
    return ready + _long_cut(rest, 0, bisect_right(weights, 2 * max_chars) - 1)


def _clause(cleaned: Cleaned, start: int, end: int, tag: str, pause_s: float) -> list[Clause]:
    while start < end and cleaned.text[start].isspace():
        start += 1
    while end > start and cleaned.text[end - 1].isspace():
        end -= 1
    written = cleaned.text[start:end]
    if not is_speakable(written):
        return []
    return [Clause(" ".join(written.split()), cleaned.starts[start], cleaned.ends[end - 1], tag, pause_s)]


def _pause(sentence: str, cut: int) -> float:
    before = sentence[:cut].rstrip()
    if before[-1:] in ",;:、，；：)—–-" or sentence[cut : cut + 2].lstrip()[:1] in ("—", "–", "(", "-"):
        return PAUSE_CLAUSE_S
    if cut < len(sentence) and not sentence[cut - 1].isspace() and not sentence[cut].isspace():
        return 0.0
    return PAUSE_BREATH_S


def _sentences(text: str) -> Iterator[tuple[int, int, float]]:
    """(start, end, pause after) of each sentence that can be spoken; what cannot is left to the one before it."""
    start = looked_at = 0
    found: list[tuple[int, int, float]] = []
    for end, pause_s in _sentence_ends(text):
        speakable, looked_at = is_speakable(text[looked_at:end]), end  # before it nothing since `start` is
        if speakable:
            found.append((start, end, pause_s))
            start = end
        elif found:
            a, _, before_s = found[-1]
            found[-1] = (a, found[-1][1], max(before_s, pause_s))
            start = end
    return iter(found)


def _sentence_ends(text: str) -> Iterator[tuple[int, float]]:
    pos = 0
    lines = [*((match.start(), match.end(), match[0].count("\n") > 1) for match in _NEWLINES.finditer(text)), (len(text), len(text), False)]
    for line_end, next_line, paragraph in lines:
        for match in _END.finditer(text, pos, line_end):
            if match.end() < line_end and _is_end(text, pos, match):
                pos = match.end()
                yield match.end(), PAUSE_QUESTION_S if "?" in match[0] or "？" in match[0] else PAUSE_SENTENCE_S
        if paragraph:
            yield line_end, PAUSE_PARAGRAPH_S
        elif not _wraps(text, pos, line_end, next_line):
            tail = text[pos:line_end].rstrip(_CLOSERS.replace("\\", "") + " ")
            yield line_end, PAUSE_QUESTION_S if tail.endswith(("?", "？")) else PAUSE_SENTENCE_S
        pos = next_line


def _wraps(text: str, start: int, line_end: int, next_line: int) -> bool:
    """Whether the sentence goes on in the next line: a long line without an end sign, followed by no new start."""
    if next_line >= len(text):
        return False
    line = text[start:line_end].rstrip()
    following = text[next_line]
    return len(line) >= 40 and not _END.search(line[-3:]) and (following.islower() or "가" <= following <= "힣")


def _is_end(text: str, start: int, match: re.Match[str]) -> bool:
    if match["wide"]:
        return True
    at, end = match.start(), match.end()
    before, after = text[at - 1 : at], text[end]
    signs = text[at:end]
    if signs[-1] in "\"'”’」』" and _SAID.match(text, end):
        return False
    if not after.isspace():  # "했습니다.그리고": no space, still an end; "3.14", "main.py", "U.S.A" are not
        return _is_wide(before) and (_is_wide(after) or after.isupper()) and not signs.startswith("..")
    if signs == "." and _DATE.search(text[max(start, at - 12) : end]):
        return False
    if signs.rstrip(_CLOSERS) == "." or signs.startswith("."):
        head = text[max(start, at - 24) : at + 1]
        if len(signs.rstrip("\"'”’»)]}」』】")) == 1 and (
            _ABBREVIATION.search(head)
            or (_BEFORE_NUMBER.search(head) and text[end + 1 : end + 2].isdecimal())
            or (_BEFORE_NAME.search(head) and text[end + 1 : end + 2].isupper())
            or _LISTED.fullmatch(text[start : at + 1])
            or (_INITIALS.search(head) and _NAME_BEFORE.search(head))
        ):
            return False
        return not _LOWER.match(text, end)
    return not (signs[0] == "…" and _LOWER.match(text, end)) and not (signs[-1] in "\"'”’»" and _LOWER.match(text, end))


def _is_wide(char: str) -> bool:
    return "\u3040" <= char <= "\u9fff" or "가" <= char <= "힣"


def _weights(sentence: str) -> list[int]:
    """weights[i]: how long sentence[:i] is to say, in Latin letters."""
    weights = [0]
    for char in sentence:
        weights.append(weights[-1] + (WIDE_CHARS if _is_wide(char) else 1))
    return weights


def _cuts(sentence: str, first_chars: int | None, max_chars: int) -> list[int]:
    cuts: list[int] = []
    start = 0
    if first_chars is not None and (cut := _first_cut(sentence, first_chars)):
        cuts.append(cut)
        start = cut
    while len(sentence) - start > max_chars:
        start = _long_cut(sentence, start, max_chars)
        cuts.append(start)
    return cuts


def _borders(sentence: str) -> tuple[list[int], list[int]]:
    strong = [match.end() for match in _STRONG.finditer(sentence)]
    weak = [match.end() for match in _WEAK_LATIN.finditer(sentence)]
    for match in _WEAK_KOREAN.finditer(sentence):
        stop = match.start() + len(match[0].rstrip())
        word = sentence[sentence.rfind(" ", 0, stop) + 1 : stop]
        if word not in _NOT_BORDERS and not (word.endswith("고") and _AUXILIARY.match(sentence, match.end())):
            weak.append(match.end())
    return strong, sorted(weak)


def _first_cut(sentence: str, first_chars: int) -> int:
    """Where the first clause ends, or 0 when the sentence is short or has no border that leaves two whole clauses."""
    weights = _weights(sentence)
    total = weights[-1]
    if total <= first_chars:
        return 0
    strong, weak = _borders(sentence)

    def within(borders: list[int], limit: float) -> list[int]:
        return [cut for cut in borders if MIN_CLAUSE_CHARS <= weights[cut] <= limit and total - weights[cut] >= MIN_CLAUSE_CHARS]

    for limit in (1.25 * first_chars, 2.0 * first_chars):
        for borders in (strong, weak):
            if cuts := within(borders, limit):
                return cuts[-1] if limit < 2 * first_chars else cuts[0]
    if not within([match.end() for match in _SPACES.finditer(sentence)], 2 * first_chars):  # an address, or what is no word
        if cuts := within([match.end() for match in _SIGNS.finditer(sentence)], 1.25 * first_chars):
            return cuts[-1]
    return 0


def _long_cut(sentence: str, start: int, max_chars: int) -> int:
    """The best place to end a clause that begins at `start` and must not be longer than `max_chars`."""
    window = sentence[start : start + max_chars + 1]
    least = max(1, max_chars // 3)
    strong, weak = _borders(window)
    for borders in (strong, weak, [match.end() for match in re.finditer(r"\s+", window)]):
        fitting = [cut for cut in borders if least <= cut <= max_chars]
        if fitting:
            return start + fitting[-1]
    cut = start + max_chars
    while cut > start + least and unicodedata.combining(sentence[cut]):
        cut -= 1
    return cut
