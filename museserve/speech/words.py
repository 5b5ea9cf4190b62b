"""Word times for captions when the engine knows none: estimated from syllables, punctuation and the silences in the sound."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from museserve.messages import FloatArray, Word
from museserve.timebase import SPEECH_RATE

HOP = SPEECH_RATE // 100  # 10 ms
SHORTEST_SILENCE_S = 0.08
SILENT_BELOW = 0.04  # of the loud level (95th percentile): about -28 dB
FLOOR = 1e-3  # linear RMS that is silence whatever the level
COMMA_SYLLABLES = 0.8  # how many syllables the pause at a sign lasts
STOP_SYLLABLES = 1.6
SNAP_S = 0.4  # a silence this near to where a sign is expected is its pause

_VOWELS = re.compile(r"[aeiouyàáâãäåæèéêëìíîïòóôõöøùúûüýœаеёиоуыэюяіїєαεηιουωάέήίόύώ]+")
_WORD_PART = re.compile(r"[가-힣ぁ-んァ-ヶ一-鿿]|\d|[A-Z]{2,}|[^\W\d]+?(?=[A-Z가-힣\d_]|\W|$)")


def syllables(word: str) -> int:
    """About how many syllables `word` takes to say; 0 when nothing in it is spoken."""
    count = 0
    for part in _WORD_PART.findall(word):
        if len(part) == 1 and not part.isascii():
            count += 1
        elif part.isdecimal():
            count += 1 if part not in "07" else 2
        elif part.isupper():
            count += len(part) + 2 * part.count("W")
        else:
            groups = len(_VOWELS.findall(part.lower()))
            silent_e = groups > 1 and re.search(r"[^aeiouyl]e$", part.lower()) is not None
            count += max(1, groups - silent_e)
    return count


def silences(pcm: FloatArray) -> list[tuple[int, int]]:
    """Stretches of at least 80 ms without speech in float32 (n,) at `SPEECH_RATE`, as (start, end) samples, on a 10 ms grid."""
    n_hops = len(pcm) // HOP
    if n_hops == 0:
        return []
    level = np.sqrt(np.mean(np.square(pcm[: n_hops * HOP].reshape(n_hops, HOP), dtype=np.float64), axis=1))
    quiet = level < max(FLOOR, SILENT_BELOW * float(np.percentile(level, 95)))
    edges = np.flatnonzero(np.diff(np.concatenate(([0], quiet.astype(np.int8), [0]))))
    shortest = round(SHORTEST_SILENCE_S * SPEECH_RATE)
    found = []
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        start, end = int(first) * HOP, len(pcm) if last == n_hops else int(last) * HOP
        if end - start >= shortest:
            found.append((start, end))
    return found


def estimate(
    written: Sequence[str],
    start: int,
    end: int,
    pauses: Sequence[tuple[int, int]] = (),
    *,
    spoken: Sequence[str] = (),
) -> tuple[Word, ...]:
    """Times of the words that are spoken between samples `start` and `end`.

    Args:
        written: the words as written, with their punctuation.
        start, end: samples at `SPEECH_RATE`.
        pauses: silent stretches (start, end) in the same samples, as `silences` finds them (shifted by the caller).
        spoken: what is said for each word, when that is known ("12%" -> "십이 퍼센트"); counts the syllables better.
    Returns:
        One word each, in order, within the span, none overlapping, `estimated`.
    """
    if not written:
        return ()
    start, end = _trim(start, end, pauses)
    inner = [(a, b) for a, b in pauses if start < a and b < end]
    lengths = [float(max(1, syllables(said))) for said in (spoken or written)]
    rests = [_rest(word) for word in written]
    rests[-1] = 0.0
    times = np.cumsum(np.column_stack((lengths, rests)).ravel()) * ((end - start) / (sum(lengths) + sum(rests)))
    stops = [start + float(times[2 * i]) for i in range(len(written))]
    words: list[Word] = []
    first, at = 0, start
    for last, silence in [*_anchors(stops, rests, inner), (len(written) - 1, (end, end))]:
        words += _spread(written[first : last + 1], lengths[first : last + 1], rests[first : last + 1], at, silence[0])
        first, at = last + 1, silence[1]
    return tuple(words)


def _trim(start: int, end: int, pauses: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The span without the silence at its two ends."""
    lead = max((b for a, b in pauses if a <= start < b), default=start)
    trail = min((a for a, b in pauses if a < end <= b), default=end)
    return (lead, trail) if lead < trail else (start, end)


def _rest(word: str) -> float:
    sign = word.rstrip("\"'”’)]}»」』")[-1:]
    if sign in ".?!…。！？":
        return STOP_SYLLABLES if sign else 0.0
    return COMMA_SYLLABLES if sign in ",;:、，—–-" else 0.0


def _anchors(stops: list[float], rests: list[float], inner: list[tuple[int, int]]) -> list[tuple[int, tuple[int, int]]]:
    """Words that end at a silence: each sign with the nearest silence around the time it is expected, in order."""
    anchors: list[tuple[int, tuple[int, int]]] = []
    free = list(inner)
    drift = 0.0  # how much later than expected the last sign came
    for i, (stop, rest) in enumerate(zip(stops[:-1], rests[:-1], strict=True)):
        if not rest or not free:
            continue
        expected = stop + drift
        nearest = min(free, key=lambda silence: abs(silence[0] - expected))
        if abs(nearest[0] - expected) <= SNAP_S * SPEECH_RATE:
            anchors.append((i, nearest))
            drift = nearest[0] - stop
            free = [silence for silence in free if silence[0] > nearest[1]]
    return anchors


def _spread(written: Sequence[str], lengths: Sequence[float], rests: Sequence[float], start: int, end: int) -> list[Word]:
    total = sum(lengths) + sum(rests[:-1])
    words, done = [], 0.0
    for word, length, rest in zip(written, lengths, rests, strict=True):
        a = start + round((end - start) * done / total)
        b = start + round((end - start) * (done + length) / total)
        words.append(Word(word, a, max(a, b), True))
        done += length + rest
    return words
