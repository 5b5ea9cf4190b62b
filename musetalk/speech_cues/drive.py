"""`listen` for the animator: from a stretch of speech to one row of controls a frame.

The curves are made at 200 Hz and read 10 ms after a frame begins (`LEAD_S`). Nothing is remembered between calls: a row
depends on `CONTEXT_S` of speech before its frame, `LOOKAHEAD_S` after it and the utterance's phase (`variety`), so any cut of an utterance into
stretches gives the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from museserve.messages import Conditioning, FloatArray, SpeechWindow
from museserve.timebase import FPS, SPEECH_RATE
from musetalk.speech_cues.accents import END_SETTLE_S, Candidates, accents, activity, add_head, glances, until_end
from musetalk.speech_cues.blinks import blinks
from musetalk.speech_cues.coarticulation import PREPARES_S, apply_contacts, coarticulate, contacts, smoothstep
from musetalk.speech_cues.controls import AWAKE, BLINK, CONTROLS, GAZE_X, GAZE_Y, JAW, LOWER_DROP, N_CONTROLS, ROUND, SEAL, TONGUE, UPPER_RAISE, WIDE
from musetalk.speech_cues.loudness import FEATURE_RATE, LOUDNESS_RATE, loudness, usable_level
from musetalk.speech_cues.segments import Segment, Times, aligned_segments
from musetalk.speech_cues.sound_model import CHANNELS, loudness_peaks, mouth_from_sound, pauses_in, silence_duration
from musetalk.speech_cues.variety import drift, varied
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
EMPHASIS = {"mix": 0.40, "phonemes": 0.2, "sound": 0.72}
EMPHASIS_DB, EMPHASIS_WIDTH_S = (-14.0, 1.0), 0.06
ARTICULATION, SOUND_ARTICULATION = 1.46, 1.25  # of the jaw: blending, contacts and smoothing take off so much of what vowels ask for
WIDE_JAW, WIDEST_JAW = 0.6, 0.9  # beyond the first, a jaw opens less and less further
USUAL_HEIGHT = 0.43  # of speech within `EMPHASIS_DB`, on the average: there the factor is 1

NOD_EARLY_S = 0.06  # a head begins before the vowel that it goes with
PHRASE_PAUSE_S = 0.1  # a pause of at least this ends a phrase

_CHANNEL = {control: CHANNELS.index(CONTROLS[control]) for control in (JAW, LOWER_DROP, UPPER_RAISE, WIDE, ROUND, TONGUE)}
SHUT, TUCK = CHANNELS.index("shut"), CHANNELS.index("tuck")
SHUT_FROM, SHUT_OVER, TUCK_FROM, TUCK_OVER = 0.22, 0.38, 0.25, 0.5  # where a contact begins, and how much more is all

_OPENINGS, _SIDEWAYS = (JAW, LOWER_DROP, UPPER_RAISE), (WIDE, ROUND)

_PER_FRAME = GRID_RATE // FPS
_SMOOTHED = 10  # grid points of smoothing on either side
_PAD = _SMOOTHED + round(PREPARES_S * GRID_RATE)  # what a row depends on besides


@dataclass(frozen=True)
class SpeechCues:
    """What one stretch tells the face.

    curves: (n, N_CONTROLS) at `GRID_RATE`. accents: what may carry a nod. onsets: seconds at which a glance or a blink may
    begin. ends: of phrases, seconds; empty where they are not sure for long enough, because the sound alone tells them.
    """

    curves: FloatArray
    pauses: list[Segment]
    accents: Candidates
    onsets: list[float]
    ends: list[float]


def listen(speech: SpeechWindow, drive: Drive = "mix", head_motion: float = 1.0) -> Conditioning:
    """Rows (n_frames, N_CONTROLS) float32 for the frames of `speech`.

    In a pause everything is exactly zero but `SEAL`, which lips hold for a second, and for a third of a second what head and lids bring to an end;
    then the whole row is, and not `is_speaking`.

    With `speech.final`, the end of `speech.pcm` is the end of the utterance, and its last frame is at rest.
    """
    level = usable_level(speech.level, speech.pcm)
    frame_times = (speech.first_frame + np.arange(speech.n_frames)) / FPS + LEAD_S
    grid = frame_times[0] + np.arange(-_PAD, _PER_FRAME * (speech.n_frames - 1) + _PAD + 1) / GRID_RATE
    if speech.phonemes is None or drive == "sound":
        cues = by_sound(speech, level, grid)
    else:
        cues = by_phonemes(speech, level, grid, with_sound=drive == "mix")
    rows = cues.curves[_PAD : len(grid) - _PAD : _PER_FRAME].copy()

    lively = min(head_motion, 1.0)
    rows[:, [GAZE_X, GAZE_Y]] += lively * glances(cues.onsets, frame_times, speech.phase)
    rows[:, AWAKE] = lively
    active = activity(cues.pauses, frame_times)
    rows *= active[:, None]
    # What the head and the lids began they bring to an end, also where lips rest already.
    head = head_motion * accents(cues.accents, frame_times, speech.phase, cues.ends)
    head *= until_end(speech, frame_times, LEAD_S, END_SETTLE_S)[:, None]
    add_head(rows, head if cues.ends else head * active[:, None])
    rows[:, BLINK] = lively * blinks(cues.ends, cues.onsets, frame_times, speech.phase)
    # While speaking, the renderer lets go of the seal as far as the mouth is open.
    silence_s = silence_duration(speech.pcm, speech.start / SPEECH_RATE, level, frame_times)
    rows[:, SEAL] = np.maximum(active, sealed_after(silence_s))
    rows *= until_end(speech, frame_times, LEAD_S)[:, None]
    rows[np.abs(rows).max(axis=1) < STILL] = 0.0
    return Conditioning(speech.first_frame, rows, np.any(rows != 0.0, axis=1))


def by_phonemes(speech: SpeechWindow, level: float, grid: Times, with_sound: bool) -> SpeechCues:
    """Shapes, contacts and accents from phoneme times.

    The sound says how loud, where exactly lips meet, and has its share of the opening.
    """
    start = speech.start / SPEECH_RATE
    heard = aligned_segments(speech.phonemes or (), loudness(speech.pcm, level), start, speech.first_phoneme)
    segments = varied(heard, speech.phase)
    curves = coarticulate(segments, grid)
    if with_sound:
        channels = mouth_from_sound(speech.pcm, start, level, grid)
        share = OPENING_SHARE * (1.0 - ROUND_KEEPS * np.clip(curves[:, ROUND], 0.0, 1.0))[:, None]
        for controls, part in ((_OPENINGS, share), (_SIDEWAYS, np.float32(SIDEWAYS_SHARE))):
            curves[:, controls] += part * (channels[:, [_CHANNEL[c] for c in controls]] - curves[:, controls])
    curves[:, _OPENINGS] *= emphasis(speech, level, grid, EMPHASIS["mix" if with_sound else "phonemes"])
    curves[:, JAW] = without_shouting(ARTICULATION * curves[:, JAW])
    curves = smooth(curves)
    apply_contacts(curves, *contacts(segments, grid), 1.0 / GRID_RATE)
    vowels = [s for s in segments if s.viseme.kind is Kind.VOWEL]
    pauses = [s for s in segments if s.viseme.kind is Kind.PAUSE]
    return SpeechCues(
        curves,
        pauses=pauses + pauses_in(speech.pcm, start, level, grid),
        accents=[(s.start - NOD_EARLY_S, min(s.gain, 1.0), s.number) for s in vowels if s.stress == 1],
        onsets=[s.start for s in vowels],
        ends=[s.start for s in pauses if s.start > 0 and s.length > PHRASE_PAUSE_S],
    )


def by_sound(speech: SpeechWindow, level: float, grid: Times) -> SpeechCues:
    """Everything from the sound."""
    start = speech.start / SPEECH_RATE
    channels = mouth_from_sound(speech.pcm, start, level, grid)
    channels[:, [_CHANNEL[c] for c in _OPENINGS]] *= emphasis(speech, level, grid, EMPHASIS["sound"]) * drift(grid, speech.phase)
    channels[:, _CHANNEL[JAW]] = without_shouting(SOUND_ARTICULATION * channels[:, _CHANNEL[JAW]])
    channels = smooth(channels)
    curves = np.zeros((len(grid), N_CONTROLS), np.float32)
    for control, channel in _CHANNEL.items():
        curves[:, control] = channels[:, channel]
    shut = smoothstep((channels[:, SHUT] - SHUT_FROM) / SHUT_OVER)
    tuck = smoothstep((channels[:, TUCK] - TUCK_FROM) / TUCK_OVER)
    apply_contacts(curves, shut, tuck * (1.0 - shut), 1.0 / GRID_RATE)
    peaks = loudness_peaks(speech.pcm, start, level)
    pauses = pauses_in(speech.pcm, start, level, grid)
    accents = [(second, weight, round(second * FEATURE_RATE)) for second, weight in peaks]
    onsets = [second for second, _ in peaks]
    return SpeechCues(curves, pauses, accents, onsets, ends=[])


def emphasis(speech: SpeechWindow, level: float, grid: Times, amount: float) -> FloatArray:
    """Factors (n, 1) on the opening, 1 - `amount` .. 1 + `amount` / 2, from the loudness around `grid` (n,)."""
    decibels = loudness(speech.pcm, level, EMPHASIS_WIDTH_S)
    at = speech.start / SPEECH_RATE + np.arange(len(decibels)) / LOUDNESS_RATE
    low, high = EMPHASIS_DB
    height = np.clip((np.interp(grid, at, decibels) - low) / (high - low), 0.0, 1.0)
    usual = 1.0 + amount * (1.5 * USUAL_HEIGHT - 1.0)
    return np.asarray((1.0 + amount * (1.5 * height[:, None] - 1.0)) / usual, np.float32)


def sealed_after(silence_s: FloatArray) -> FloatArray:
    """How far lips stay shut over a photographed smile, 0..1, so long after the last sound (n,).

    A pause within a sentence does not show the teeth.
    """
    first, last = UNSEAL_S
    return 1.0 - smoothstep((silence_s - first) / (last - first))


def without_shouting(jaw: FloatArray) -> FloatArray:
    """`jaw` (n,), what is above `WIDE_JAW` bent so that it stays below `WIDEST_JAW`."""
    room = WIDEST_JAW - WIDE_JAW
    return np.asarray(np.where(jaw > WIDE_JAW, WIDE_JAW + room * np.tanh((jaw - WIDE_JAW) / room), jaw), np.float32)


def smooth(curves: FloatArray) -> FloatArray:
    """Gaussian of `SMOOTH_S` along time over curves (n, k) at `GRID_RATE`, edges repeated."""
    reach = np.arange(-_SMOOTHED, _SMOOTHED + 1) / GRID_RATE
    kernel = np.exp(-0.5 * (reach / SMOOTH_S) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(curves, ((_SMOOTHED, _SMOOTHED), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=0)
    return np.asarray(windows @ kernel.astype(np.float32), np.float32)
