"""Gestures of a face that speaks, besides the lips: rests, nods, raised brows, glances.

All of it is a function of the utterance's time and of what lies at most 1.2 s around, never of how the speech was cut into stretches:
time is divided into cells, and each cell decides for itself, by the idle frame (`phase`) that the utterance begins on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from museserve.messages import FloatArray, SpeechWindow
from museserve.timebase import FPS, frames_for
from musetalk.speech_cues.coarticulation import HORIZON_S, smoothstep
from musetalk.speech_cues.controls import BROW_UP, GAZE_X, GAZE_Y, NOD, RISE
from musetalk.speech_cues.segments import Segment, Times
from musetalk.speech_cues.variety import chance
from musetalk.speech_cues.visemes import Kind

Candidates = Sequence[tuple[float, float]]  # (second, weight 0..1)

FALL_S = (0.04, 0.20)  # after a sound ends the face begins to rest, and rests
RISE_S = (0.16, 0.02)  # before a sound begins
BEGIN_S, BEGIN_EARLY_S = 0.12, 0.04  # an utterance fades in, from a little before its time
END_FADE_S = 0.12

ACCENT_CELL_S = 1.0
ACCENT_WINDOW_S = 0.45  # accents start in the first part of a cell, so any two are at least 0.55 s apart
ACCENT_DELAY_S, ACCENT_RISE_S, ACCENT_FALL_S = 0.045, 0.15, 0.35  # after the vowel begins
ACCENT_SIZE, ACCENT_VARIES = 0.75, 0.35  # the second, here and below: what chance adds at most
NOD_DEG, NOD_RISE_MM, BROW = 0.9, 0.25, 0.42
BROW_LEAST, NOD_LOSES = 0.6, 0.35  # some accents are more in the brow, some more in the nod

GLANCE_CELL_S = 2.5
GLANCE_MM = (0.55, 0.22)
GLANCE_WAIT_S, GLANCE_WAIT_VARIES_S = 0.2, 1.2  # from the cell's beginning
GLANCE_WITHIN_S = 0.35  # without a sound for so long after that, there is none in this cell
GLANCE_HOLD_S, GLANCE_HOLD_VARIES_S = 0.30, 0.35
GLANCE_OUT_S, GLANCE_BACK_S = 0.05, 0.06


def activity(segments: Sequence[Segment], times: Times) -> FloatArray:
    """1 while there is speech, exactly 0 in the middle of every pause longer than 0.36 s, at `times` (n,)."""
    active = np.ones(len(times), np.float32)
    for segment in segments:
        if segment.viseme.kind is not Kind.PAUSE:
            continue
        inside = (times >= segment.start) & (times < segment.end)
        since = times - segment.start
        until = np.minimum(segment.end - times, HORIZON_S)
        fall = 1.0 - smoothstep((since - FALL_S[0]) / (FALL_S[1] - FALL_S[0]))
        rise = smoothstep((RISE_S[0] - until) / (RISE_S[0] - RISE_S[1]))
        active = np.where(inside, np.maximum(fall, rise), active)
    return np.asarray(active * smoothstep((times + BEGIN_EARLY_S) / BEGIN_S), np.float32)


def until_end(speech: SpeechWindow, times: Times, lead: float) -> FloatArray:
    """1 until the utterance ends, 0 from its last frame on, at `times` (n,); 1 where it goes on.

    lead: seconds after its beginning at which a frame is read.
    """
    if not speech.final:
        return np.ones(len(times), np.float32)
    last = (frames_for(speech.start + len(speech.pcm)) - 1) / FPS + lead
    return np.asarray(smoothstep((last - times) / END_FADE_S), np.float32)


def accents(candidates: Candidates, times: Times, phase: int = 0) -> FloatArray:
    """Nods and brows (n, 3): brow 0..1, nod in degrees, rise in mm.

    candidates: everything that could carry an accent, in order; each cell takes its first.
    """
    curves = np.zeros((len(times), 3), np.float32)
    taken: set[int] = set()
    for onset, weight in candidates:
        cell = int(onset // ACCENT_CELL_S)
        if cell in taken or onset - cell * ACCENT_CELL_S > ACCENT_WINDOW_S:
            continue
        taken.add(cell)
        size = weight * (ACCENT_SIZE + ACCENT_VARIES * chance(cell, phase, 1))
        lean = chance(cell, phase, 2)
        since = times - (onset + ACCENT_DELAY_S)
        fall = 1.0 - smoothstep((since - ACCENT_RISE_S) / ACCENT_FALL_S)
        head = np.asarray(smoothstep(since / ACCENT_RISE_S) * fall, np.float32)
        curves[:, 0] += size * (BROW_LEAST + (1.0 - BROW_LEAST) * lean) * BROW * head
        curves[:, 1] += size * (1.0 - NOD_LOSES * lean) * NOD_DEG * head
        curves[:, 2] += size * NOD_RISE_MM * head
    return curves


def glances(onsets: Sequence[float], times: Times, phase: int = 0) -> FloatArray:
    """Iris shift (n, 2) in mm: a short look aside every 2 to 3 s, begun with a sound (`onsets`, seconds), back within a second."""
    curves = np.zeros((len(times), 2), np.float32)
    taken: set[int] = set()
    for onset in onsets:
        cell = int(onset // GLANCE_CELL_S)
        offset = onset - cell * GLANCE_CELL_S
        begin = GLANCE_WAIT_S + GLANCE_WAIT_VARIES_S * chance(cell, phase, 3)
        if cell in taken or not begin <= offset <= begin + GLANCE_WITHIN_S:
            continue
        taken.add(cell)
        hold = GLANCE_HOLD_S + GLANCE_HOLD_VARIES_S * chance(cell, phase, 4)
        angle = 2.0 * np.pi * chance(cell, phase, 5)
        since = times - onset
        look = smoothstep(since / GLANCE_OUT_S) * (1.0 - smoothstep((since - hold) / GLANCE_BACK_S))
        curves[:, 0] += GLANCE_MM[0] * np.cos(angle) * look
        curves[:, 1] += GLANCE_MM[1] * np.sin(angle) * look
    return curves


def add_gestures(rows: FloatArray, candidates: Candidates, onsets: Sequence[float], times: Times, amount: float, phase: int = 0) -> None:
    """Add `accents` and `glances`, `amount` times as strong, to `rows` (n, N_CONTROLS), in place."""
    rows[:, [BROW_UP, NOD, RISE]] += amount * accents(candidates, times, phase)
    rows[:, [GAZE_X, GAZE_Y]] += min(amount, 1.0) * glances(onsets, times, phase)
