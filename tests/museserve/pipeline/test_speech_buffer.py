from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from museserve.messages import Phoneme, SpeechChunk
from museserve.pipeline.speech_buffer import CLOSING_FRAMES, HURRIED_FRAMES, LIVE_FRAMES, SpeechBuffer
from museserve.timebase import SEGMENT_FRAMES, SPEECH_RATE, SPEECH_SAMPLES_PER_FRAME, frames_for, whole_segments


def chunks(pcm: np.ndarray, sizes: list[int]) -> list[SpeechChunk]:
    cuts = np.cumsum([0, *sizes]).clip(0, len(pcm)).tolist() + [len(pcm)]
    pairs = list(zip(cuts, cuts[1:], strict=False))
    return [SpeechChunk(a, pcm[a:b], final=i == len(pairs) - 1) for i, (a, b) in enumerate(pairs)]


@given(st.integers(0, 4 * SPEECH_RATE), st.lists(st.integers(0, SPEECH_RATE), max_size=8), st.floats(0, 1.5), st.floats(0, 0.5))
def test_every_frame_is_taken_once_with_the_sound_that_belongs_to_it(n: int, sizes: list[int], context_s: float, lookahead_s: float) -> None:
    pcm = np.arange(n, dtype=np.float32)
    buffer = SpeechBuffer(context_s, lookahead_s)
    seen: list[int] = []
    for chunk in chunks(pcm, sizes):
        buffer.append(chunk)
        while (speech := buffer.take()) is not None:
            assert speech.start % SPEECH_SAMPLES_PER_FRAME == 0
            assert np.array_equal(speech.pcm, pcm[speech.start : speech.start + len(speech.pcm)])
            wanted = max(0, speech.first_frame * SPEECH_SAMPLES_PER_FRAME - round(context_s * SPEECH_RATE))
            assert speech.start <= wanted
            if not speech.final:
                assert speech.start + len(speech.pcm) >= (speech.first_frame + speech.n_frames) * SPEECH_SAMPLES_PER_FRAME + round(
                    lookahead_s * SPEECH_RATE
                )
            seen.extend(range(speech.first_frame, speech.first_frame + speech.n_frames))
    assert seen == list(range(whole_segments(frames_for(n) + CLOSING_FRAMES)))
    assert buffer.total_frames == len(seen) and len(seen) % SEGMENT_FRAMES == 0


@pytest.mark.parametrize(("live", "least"), [(False, 1), (True, LIVE_FRAMES)])
def test_sound_in_small_pieces_is_heard_by_few_calls(live: bool, least: int) -> None:
    buffer = SpeechBuffer(1.0, 0.24, live=live)
    taken: list[int] = []
    for frame in range(50):
        buffer.append(SpeechChunk(frame * SPEECH_SAMPLES_PER_FRAME, np.ones(SPEECH_SAMPLES_PER_FRAME, np.float32), final=frame == 49))
        while (speech := buffer.take()) is not None:
            taken.append(speech.n_frames)
    assert sum(taken) == buffer.total_frames == 56 and set(taken[1:-2]) == {least}


def test_what_completes_the_first_segment_of_live_sound_does_not_wait_for_more() -> None:
    buffer, tenth = SpeechBuffer(1.0, 0.25, live=True), SPEECH_RATE // 10
    taken: list[int | None] = []
    for piece in range(9):
        buffer.append(SpeechChunk(piece * tenth, np.ones(tenth, np.float32)))
        taken.append(None if (speech := buffer.take()) is None else speech.n_frames)
    # Of 0.5 s of sound six frames are certain, of 0.6 s eight, of 0.7 s eleven, and of 0.8 s thirteen.
    assert taken == [None, None, None, None, 6, 2, None, 5, None]


def test_a_long_utterance_keeps_only_what_is_needed() -> None:
    buffer = SpeechBuffer(1.0, 0.2)
    second = np.zeros(SPEECH_RATE, np.float32)
    for i in range(120):
        buffer.append(SpeechChunk(i * SPEECH_RATE, second, (Phoneme("a", i * SPEECH_RATE, (i + 1) * SPEECH_RATE),)))
        speech = buffer.take()
        assert speech is not None and len(speech.pcm) < 15 * SPEECH_RATE
        assert speech.phonemes is not None and len(speech.phonemes) < 15
    assert buffer.samples == 120 * SPEECH_RATE


def test_a_phoneme_keeps_its_number_when_those_before_it_are_forgotten() -> None:
    """By it chance tells one from another, so that a sentence which goes on after a break moves as it would have moved."""
    phonemes = tuple(Phoneme("a", start, start + SPEECH_RATE // 10) for start in range(0, 60 * SPEECH_RATE, SPEECH_RATE // 10))
    for first_frame in (0, 800):
        buffer = SpeechBuffer(0.5, 0.2, first_frame)
        for start in range(0, 60 * SPEECH_RATE, SPEECH_RATE):
            known = tuple(p for p in phonemes if start <= p.start < start + SPEECH_RATE)
            buffer.append(SpeechChunk(start, np.zeros(SPEECH_RATE, np.float32), known, final=start == 59 * SPEECH_RATE))
            while (window := buffer.take()) is not None:
                assert window.phonemes is not None
                assert window.phonemes == phonemes[window.first_phoneme : window.first_phoneme + len(window.phonemes)]


def test_phonemes_are_none_only_when_the_engine_knows_none() -> None:
    buffer = SpeechBuffer(0.5, 0.0)
    buffer.append(SpeechChunk(0, np.zeros(SPEECH_RATE, np.float32), None))
    speech = buffer.take()
    assert speech is not None and speech.phonemes is None
    buffer = SpeechBuffer(0.5, 0.0)
    buffer.append(SpeechChunk(0, np.zeros(SPEECH_RATE, np.float32), ()))
    speech = buffer.take()
    assert speech is not None and speech.phonemes == ()


def test_the_level_ignores_silence() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 200 * np.arange(SPEECH_RATE) / SPEECH_RATE)
    buffer = SpeechBuffer(0.5, 0.0)
    buffer.append(SpeechChunk(0, np.concatenate([tone, np.zeros(9 * SPEECH_RATE)]).astype(np.float32), final=True))
    assert buffer.level == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_a_gap_is_refused() -> None:
    buffer = SpeechBuffer(0.5, 0.0)
    with pytest.raises(ValueError, match="expected 0"):
        buffer.append(SpeechChunk(5, np.zeros(10, np.float32)))


@given(st.integers(0, 4 * SPEECH_RATE), st.integers(0, 15), st.floats(0, 1.5))
def test_stretches_may_begin_with_any_segment(n: int, segment: int, context_s: float) -> None:
    pcm, first = np.arange(n, dtype=np.float32), segment * SEGMENT_FRAMES
    buffer, seen = SpeechBuffer(context_s, 0.2, first), list[int]()
    for chunk in chunks(pcm, [SPEECH_RATE] * 3):
        buffer.append(chunk)
        while (speech := buffer.take()) is not None:
            assert np.array_equal(speech.pcm, pcm[speech.start : speech.start + len(speech.pcm)])
            assert speech.start <= max(0, speech.first_frame * SPEECH_SAMPLES_PER_FRAME - round(context_s * SPEECH_RATE))
            seen.extend(range(speech.first_frame, speech.first_frame + speech.n_frames))
    assert seen == list(range(first, whole_segments(frames_for(n) + CLOSING_FRAMES)))


@pytest.mark.parametrize(("phonemes", "expected"), [(None, 0.1), ((), 0.4)])
def test_lips_follow_the_level_of_a_recording_but_not_a_voice(phonemes: tuple[Phoneme, ...] | None, expected: float) -> None:
    """Whoever turns away from the microphone still opens the mouth; a voice of ours is quiet where it means to be."""
    buffer = SpeechBuffer(0.5, 0.2)
    samples = np.arange(6 * SPEECH_RATE)
    loud = np.sin(2 * np.pi * 200 * samples / SPEECH_RATE).astype(np.float32)
    pcm = np.concatenate([0.4 * loud, 0.1 * loud])
    buffer.append(SpeechChunk(0, pcm, phonemes, final=True))
    levels = []
    while (window := buffer.take()) is not None:
        levels.append(window.level)
    assert levels[0] == pytest.approx(0.4 / np.sqrt(2), rel=0.02)
    assert levels[-1] == pytest.approx(expected / np.sqrt(2), rel=0.02)


def test_the_quiet_end_of_a_recording_is_not_turned_up_into_speech() -> None:
    buffer = SpeechBuffer(0.5, 0.2)
    noise = np.random.default_rng(0).normal(0, 1, 6 * SPEECH_RATE).astype(np.float32)
    buffer.append(SpeechChunk(0, np.concatenate([0.2 * noise, 0.002 * noise]), None, final=True))
    levels = []
    while (window := buffer.take()) is not None:
        levels.append(window.level)
    assert levels[-1] > 0.02, "40 dB below the voice is the room"


@given(st.integers(0, 4 * SPEECH_RATE), st.lists(st.integers(0, SPEECH_RATE), max_size=8), st.booleans())
def test_a_recording_comes_in_whole_pieces(n: int, sizes: list[int], hurried: bool) -> None:
    pcm, piece = np.arange(n, dtype=np.float32), SPEECH_RATE
    buffer = SpeechBuffer(0.4, 0.2, piece_s=1.0, hurried=hurried)
    seen: list[int] = []
    for chunk in chunks(pcm, sizes):
        buffer.append(chunk)
        while (speech := buffer.take()) is not None:
            end = speech.first_frame + speech.n_frames
            assert np.array_equal(speech.pcm, pcm[speech.start : speech.start + len(speech.pcm)])
            assert speech.whole == (not hurried or speech.first_frame >= HURRIED_FRAMES) and (speech.whole or end <= HURRIED_FRAMES)
            if speech.whole:
                heard_from = max(0, speech.first_frame * SPEECH_SAMPLES_PER_FRAME - round(0.2 * SPEECH_RATE))
                assert speech.start <= heard_from - heard_from % piece
                heard_to = min(end * SPEECH_SAMPLES_PER_FRAME + round(0.2 * SPEECH_RATE), n)
                assert speech.start + len(speech.pcm) >= min(-(-heard_to // piece) * piece, n)
            seen.extend(range(speech.first_frame, end))
    assert seen == list(range(whole_segments(frames_for(n) + CLOSING_FRAMES)))
