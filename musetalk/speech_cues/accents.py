"""What a face does besides the lips while it speaks: rests, nods, raised brows, glances.

All of it is a function of the utterance's time and of what lies at most 1.2 s around, never of how the speech was cut into stretches:
time is divided into cells, and each cell decides for itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from museserve.messages import FloatArray, SpeechWindow
from museserve.timebase import FPS, frames_for
from musetalk.speech_cues.controls import BROW_UP, GAZE_X, GAZE_Y, NOD, RISE
from musetalk.speech_cues.segments import Segment
from musetalk.speech_cues.shapes import HORIZON_S, Seconds, smoothstep
from musetalk.speech_cues.visemes import Kind

FALL_S = (0.04, 0.20)  # after a sound ends the face begins to rest, and rests
RISE_S = (0.16, 0.02)  # before a sound begins
BEGIN_S = 0.12
END_FADE_S = 0.12

ACCENT_CELL_S = 1.0
ACCENT_WINDOW_S = 0.45  # accents start in the first part of a cell, so any two are at least 0.55 s apart
NOD_DEG, NOD_RISE_MM, BROW = 0.9, 0.25, 0.42

GLANCE_CELL_S = 2.5
GLANCE_MM = (0.55, 0.22)


def activity(segments: Sequence[Segment], times: Seconds) -> FloatArray:
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
    return np.asarray(active * smoothstep((times + 0.04) / BEGIN_S), np.float32)


def until_end(speech: SpeechWindow, times: Seconds, lead: float) -> FloatArray:
    """1 before the end of the utterance and 0 from its last frame on (read at `lead` seconds after a frame begins); 1 where it goes on."""
    if not speech.final:
        return np.ones(len(times), np.float32)
    last = (frames_for(speech.start + len(speech.pcm)) - 1) / FPS + lead
    return np.asarray(smoothstep((last - times) / END_FADE_S), np.float32)


def accents(onsets: Sequence[tuple[float, float]], times: Seconds) -> FloatArray:
    """Nods and brows (n, 3): brow 0..1, nod in degrees, rise in mm.

    onsets: (second, weight 0..1) of everything that could carry an accent, in order; each cell takes its first.
    """
    curves = np.zeros((len(times), 3), np.float32)
    taken: set[int] = set()
    for onset, weight in onsets:
        cell = int(onset // ACCENT_CELL_S)
        if cell in taken or onset - cell * ACCENT_CELL_S > ACCENT_WINDOW_S:
            continue
        taken.add(cell)
        size = weight * (0.75 + 0.35 * chance(cell, 1))
        lean = chance(cell, 2)  # some accents are more in the brow, some more in the nod
        head = _bump(times, onset + 0.045, 0.15, 0.35)
        curves[:, 0] += size * (0.6 + 0.4 * lean) * BROW * head
        curves[:, 1] += size * (1.0 - 0.35 * lean) * NOD_DEG * head
        curves[:, 2] += size * NOD_RISE_MM * head
    return curves


def glances(onsets: Sequence[float], times: Seconds) -> FloatArray:
    """Iris shift (n, 2) in mm: a short look aside every 2 to 3 s, begun with a sound (`onsets`, seconds), back within a second."""
    curves = np.zeros((len(times), 2), np.float32)
    taken: set[int] = set()
    for onset in onsets:
        cell = int(onset // GLANCE_CELL_S)
        offset = onset - cell * GLANCE_CELL_S
        begin = 0.2 + 1.2 * chance(cell, 3)
        if cell in taken or not begin <= offset <= begin + 0.35:
            continue
        taken.add(cell)
        hold = 0.30 + 0.35 * chance(cell, 4)
        angle = 2.0 * np.pi * chance(cell, 5)
        look = smoothstep((times - onset) / 0.05) * (1.0 - smoothstep((times - onset - hold) / 0.06))
        curves[:, 0] += GLANCE_MM[0] * np.cos(angle) * look
        curves[:, 1] += GLANCE_MM[1] * np.sin(angle) * look
    return curves


def add_life(rows: FloatArray, voiced: Sequence[tuple[float, float]], onsets: Sequence[float], times: Seconds, amount: float) -> None:
    """Add nods, brows and glances to `rows` (n, N_CONTROLS), in place."""
    rows[:, [BROW_UP, NOD, RISE]] += amount * accents(voiced, times)
    rows[:, [GAZE_X, GAZE_Y]] += min(amount, 1.0) * glances(onsets, times)


def chance(cell: int, salt: int) -> float:
    """A number 0..1 that looks random and is always the same for a cell."""
    mixed = (cell * 2654435761 + salt * 40503 + 0x9E3779B9) & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & 0xFFFFFFFF
    return ((mixed ^ (mixed >> 16)) & 0xFFFFFF) / float(1 << 24)


def _bump(times: Seconds, start: float, rise: float, fall: float) -> FloatArray:
    return np.asarray(smoothstep((times - start) / rise) * (1.0 - smoothstep((times - start - rise) / fall)), np.float32)
