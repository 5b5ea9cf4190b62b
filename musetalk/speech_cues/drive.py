"""`listen` for the animator: from a stretch of speech to one row of controls a frame.

The curves are made at 200 Hz and read 10 ms after a frame begins (`LEAD_S`). Nothing is remembered between calls: a row
depends on `CONTEXT_S` of speech before its frame and `LOOKAHEAD_S` after it, so any cut of an utterance into stretches gives the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from museserve.messages import Conditioning, FloatArray, SpeechWindow
from museserve.timebase import FPS, SPEECH_RATE
from musetalk.speech_cues.accents import activity, add_life, until_end
from musetalk.speech_cues.controls import CONTROLS, JAW, LOWER_DROP, N_CONTROLS, ROUND, SEAL, TONGUE, UPPER_RAISE, WIDE
from musetalk.speech_cues.loudness import LOUDNESS_RATE, loudness, usable_level
from musetalk.speech_cues.segments import Segment, segments_of, slide_closures, with_gains
from musetalk.speech_cues.shapes import Seconds, apply_contacts, blend, contacts, smoothstep
from musetalk.speech_cues.sound_model import CHANNELS, loud_peaks, mouth_from_sound, pauses_in, since_heard
from musetalk.speech_cues.visemes import Kind

Drive = Literal["mix", "phonemes", "sound"]

# Measured: at these, rows differ by less than 1e-6 from those of the whole utterance; 0.8 and 0.2 s still do within 1e-3.
CONTEXT_S = 1.2
LOOKAHEAD_S = 0.25

LEAD_S = 0.01
GRID_RATE = LOUDNESS_RATE
SMOOTH_S = 0.016  # standard deviation; -3 dB near 8 Hz
UNSEAL_S = (0.60, 1.10)  # of silence: begin to show a photographed smile's teeth again, and do
STILL = 2e-3  # a row that is nowhere above this is rest

# With phonemes and sound together, the sound's part of the opening and of the corners.
OPENING_SHARE, SIDEWAYS_SHARE = 0.5, 0.25
ROUND_KEEPS = 0.8  # the sound cannot tell a small round opening from a large one

# Louder is wider: how much of the opening comes and goes with the loudness, by drive. People judge sync by it.
EMPHASIS = {"mix": 0.3, "phonemes": 0.2, "sound": 0.7}
EMPHASIS_DB = (-14.0, 1.0)
ARTICULATION = 1.25  # of the jaw: blending and smoothing take off about a fifth of what vowels ask for
WIDE_JAW, WIDEST_JAW = 0.6, 0.9  # beyond the first, a jaw opens less and less further
USUAL_HEIGHT = 0.43  # of speech within `EMPHASIS_DB`, on the average: there the factor is 1

_CHANNEL = {control: CHANNELS.index(CONTROLS[control]) for control in (JAW, LOWER_DROP, UPPER_RAISE, WIDE, ROUND, TONGUE)}
SHUT, TUCK = CHANNELS.index("shut"), CHANNELS.index("tuck")

_OPENINGS = (JAW, LOWER_DROP, UPPER_RAISE)

_PER_FRAME = GRID_RATE // FPS
_PAD = 10  # grid points of smoothing on either side


@dataclass(frozen=True)
class Heard:
    """What one stretch says to the face, before it is read off at frame times."""

    curves: FloatArray
    pauses: list[Segment]
    accents: list[tuple[float, float]] = field(default_factory=list)
    onsets: list[float] = field(default_factory=list)


def listen(speech: SpeechWindow, drive: Drive = "mix", head_motion: float = 1.0) -> Conditioning:
    """Rows (n_frames, N_CONTROLS) float32 for the frames of `speech`.

    In a pause everything is exactly zero but `SEAL`, which lips hold for a second; then the whole row is, and not `is_speaking`.

    With `speech.final`, the end of `speech.pcm` is the end of the utterance, and its last frame is at rest.
    """
    level = usable_level(speech.level, speech.pcm)
    frame_times = (speech.first_frame + np.arange(speech.n_frames)) / FPS + LEAD_S
    grid = frame_times[0] + np.arange(-_PAD, _PER_FRAME * (speech.n_frames - 1) + _PAD + 1) / GRID_RATE
    if speech.phonemes is None or drive == "sound":
        heard = by_sound(speech, grid)
    else:
        heard = by_phonemes(speech, grid, with_sound=drive == "mix")
    rows = heard.curves[_PAD : len(grid) - _PAD : _PER_FRAME].copy()

    add_life(rows, heard.accents, heard.onsets, frame_times, head_motion)
    active = activity(heard.pauses, frame_times)
    rows *= active[:, None]
    # While speaking, the renderer lets go of the seal as far as the mouth is open.
    rows[:, SEAL] = np.maximum(active, sealed_after(since_heard(speech.pcm, speech.start / SPEECH_RATE, level, frame_times)))
    rows *= until_end(speech, frame_times, LEAD_S)[:, None]
    rows[np.abs(rows).max(axis=1) < STILL] = 0.0
    return Conditioning(speech.first_frame, rows, np.any(rows != 0.0, axis=1))


def by_phonemes(speech: SpeechWindow, grid: Seconds, with_sound: bool) -> Heard:
    """Shapes, contacts and accents from phoneme times; the sound says how loud, where exactly lips meet, and has its share of the opening."""
    level = usable_level(speech.level, speech.pcm)
    start = speech.start / SPEECH_RATE
    loud = loudness(speech.pcm, level)
    segments = segments_of(speech.phonemes or ())
    segments = with_gains(slide_closures(segments, loud, LOUDNESS_RATE, start), loud, LOUDNESS_RATE, start)
    curves = blend(segments, grid)
    if with_sound:
        heard = mouth_from_sound(speech.pcm, start, level, grid)
        share = OPENING_SHARE * (1.0 - ROUND_KEEPS * np.clip(curves[:, ROUND], 0.0, 1.0))[:, None]
        curves[:, _OPENINGS] += share * (heard[:, [_CHANNEL[c] for c in _OPENINGS]] - curves[:, _OPENINGS])
        sideways = (WIDE, ROUND)
        curves[:, sideways] += SIDEWAYS_SHARE * (heard[:, [_CHANNEL[c] for c in sideways]] - curves[:, sideways])
    curves[:, _OPENINGS] *= emphasis(speech, level, grid, EMPHASIS["mix" if with_sound else "phonemes"])
    curves[:, JAW] = without_shouting(ARTICULATION * curves[:, JAW])
    curves = smooth(curves)
    apply_contacts(curves, *contacts(segments, grid))
    vowels = [s for s in segments if s.viseme.kind is Kind.VOWEL]
    return Heard(
        curves,
        pauses=[s for s in segments if s.viseme.kind is Kind.PAUSE] + pauses_in(speech.pcm, start, level, grid),
        accents=[(s.start, min(s.gain, 1.0)) for s in vowels if s.stress == 1],
        onsets=[s.start for s in vowels],
    )


def by_sound(speech: SpeechWindow, grid: Seconds) -> Heard:
    """Everything from the sound."""
    level = usable_level(speech.level, speech.pcm)
    start = speech.start / SPEECH_RATE
    heard = mouth_from_sound(speech.pcm, start, level, grid)
    heard[:, [_CHANNEL[c] for c in _OPENINGS]] *= emphasis(speech, level, grid, EMPHASIS["sound"])
    heard[:, _CHANNEL[JAW]] = without_shouting(heard[:, _CHANNEL[JAW]])
    heard = smooth(heard)
    curves = np.zeros((len(grid), N_CONTROLS), np.float32)
    for control, channel in _CHANNEL.items():
        curves[:, control] = heard[:, channel]
    shut = smoothstep((heard[:, SHUT] - 0.22) / 0.38)
    tuck = smoothstep((heard[:, TUCK] - 0.25) / 0.5)
    apply_contacts(curves, shut, tuck * (1.0 - shut))
    peaks = loud_peaks(speech.pcm, start, level)
    return Heard(curves, pauses=pauses_in(speech.pcm, start, level, grid), accents=peaks, onsets=[second for second, _ in peaks])


def emphasis(speech: SpeechWindow, level: float, grid: Seconds, amount: float) -> FloatArray:
    """Factors (n, 1) on the opening, 1 - `amount` .. 1 + `amount` / 2, from how loud it is around each instant of `grid`."""
    loud = loudness(speech.pcm, level, 0.06)
    at = speech.start / SPEECH_RATE + np.arange(len(loud)) / LOUDNESS_RATE
    low, high = EMPHASIS_DB
    height = np.clip((np.interp(grid, at, loud) - low) / (high - low), 0.0, 1.0)
    usual = 1.0 + amount * (1.5 * USUAL_HEIGHT - 1.0)
    return np.asarray((1.0 + amount * (1.5 * height[:, None] - 1.0)) / usual, np.float32)


def sealed_after(silence_s: FloatArray) -> FloatArray:
    """How far lips stay shut over a photographed smile, 0..1, so long after the last sound: a pause within a sentence does not show the teeth."""
    first, last = UNSEAL_S
    return 1.0 - smoothstep((silence_s - first) / (last - first))


def without_shouting(jaw: FloatArray) -> FloatArray:
    """Bends what is above `WIDE_JAW` so that it stays below `WIDEST_JAW`."""
    room = WIDEST_JAW - WIDE_JAW
    return np.asarray(np.where(jaw > WIDE_JAW, WIDE_JAW + room * np.tanh((jaw - WIDE_JAW) / room), jaw), np.float32)


def smooth(curves: FloatArray) -> FloatArray:
    """Gaussian of `SMOOTH_S` along time, edges repeated."""
    reach = np.arange(-_PAD, _PAD + 1) / GRID_RATE
    kernel = np.exp(-0.5 * (reach / SMOOTH_S) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(curves, ((_PAD, _PAD), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=0)
    return np.asarray(windows @ kernel.astype(np.float32), np.float32)
