"""Gestures of a face that speaks, besides the lips: rests, nods, turns, raised brows, glances.

All of it is a function of the utterance's time and of what lies at most 1.2 s around, never of how the speech was cut into stretches:
time is divided into cells, and each cell decides for itself, by the idle frame (`phase`) that the utterance begins on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from museserve.messages import FloatArray, SpeechWindow
from museserve.timebase import FPS, frames_for
from musetalk.speech_cues.coarticulation import HORIZON_S, smoothstep
from musetalk.speech_cues.controls import BROW_UP, GAZE_X, GAZE_Y, NOD, RISE, TURN
from musetalk.speech_cues.segments import Segment, Times
from musetalk.speech_cues.variety import chance
from musetalk.speech_cues.visemes import Kind

Candidates = Sequence[tuple[float, float, int]]  # (second, weight 0..1, number by which chance tells it from others)

FALL_S = (0.04, 0.20)  # after a sound ends the face begins to rest, and rests
RISE_S = (0.16, 0.02)  # before a sound begins
BEGIN_S, BEGIN_EARLY_S = 0.12, 0.04  # an utterance fades in, from a little before its time
END_FADE_S = 0.12
SETTLE_S, END_SETTLE_S = 0.32, 0.20  # the head takes longer: after a phrase ends, and before the utterance does

ACCENT_CELL_S = 1.05
ACCENT_WINDOW_S = 0.5  # accents begin in the first part of a cell, so any two are at least 0.55 s apart
ACCENT_RISE_S, ACCENT_FALL_S = (0.19, 0.25), (0.34, 0.44)  # with its window one ends within what is known of the speech
# What the head does: it mostly nods; or turns as well, or comes up with the brows, or stays while brows move.
BEATS, TURNS, LIFTS = 0.45, 0.27, 0.15  # shares of the accents
BEAT_DEG, TURN_NOD_DEG, LIFT_DEG, TURN_DEG = 2.4, 1.3, -1.3, 1.2
BROW_WITH_BEAT, BROW_WITH_LIFT, BROW_ALONE = 0.22, 0.6, 0.45
ACCENT_SIZE, ACCENT_VARIES = 0.6, 0.75  # the second: what chance adds at most
DROP_MM = 0.35  # a head also goes down by so much a degree, because necks bend
FOLLOWS_MM = 0.17  # that eyes go the other way for each degree of the head, so that they stay on the viewer

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


def until_end(speech: SpeechWindow, times: Times, lead: float, fade_s: float = END_FADE_S) -> FloatArray:
    """1 until the utterance ends, 0 from its last frame on, at `times` (n,); 1 where it goes on.

    lead: seconds after its beginning at which a frame is read.
    """
    if not speech.final:
        return np.ones(len(times), np.float32)
    last = (frames_for(speech.start + len(speech.pcm)) - 1) / FPS + lead
    return np.asarray(smoothstep((last - times) / fade_s), np.float32)


def accents(candidates: Candidates, times: Times, phase: int = 0, ends: Sequence[float] = ()) -> FloatArray:
    """What stressed words do to the head (n, 4): brow 0..1, nod in degrees, rise in mm, turn in degrees.

    candidates: everything that could carry an accent, in order; each cell takes its first. ends: of phrases, s, after which the head rests.
    """
    curves = np.zeros((len(times), 4), np.float32)
    first_cell = ACCENT_CELL_S * chance(0, phase, 9)
    taken: set[int] = set()
    for begin, weight, number in candidates:
        cell = int((begin - first_cell) // ACCENT_CELL_S)
        if cell in taken or begin - first_cell - cell * ACCENT_CELL_S > ACCENT_WINDOW_S:
            continue
        taken.add(cell)
        size = weight * (ACCENT_SIZE + ACCENT_VARIES * chance(number, phase, 1))
        rise, fall = (low + (high - low) * chance(number, phase, salt) for salt, (low, high) in ((6, ACCENT_RISE_S), (7, ACCENT_FALL_S)))
        since = times - begin
        head = np.asarray(smoothstep(since / rise) * (1.0 - smoothstep((since - rise) / fall)), np.float32)
        rest = min((end for end in ends if end > begin), default=np.inf)
        head *= 1.0 - smoothstep((times - rest) / SETTLE_S)
        brow, nod, turn = _accent(number, phase)
        curves[:, 0] += size * brow * head
        curves[:, 1] += size * nod * head
        curves[:, 3] += size * turn * head
    curves[:, 2] = -DROP_MM * curves[:, 1]
    return curves


def _accent(number: int, phase: int) -> tuple[float, float, float]:
    """Brow 0..1, nod and turn in degrees of the accent of this number."""
    kind = chance(number, phase, 2)
    if kind < BEATS:
        return BROW_WITH_BEAT, BEAT_DEG, 0.0
    if kind < BEATS + TURNS:
        return BROW_WITH_BEAT, TURN_NOD_DEG, TURN_DEG if chance(number, phase, 8) < 0.5 else -TURN_DEG
    if kind < BEATS + TURNS + LIFTS:
        return BROW_WITH_LIFT, LIFT_DEG, 0.0
    return BROW_ALONE, 0.0, 0.0


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


def add_head(rows: FloatArray, head: FloatArray) -> None:
    """Add what `accents` gives to `rows` (n, N_CONTROLS), in place; eyes stay on the viewer."""
    rows[:, [BROW_UP, NOD, RISE, TURN]] += head
    rows[:, [GAZE_X, GAZE_Y]] -= FOLLOWS_MM * head[:, [3, 1]]
