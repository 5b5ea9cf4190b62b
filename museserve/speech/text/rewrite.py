"""Turn what is written into what is spoken while remembering which written word each spoken letter came from."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Change:
    """A stretch of the written text, what is said for it, and the rule that says so."""

    written: str
    spoken: str
    rule: str


@dataclass(frozen=True)
class SpokenForm:
    """What an engine is given for a written text.

    words: (written word, (start, end) of its spoken form in `text`), in order, not overlapping.
    A written word may contain spaces when it is spoken as one ("O(n log n)"); a word that is not spoken, such as a lone dash,
    is joined to the one before it. changes: in order.
    """

    text: str
    words: tuple[tuple[str, tuple[int, int]], ...]
    changes: tuple[Change, ...] = ()


Found = tuple[int, int, str]


class Finder(Protocol):
    @property
    def name(self) -> str: ...

    def find(self, text: str, pos: int) -> Found | None:
        """The next replacement at or after `pos`: (start, end, spoken), start < end."""


class Rule:
    """Replaces what `pattern` matches with what `say` answers, a text as it is with the pattern's groups in {}; None leaves the match alone."""

    def __init__(self, name: str, pattern: str, say: Callable[[re.Match[str]], str | None] | str, flags: int = 0) -> None:
        self.name = name
        self._pattern = re.compile(pattern, flags)
        self._say = say

    def find(self, text: str, pos: int) -> Found | None:
        while match := self._pattern.search(text, pos):
            spoken = self._say.format(**match.groupdict()) if isinstance(self._say, str) else self._say(match)
            if spoken is not None and match.end() > match.start():
                return match.start(), match.end(), spoken
            pos = match.start() + 1
        return None


def rewrite(text: str, rules: Sequence[Finder]) -> SpokenForm:
    """Apply `rules` from left to right, each to what is written (never to another's answer). Where two start together the earlier rule wins."""
    pending: list[Found | None] = [rule.find(text, 0) for rule in rules]
    out: list[tuple[str, int, int]] = []  # spoken letters, and the stretch of `text` they come from
    changes: list[Change] = []
    pos = 0
    while True:
        best: Found | None = None
        by = ""
        for i, found in enumerate(pending):
            if found is not None and found[0] < pos:
                found = pending[i] = rules[i].find(text, pos)
            if found is not None and (best is None or found[0] < best[0]):
                best, by = found, rules[i].name
        if best is None:
            break
        assert best[1] > best[0] >= pos, (by, best)  # else this would never end
        changes.append(Change(text[best[0] : best[1]], best[2], by))
        out.extend((text[i], i, i + 1) for i in range(pos, best[0]))
        out.extend((char, best[0], best[1]) for char in best[2])
        pos = best[1]
    out.extend((text[i], i, i + 1) for i in range(pos, len(text)))
    form = _align(text, _squeeze(out))
    return SpokenForm(form.text, form.words, tuple(changes))


def _squeeze(out: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """No space at the ends, none doubled, none before a comma or a full stop."""
    kept: list[tuple[str, int, int]] = []
    for i, item in enumerate(out):
        char = item[0]
        if char.isspace():
            if kept and kept[-1][0] != " ":
                kept.append((" ", item[1], item[2]))
            continue
        if char in ",.?!" and kept and kept[-1][0] == " " and not (i + 1 < len(out) and out[i + 1][0].isalnum()):  # " .5" keeps its space
            kept.pop()
        kept.append(item)
    while kept and kept[-1][0] == " ":
        kept.pop()
    return kept


def _align(text: str, out: list[tuple[str, int, int]]) -> SpokenForm:
    words: list[tuple[str, tuple[int, int]]] = []
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    at = 0  # next spoken letter that belongs to no word yet
    i = 0
    while i < len(spans):
        start, end = spans[i]
        first = at
        spoken = -1
        while at < len(out) and (out[at][1] < end or out[at][0] == " "):
            if out[at][0] == " " and out[at][1] >= end:
                break
            if out[at][0] != " ":
                if spoken < 0:
                    first = at
                spoken = at + 1
                while out[at][2] > end and i + 1 < len(spans) and spans[i + 1][0] < out[at][2]:
                    i += 1
                    end = spans[i][1]
            at += 1
        i += 1
        written = " ".join(text[start:end].split())
        if spoken >= 0 and any(out[k][0].isalnum() for k in range(first, spoken)):
            words.append((written, (first, spoken)))
        elif words:  # silent: show it with the word before
            before, (a, b) = words[-1]
            words[-1] = (f"{before} {written}", (a, max(b, spoken)))
        elif i < len(spans):  # silent at the very start: show it with the next
            spans[i] = (start, spans[i][1])
    return SpokenForm("".join(char for char, _, _ in out), tuple(words))
