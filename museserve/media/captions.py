"""Words with times to captions that can be read: cues broken where the sentence or the voice pauses, as WebVTT."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from museserve.messages import Word
from museserve.timebase import SPEECH_RATE

COLUMNS = 42  # of a line; Hangul, kana and ideographs take two: 21 of them
LINES = 2
PAUSE_S = 0.6  # a silence this long ends a cue
LONGEST_S = 6.0
SHORTEST_MS = 1_000  # where there is room before the next cue
FLICKER_MS = 250  # an empty screen shorter than this is not shown
COMMA_PULL = 0.4  # a sentence is cut at a comma rather than in its middle, when the comma is no farther off than this part of its length

_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]»」』]*$")
_COMMA = re.compile(r"[,;:，、；：]$")
_SPACELESS = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")  # scripts written without spaces: kana and ideographs


@dataclass(frozen=True)
class Cue:
    """What stands on the screen at once. start_ms < end_ms, from the utterance's first sample; words: with their own times."""

    start_ms: int
    end_ms: int
    words: tuple[Word, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple("".join(text for text, _ in line) for line in _lines(self.words))


def cues(words: Sequence[Word]) -> list[Cue]:
    """Cues in order, none overlapping another. Words with nothing to show are left out."""
    sentences: list[list[Word]] = []
    for word in words:
        if not word.text.strip():
            continue
        if not sentences or _ends(sentences[-1][-1], word):
            sentences.append([])
        sentences[-1].append(word)
    groups = [group for sentence in sentences for group in _fitting(sentence)]
    starts: list[int] = []
    for group in groups:  # each begins after the one before, whatever the times say
        starts.append(max(_ms(group[0].start), starts[-1] + 1 if starts else 0))
    result = []
    for i, (start, group) in enumerate(zip(starts, groups, strict=True)):
        end = max(_ms(max(word.end for word in group)), start + SHORTEST_MS)
        if i + 1 < len(groups):
            end = starts[i + 1] if end > starts[i + 1] - FLICKER_MS else end
        result.append(Cue(start, end, tuple(group)))
    return result


def webvtt(captions: Sequence[Cue], *, word_times: bool = False) -> str:
    """A WebVTT file. word_times: each word after the first of a cue carries its time, so that a player can follow the voice."""
    blocks = ["WEBVTT"]
    if any(word.estimated for cue in captions for word in cue.words):
        blocks.append("NOTE Word times are estimated from the sound.")
    for cue in captions:
        text = _timed(cue) if word_times else html.escape("\n".join(cue.lines), quote=False)
        blocks.append(f"{_clock(cue.start_ms)} --> {_clock(cue.end_ms)}\n{text}")
    return "\n\n".join(blocks) + "\n"


def _ends(last: Word, following: Word) -> bool:
    """Whether a sentence ends between these words, by its sign or by a pause."""
    return bool(_SENTENCE_END.search(last.text.rstrip())) or following.start - last.end >= PAUSE_S * SPEECH_RATE


def _fitting(words: list[Word]) -> list[list[Word]]:
    """A sentence in halves, and halves of halves, until each fits a cue: so no word is left over alone at the end."""
    too_long = words[-1].end - words[0].start > LONGEST_S * SPEECH_RATE or len(_lines(words)) > LINES
    if len(words) == 1 or not too_long:
        return [words]
    widths = [_columns(word.text) + 1 for word in words]
    total, left = sum(widths), 0
    best, cut = float(total), 1
    for i, (word, width) in enumerate(zip(words[:-1], widths, strict=False), start=1):
        left += width
        off = abs(total - 2 * left) - (2 * COMMA_PULL * total if _COMMA.search(word.text.rstrip()) else 0)
        if off < best:
            best, cut = off, i
    return _fitting(words[:cut]) + _fitting(words[cut:])


def _lines(words: Sequence[Word]) -> list[list[tuple[str, Word]]]:
    """Words laid into lines of at most `COLUMNS`, each as (text with the space before it, word). A word wider than a line is cut."""
    lines: list[list[tuple[str, Word]]] = [[]]
    width = 0
    previous = ""
    for word in words:
        for part in _parts(" ".join(word.text.split())):
            glue = " " if previous and not (_SPACELESS.match(part) and _SPACELESS.search(previous[-1])) else ""
            if lines[-1] and width + _columns(glue + part) > COLUMNS:
                lines.append([])
                width = 0
            piece = glue + part if lines[-1] else part
            lines[-1].append((piece, word))
            width += _columns(piece)
            previous = part
    return lines


def _parts(text: str) -> list[str]:
    if _columns(text) <= COLUMNS:
        return [text]
    parts, part = [], ""
    for char in text:
        if _columns(part + char) > COLUMNS:
            parts.append(part)
            part = ""
        part += char
    return [*parts, part]


def _timed(cue: Cue) -> str:
    lines = []
    reached = cue.start_ms
    shown: Word | None = cue.words[0]
    for line in _lines(cue.words):
        text = ""
        for piece, word in line:
            at = _ms(word.start)
            if word is not shown and reached < at < cue.end_ms:  # times inside a cue must rise
                space = piece[: len(piece) - len(piece.lstrip())]
                text += f"{space}<{_clock(at)}>{html.escape(piece.lstrip(), quote=False)}"
                reached = at
            else:
                text += html.escape(piece, quote=False)
            shown = word
        lines.append(text)
    return "\n".join(lines)


def _columns(text: str) -> int:
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _ms(samples: int) -> int:
    return round(max(samples, 0) * 1_000 / SPEECH_RATE)


def _clock(ms: int) -> str:
    seconds, ms = divmod(ms, 1_000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}"
