"""From an engine's raw output to the common form: silence trimmed, gain, limiter, fades, times that match the sound."""

from __future__ import annotations

import numpy as np

from museserve.messages import FloatArray, Phoneme
from museserve.speech.engines.loudness import limited
from museserve.speech.engines.voice_engine import SpeechMark, Synthesis
from museserve.timebase import SPEECH_RATE

MARGIN_S = 0.06  # silence kept before and after the sound
QUIET_DB = -38.0  # below this, relative to the loud level, is silence
_WINDOW = SPEECH_RATE // 200  # 5 ms
_FADE = SPEECH_RATE // 250  # 4 ms
_OPENING = round(0.008 * SPEECH_RATE)  # a shorter hole before the first sound is none
_PAUSE = round(0.04 * SPEECH_RATE)  # shorter holes between two sounds belong to the sound before
_NOTHING = np.zeros(0, np.float32)


def sounding_span(pcm: FloatArray) -> tuple[int, int]:
    """The samples (first, end) between which float32 (n,) at `SPEECH_RATE` sounds; (0, 0) for silence.

    Sound is what is above `QUIET_DB`, relative to the loud level: the 95th percentile of 5 ms RMS.
    """
    n = len(pcm) // _WINDOW
    rms = np.sqrt(np.square(pcm[: n * _WINDOW].reshape(n, _WINDOW)).mean(1)) if n else np.zeros(0, np.float32)
    if not n or rms.max() < 1e-4:
        return 0, 0
    loud = np.flatnonzero(rms > np.percentile(rms[rms > rms.max() * 0.01], 95) * 10 ** (QUIET_DB / 20))
    return int(loud[0]) * _WINDOW, (int(loud[-1]) + 1) * _WINDOW


def finish(
    pcm: FloatArray,
    phonemes: list[Phoneme],
    marks: list[SpeechMark],
    gain: float,
    shift_s: float,
    *,
    begins_clause: bool = True,
    text_end: int | None = None,
    around: tuple[FloatArray, FloatArray] = (_NOTHING, _NOTHING),
) -> Synthesis:
    """A clause or a piece of it from an engine's raw output.

    Args:
        pcm: float32 (n,) at `SPEECH_RATE` with whatever silence the engine put around it.
        phonemes, marks: with the engine's own times, in order.
        gain: of this voice, linear; peaks are limited.
        shift_s: seconds to add to the engine's times so that they match the sound.
        begins_clause: False for a piece that continues a clause.
        text_end: as in `Synthesis`; only a piece without it, the last, is trimmed at its end.
        around: the clause's sound before and after a piece, which the limiter hears: `loudness.AROUND` samples of each, where there are any.
    """
    first, last = sounding_span(pcm)
    if first == last and begins_clause and text_end is None:
        return Synthesis(np.zeros(0, np.float32), ())
    margin = round(MARGIN_S * SPEECH_RATE)
    cut = max(0, first - margin) if begins_clause else 0
    lead = margin - (first - cut) if begins_clause else 0  # of silence that was not there
    last = max(last, _FADE) if text_end is None else len(pcm)
    before, after = around
    level = limited(np.concatenate([before, pcm, after]), gain)[len(before) : len(before) + len(pcm)]
    body = level[cut : last + margin if text_end is None else last]
    fade = np.linspace(0.0, 1.0, _FADE, dtype=np.float32)
    if begins_clause:
        body[:_FADE] *= fade
    if text_end is None:
        body[-_FADE:] *= fade[::-1]
    sound = np.concatenate([np.zeros(lead, np.float32), body])
    move = round(shift_s * SPEECH_RATE) - cut + lead
    end = last - cut + lead

    def at(sample: int) -> int:
        return min(max(sample + move, 0), end)

    moved = [Phoneme(p.symbol, at(p.start), at(p.end), p.stress) for p in phonemes]
    placed = tuple(SpeechMark(m.first, m.last, at(m.start), at(m.end)) for m in marks if at(m.end) > at(m.start))
    return Synthesis(sound, _unbroken(moved, len(sound)), placed, text_end)


def _unbroken(phonemes: list[Phoneme], end: int) -> tuple[Phoneme, ...]:
    """Phonemes that cover 0..end: holes become pauses, or part of the sound before when they are short."""
    row: list[Phoneme] = []
    reached = 0
    for phoneme in [p for p in phonemes if p.symbol and p.end > p.start] + [Phoneme("", end, end)]:
        hole = phoneme.start - reached
        start = max(phoneme.start, reached)
        if hole >= (_PAUSE if row else _OPENING):
            row.append(Phoneme("", reached, phoneme.start))
        elif hole > 0 and row:
            row[-1] = Phoneme(row[-1].symbol, row[-1].start, phoneme.start, row[-1].stress)
        elif hole > 0:
            start = reached
        if phoneme.end > start:
            row.append(Phoneme(phoneme.symbol, start, phoneme.end, phoneme.stress))
        reached = max(reached, phoneme.end)
    return tuple(row)
