"""`listen` for the animator: from a stretch of speech to one row of controls a frame.

The curves are made at 200 Hz and read 20 ms after a frame begins, half the time it is shown. Nothing is remembered between calls: a row
depends on `CONTEXT_S` of speech before its frame and `LOOKAHEAD_S` after it, so any cut of an utterance into stretches gives the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from contracts import Conditioning, FloatArray, Speech
from musetalk.animator.accents import activity, add_life
from musetalk.animator.controls import JAW, LIP_CLOSE, LOWER_DROP, ROUND, SEAL, SMILE, UPPER_RAISE
from musetalk.animator.hearing import LOUDNESS_RATE, loudness, usable_level
from musetalk.animator.segments import Segment, segments_of, slide_closures, with_gains
from musetalk.animator.shapes import Seconds, apply_contacts, blend, contacts, smoothstep
from musetalk.animator.visemes import Kind
from timeline import FPS, SPEECH_RATE, frames_for

Drive = Literal["mix", "phonemes", "sound"]

CONTEXT_S = 1.5
LOOKAHEAD_S = 0.3

LEAD_S = 0.02
GRID_RATE = LOUDNESS_RATE
SMOOTH_S = 0.016  # standard deviation; -3 dB near 8 Hz
END_FADE_S = 0.12
RESTING_SMILE = 0.25  # what avatars wear; it goes by half where the lips round
STILL = 2e-3  # a row that is nowhere above this is rest

_PER_FRAME = GRID_RATE // FPS
_PAD = 10  # grid points of smoothing on either side


@dataclass(frozen=True)
class Heard:
    """What one stretch says to the face, before it is read off at frame times."""

    times: Seconds
    curves: FloatArray
    segments: list[Segment]
    accents: list[tuple[float, float]] = field(default_factory=list)
    onsets: list[float] = field(default_factory=list)


def listen(speech: Speech, drive: Drive = "mix", head_motion: float = 1.0) -> Conditioning:
    """Rows (n_frames, N_CONTROLS) float32 for the frames of `speech`; a row in silence is exactly zero and not `is_speaking`.

    With `speech.final`, the end of `speech.pcm` is the end of the utterance, and its last frame is at rest.
    """
    frame_times = (speech.first_frame + np.arange(speech.n_frames)) / FPS + LEAD_S
    grid = frame_times[0] + np.arange(-_PAD, _PER_FRAME * (speech.n_frames - 1) + _PAD + 1) / GRID_RATE
    heard = by_phonemes(speech, grid)
    rows = heard.curves[_PAD : len(grid) - _PAD : _PER_FRAME].copy()

    rows[:, SMILE] = -0.5 * RESTING_SMILE * smoothstep(rows[:, ROUND] / 0.5)
    opening_mm = 15.0 * (rows[:, JAW] - rows[:, LIP_CLOSE]) + 4.5 * rows[:, LOWER_DROP] + 3.2 * rows[:, UPPER_RAISE]
    rows[:, SEAL] = 1.0 - 0.66 * smoothstep(opening_mm / 8.0)
    add_life(rows, heard.accents, heard.onsets, frame_times, head_motion)

    active = activity(heard.segments, frame_times)
    if speech.final:
        last = (frames_for(speech.start + len(speech.pcm)) - 1) / FPS + LEAD_S
        active *= smoothstep((last - frame_times) / END_FADE_S)
    rows *= active[:, None]
    rows[np.abs(rows).max(axis=1) < STILL] = 0.0
    return Conditioning(speech.first_frame, rows, np.any(rows != 0.0, axis=1))


def by_phonemes(speech: Speech, grid: Seconds) -> Heard:
    """Shapes, closures and accents from phoneme times; the sound only says how loud, and where exactly lips meet."""
    level = usable_level(speech.level, speech.pcm)
    start = speech.start / SPEECH_RATE
    loud = loudness(speech.pcm, level)
    segments = segments_of(speech.phonemes or ())
    segments = with_gains(slide_closures(segments, loud, LOUDNESS_RATE, start), loud, LOUDNESS_RATE, start)
    curves = smooth(blend(segments, grid))
    shut, tuck = contacts(segments, grid)
    apply_contacts(curves, shut, tuck)
    vowels = [s for s in segments if s.viseme.kind is Kind.VOWEL]
    return Heard(
        grid,
        curves,
        segments,
        accents=[(s.start, min(s.gain, 1.0)) for s in vowels if s.stress == 1],
        onsets=[s.start for s in vowels],
    )


def smooth(curves: FloatArray) -> FloatArray:
    """Gaussian of `SMOOTH_S` along time, edges repeated."""
    reach = np.arange(-_PAD, _PAD + 1) / GRID_RATE
    kernel = np.exp(-0.5 * (reach / SMOOTH_S) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(curves, ((_PAD, _PAD), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=0)
    return np.asarray(windows @ kernel.astype(np.float32), np.float32)
