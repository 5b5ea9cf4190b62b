"""What nobody does twice alike: how far a vowel opens, rounds and spreads, and how long lips take to meet.

All of it follows from the idle frame that an utterance begins on, and from which sound of the utterance it is. So the same sentence on the same
frame is the same film, which is what finished films are kept by; on another frame, or later in the same utterance, it is said a little differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from museserve.messages import FloatArray
from musetalk.speech_cues.segments import Segment, Times
from musetalk.speech_cues.visemes import Kind

OPENS, LIPS, CORNERS = 0.17, 0.22, 0.20  # shares by which chance adds to a vowel's jaw, lips and corners, or takes from them
UNSTRESSED_VARIES, STRESSED_VARIES = 1.25, 0.75  # what is unstressed is said with less care
PACE = 0.22  # share of the time in which lips meet and part
LAST_SLOWER = 1.2  # before a pause speech slows down, and lips too
SOUND_CELL_S, SOUND_VARIES = 0.35, 0.12  # without phonemes: openings drift from one value to the next


def varied(segments: Sequence[Segment], phase: int) -> list[Segment]:
    """The segments as they are said this time."""
    said = []
    for segment, after in zip(segments, (*segments[1:], None), strict=True):
        kind, viseme = segment.viseme.kind, segment.viseme
        if kind in (Kind.VOWEL, Kind.GLIDE):
            much = STRESSED_VARIES if segment.stress == 1 else UNSTRESSED_VARIES
            jaw, lips, corners = (1.0 + much * share * _chance(segment, phase, salt) for salt, share in ((11, OPENS), (12, LIPS), (13, CORNERS)))
            viseme = replace(
                viseme,
                jaw=viseme.jaw * jaw,
                lower_drop=viseme.lower_drop * lips,
                upper_raise=viseme.upper_raise * lips,
                wide=viseme.wide * corners,
                round=min(viseme.round * corners, 1.0),
            )
            segment = replace(segment, viseme=viseme)
        elif kind in (Kind.CLOSURE, Kind.TUCK):
            last = after is not None and after.viseme.kind is Kind.PAUSE
            segment = replace(segment, pace=(1.0 + PACE * _chance(segment, phase, 14)) * (LAST_SLOWER if last else 1.0))
        said.append(segment)
    return said


def drift(times: Times, phase: int) -> FloatArray:
    """Factors (n, 1) around 1 on what the sound alone opens, at `times` (n,)."""
    cells = times / SOUND_CELL_S
    low = np.floor(cells).astype(np.int64)
    first, last = int(low.min()), int(low.max()) + 2
    values = np.array([2.0 * chance(cell, phase, 15) - 1.0 for cell in range(first, last + 1)])
    part = cells - low
    blend = part * part * (3.0 - 2.0 * part)
    return np.asarray(1.0 + SOUND_VARIES * (values[low - first] * (1.0 - blend) + values[low - first + 1] * blend), np.float32)[:, None]


def chance(cell: int, phase: int, salt: int) -> float:
    """A number 0..1 that looks random and is always the same for a cell, a phase and a salt."""
    mixed = (cell * 2654435761 + salt * 40503 + phase * 2246822519 + 0x9E3779B9) & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & 0xFFFFFFFF
    return ((mixed ^ (mixed >> 16)) & 0xFFFFFF) / float(1 << 24)


def _chance(segment: Segment, phase: int, salt: int) -> float:
    """-1..1."""
    return 2.0 * chance(segment.number, phase, salt) - 1.0
