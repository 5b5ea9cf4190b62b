"""Text that arrives delta by delta, as a language model writes it, into texts that can be spoken."""

from __future__ import annotations

import re
from typing import Literal

from museserve.errors import TextError
from museserve.speech.text.clean import Speakable, canonical, is_heard
from museserve.speech.text.sentences import complete

LOOK_CHARS = 40  # a text that grew by so much is looked at again, whatever came: a long sentence is cut
_SIGN = re.compile(r"[.!?…。！？\n]")
_CLOSERS = "\"'”’»)]}」』】"


class TextDeltas:
    """`add` deltas, `take` what can be spoken.

    A delta may end anywhere: a half of a surrogate pair waits for the other, and nothing is cut inside a syllable, because a sentence is only
    over when something follows it.

    begin: which characters the first text has, from and to, where somebody heard what is before them already.
    """

    def __init__(self, max_chars: int, begin: tuple[int, int] | None = None) -> None:
        self._max_chars = max_chars
        self._begin = begin
        self._at = 0  # characters before the pending ones
        self.taken = (0, 0)  # from and to, of the text that was taken last
        self._pending = ""
        self._chars = 0
        self.final = False
        self._flushed = False
        self._grown = False  # since `_look`
        self._end = 0  # characters at the beginning that can be spoken
        self._fixed = False  # that is the text of `begin`: it does not grow
        self._looked_at = 0  # length of the text when that was last found out

    @property
    def pending_chars(self) -> int:
        return len(self._pending)

    @property
    def ready(self) -> bool:
        """Whether `take` would give something."""
        return self._end > 0

    @property
    def done(self) -> bool:
        """No more comes, and nothing is left that could be spoken."""
        return self.final and not self.ready

    def add(self, delta: str, *, flush: bool = False, final: bool = False) -> None:
        """Raises TextError when the text is final already or becomes too long; the delta is then not added."""
        if self.final:
            raise TextError("the text of this utterance is final; announce another one")
        if self._chars + len(delta) > self._max_chars:
            raise TextError(f"the text grows to {self._chars + len(delta):,} characters; accepted: {self._max_chars:,} in one utterance")
        pending = _joined(self._pending, delta)
        if self._begin is not None:
            self._begin_again(pending, self._begin, final)
        else:
            self._pending = pending
        self._chars += len(delta)
        self.final = final
        if self._begin is None:
            self._flushed = self._flushed or flush or final
            self._grown = True
            if not self._end:  # else `take` looks: to look at a text that waits for each delta takes its length times theirs
                self._look()

    def take(self) -> Speakable | Literal[""]:
        """What can be spoken now, "" when there is nothing."""
        if not self._end:
            return ""
        if self._grown:
            self._look()
        self.taken = (self._at, self._at + self._end)
        text = self._pending[: self._end]
        self._drop(self._end)
        if not self._pending[: self._whole].strip():
            self._flushed = self.final
        self._end = self._looked_at = 0
        self._fixed = False
        self._look()
        return Speakable(canonical(text))

    def _begin_again(self, pending: str, begin: tuple[int, int], final: bool) -> None:
        """Keep what came until the first text is there, and then offer that, whole."""
        start, end = begin
        if len(pending) < end:
            if final:
                raise TextError(f"the text ends after {len(pending):,} characters; what was heard of it before ends after {end:,}")
            self._pending = pending
            return
        if not is_heard(canonical(pending[start:end])):
            raise TextError(f"characters {start:,} to {end:,} have nothing to speak: they are not what was heard of this text before")
        self._begin, self._pending = None, pending
        self._drop(start)
        self._end, self._fixed = end - start, True

    @property
    def _whole(self) -> int:
        """Characters that are pending, without a half of which the other may still come."""
        return len(self._pending) - ("\ud800" <= self._pending[-1:] <= "\udbff" and not self.final)

    def _drop(self, chars: int) -> None:
        self._pending = self._pending[chars:]
        self._at += chars

    def _look(self) -> None:
        """Find out what can be spoken, when the end of the text gives a reason to."""
        if self._fixed:
            return
        self._grown = False
        if not (self._flushed or self._may_end() or len(self._pending) > self._looked_at + LOOK_CHARS):
            return
        self._looked_at = len(self._pending)
        end = self._whole if self._flushed else complete(self._pending)
        if is_heard(canonical(self._pending[:end])):
            self._end = end
        else:  # signs alone
            self._drop(end)
            self._looked_at = 0

    def _may_end(self) -> bool:
        """Whether something follows a sign that came since `_look`."""
        text, last = self._pending, len(self._pending) - 1
        while last >= 0 and (text[last].isspace() or text[last] in _CLOSERS):
            last -= 1
        return _SIGN.search(text, max(0, self._looked_at - 6), max(last, 0)) is not None


def _joined(text: str, delta: str) -> str:
    """Halves of surrogate pairs that met become the character; a half at the end is kept, one elsewhere is dropped."""
    half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
    if not half and not any("\ud800" <= char <= "\udfff" for char in delta):
        return text + delta
    new = half + delta
    tail = new[-1:] if "\ud800" <= new[-1:] <= "\udbff" else ""
    whole = new[: len(new) - len(tail)].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
    return text[: len(text) - len(half)] + whole + tail
