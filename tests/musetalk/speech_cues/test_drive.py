"""From speech to rows: closed where lips meet, at rest in silence, and the same however the speech was cut."""

from __future__ import annotations

import numpy as np
import pytest

from museserve.messages import FloatArray, Phoneme, SpeechWindow
from museserve.timebase import FPS, SPEECH_RATE, SPEECH_SAMPLES_PER_FRAME, frames_for
from musetalk.speech_cues.accents import SETTLE_S, accents, activity, glances
from musetalk.speech_cues.blinks import blinks
from musetalk.speech_cues.coarticulation import CLOSING_MM_S, OPENING_MM_S, within_speed
from musetalk.speech_cues.controls import (
    AWAKE,
    BLINK,
    BROW_UP,
    FTUCK,
    GAZE_X,
    JAW,
    LIP_CLOSE,
    LOWER_DROP,
    N_CONTROLS,
    NOD,
    PRESS,
    RISE,
    ROUND,
    SEAL,
    TURN,
    UPPER_RAISE,
    WIDE,
)
from musetalk.speech_cues.drive import CONTEXT_S, EMPHASIS, LEAD_S, LOOKAHEAD_S, WIDE_JAW, WIDEST_JAW, Drive, emphasis, listen, without_shouting
from musetalk.speech_cues.loudness import LOUDNESS_RATE, loud_level, loudness
from musetalk.speech_cues.segments import FAR_S, segments_of, slide_closures
from musetalk.speech_cues.visemes import Kind, visemes_of
from tests.musetalk.voices import english, english_man, korean, with_pause

DRIVES: tuple[Drive, ...] = ("mix", "phonemes", "sound")


def whole(pcm: FloatArray, phonemes: tuple[Phoneme, ...] | None, drive: Drive = "mix", head_motion: float = 1.0) -> FloatArray:
    speech = SpeechWindow(0, pcm, 0, frames_for(len(pcm)), phonemes, loud_level(pcm), final=True)
    rows: FloatArray = listen(speech, drive, head_motion).rows
    return rows


def in_stretches(pcm: FloatArray, phonemes: tuple[Phoneme, ...], drive: Drive, frames: int) -> FloatArray:
    rows = []
    for first in range(0, frames_for(len(pcm)), frames):
        n = min(frames, frames_for(len(pcm)) - first)
        begin = max(first * SPEECH_SAMPLES_PER_FRAME - round(CONTEXT_S * SPEECH_RATE), 0) // SPEECH_SAMPLES_PER_FRAME * SPEECH_SAMPLES_PER_FRAME
        end = min((first + n) * SPEECH_SAMPLES_PER_FRAME + round(LOOKAHEAD_S * SPEECH_RATE), len(pcm))
        near = [number for number, p in enumerate(phonemes) if p.end > begin and p.start < end]
        known = tuple(phonemes[number] for number in near)
        speech = SpeechWindow(begin, pcm[begin:end], first, n, known, loud_level(pcm), end == len(pcm), first_phoneme=near[0])
        heard = listen(speech, drive)
        assert heard.first_frame == first and heard.rows.shape == (n, N_CONTROLS)
        rows.append(heard.rows)
    return np.concatenate(rows)


def gap_mm(rows: FloatArray) -> FloatArray:
    return np.asarray(15 * (rows[:, JAW] - rows[:, LIP_CLOSE]) + 4.5 * rows[:, LOWER_DROP] + 3.2 * rows[:, UPPER_RAISE])


def test_needs_of_the_stream_are_modest() -> None:
    assert LOOKAHEAD_S <= 0.3 and CONTEXT_S <= 1.5


@pytest.mark.parametrize("drive", DRIVES)
@pytest.mark.parametrize("frames", [8, 13, 16, 64])
def test_any_cut_gives_the_same_rows(drive: Drive, frames: int) -> None:
    pcm, phonemes = with_pause(english(), 0.7)
    assert np.abs(in_stretches(pcm, phonemes, drive, frames) - whole(pcm, phonemes, drive)).max() < 1e-3


def test_a_korean_cut_as_well() -> None:
    take = korean()
    assert np.abs(in_stretches(take.pcm, take.phonemes, "mix", 8) - whole(take.pcm, take.phonemes)).max() < 1e-3


@pytest.mark.parametrize("drive", ["mix", "phonemes"])
@pytest.mark.parametrize("take", [english, english_man, korean])
def test_lips_meet_at_every_p_b_m(drive: Drive, take) -> None:
    spoken = take()
    rows = whole(spoken.pcm, spoken.phonemes, drive)
    times = np.arange(len(rows)) / FPS + LEAD_S
    met = 0
    for phoneme in spoken.phonemes:
        if phoneme.symbol in ("p", "b", "m"):
            during = (times > phoneme.start / SPEECH_RATE - 0.07) & (times < phoneme.end / SPEECH_RATE + 0.07)
            assert gap_mm(rows)[during].min() < 0.05 * np.percentile(gap_mm(rows), 95), phoneme
            met += 1
    assert met >= 2


def test_the_lower_lip_meets_the_teeth_at_f() -> None:
    take = english()
    rows = whole(take.pcm, take.phonemes)
    for phoneme in take.phonemes:
        if phoneme.symbol == "f":
            frame = int((phoneme.start + phoneme.end) / 2 / SPEECH_SAMPLES_PER_FRAME)
            assert rows[frame - 1 : frame + 2, FTUCK].max() > 0.9


def test_vowels_open_and_round() -> None:
    second = SPEECH_RATE
    tone = (0.2 * np.sin(2 * np.pi * 150 * np.arange(2 * second) / second)).astype(np.float32)
    phonemes = (
        Phoneme("a", 0, second // 2, 1),
        Phoneme("i", second // 2, second),
        Phoneme("u", second, 3 * second // 2),
        Phoneme("ə", 3 * second // 2, 2 * second),
    )
    rows = whole(tone, phonemes, "phonemes")
    a, i, u, schwa = (rows[frame] for frame in (6, 18, 31, 43))
    assert a[JAW] > 2 * i[JAW] and a[JAW] > 2 * schwa[JAW]
    assert i[WIDE] > 0.5 > 0.1 > i[ROUND]
    assert u[ROUND] > 0.7 and u[WIDE] < 0.1


@pytest.mark.parametrize("take", [english, english_man, korean])
def test_a_jaw_opens_as_far_as_vowels_ask(take) -> None:
    spoken = take()
    jaw = whole(spoken.pcm, spoken.phonemes)[:, JAW]
    reached = []
    for phoneme in spoken.phonemes:
        viseme = visemes_of(phoneme.symbol)[0]
        if viseme.kind is Kind.VOWEL and viseme.jaw >= 0.38:
            first, last = phoneme.start // SPEECH_SAMPLES_PER_FRAME, -(-phoneme.end // SPEECH_SAMPLES_PER_FRAME)
            reached.append(jaw[first : last + 1].max() / viseme.jaw)
    assert len(reached) >= 3 and 0.8 < np.mean(reached) < 1.4


def test_a_jaw_never_opens_as_if_to_shout() -> None:
    asked = np.linspace(0.0, 2.0, 201, dtype=np.float32)
    given = without_shouting(asked)
    np.testing.assert_array_equal(given[asked <= WIDE_JAW], asked[asked <= WIDE_JAW])
    assert given.max() <= WIDEST_JAW and (np.diff(given) >= 0).all() and np.diff(given).max() <= np.diff(asked).max() + 1e-6


@pytest.mark.parametrize("drive", DRIVES)
@pytest.mark.parametrize("take", [english, english_man, korean])
def test_loudness_shifts_openings_but_not_their_average(drive: Drive, take) -> None:
    pcm = take().pcm
    level = loud_level(pcm)
    grid = np.arange(0.0, len(pcm) / SPEECH_RATE, 0.005)
    factor = emphasis(SpeechWindow(0, pcm, 0, 1, None, level, final=True), level, grid, EMPHASIS[drive])[:, 0]
    speaking = np.interp(grid, np.arange(len(pcm) // 120 + 1) / LOUDNESS_RATE, loudness(pcm, level, 0.06)) > -25.0
    assert 0.9 < factor[speaking].mean() < 1.15 and factor.max() > 1.3 * factor.min()


@pytest.mark.parametrize("drive", DRIVES)
def test_silence_is_exactly_the_background(drive: Drive) -> None:
    pcm, phonemes = with_pause(english(), 0.7)
    pcm = np.concatenate([pcm, np.zeros(2 * SPEECH_RATE, np.float32)])
    heard = listen(SpeechWindow(0, pcm, 0, frames_for(len(pcm)), phonemes, 0.0, final=True), drive)
    middle = int((len(english().pcm) / SPEECH_RATE + 0.35) * FPS)
    pause = np.delete(heard.rows[middle - 1 : middle + 2], SEAL, axis=1)
    assert not pause.any()
    assert not heard.rows[-int(0.7 * FPS) :].any()
    np.testing.assert_array_equal(heard.is_speaking, heard.rows.any(axis=1))
    assert heard.is_speaking.mean() > 0.5


@pytest.mark.parametrize("drive", DRIVES)
def test_a_smile_stays_sealed_in_a_pause_and_comes_back_slowly_at_the_end(drive: Drive) -> None:
    pcm, phonemes = with_pause(english(), 0.45)
    pcm = np.concatenate([pcm, np.zeros(2 * SPEECH_RATE, np.float32)])
    seal = whole(pcm, phonemes, drive)[:, SEAL]
    speaking = np.flatnonzero(seal > 0.99)
    assert speaking[0] < 10 and (seal[speaking[0] : speaking[-1]] > 0.99).all()  # the pause is in there
    after = seal[speaking[-1] :]
    assert speaking[-1] / FPS > 2 * len(english().pcm) / SPEECH_RATE
    assert after[-1] == 0.0 and -0.2 < np.diff(after).min() and np.diff(after).max() <= 0.0


def test_a_hum_is_no_reason_to_keep_a_smile_sealed() -> None:
    pcm, phonemes = with_pause(english(), 0.45)
    pcm = np.concatenate([pcm, np.zeros(2 * SPEECH_RATE, np.float32)])
    pcm = pcm + np.float32(0.05 * loud_level(pcm)) * np.random.default_rng(0).standard_normal(len(pcm)).astype(np.float32)
    seal = whole(pcm, None, "sound")[:, SEAL]
    assert seal.max() > 0.99 and not seal[-int(0.7 * FPS) :].any()


@pytest.mark.parametrize("drive", DRIVES)
def test_nothing_pops_at_the_ends(drive: Drive) -> None:
    take = english()
    first, last = round(take.phonemes[5].start), round(take.phonemes[-6].start)
    cut = take.pcm[first : last // SPEECH_SAMPLES_PER_FRAME * SPEECH_SAMPLES_PER_FRAME]  # begins and ends inside words
    inside = tuple(Phoneme(p.symbol, p.start - first, p.end - first, p.stress) for p in take.phonemes[5:-6])
    rows = whole(cut, inside, drive)
    assert gap_mm(rows)[0] < 3.0
    assert not rows[-1].any()


@pytest.mark.parametrize("drive", DRIVES)
def test_silent_input_moves_nothing(drive: Drive) -> None:
    for pcm in (np.zeros(SPEECH_RATE, np.float32), np.zeros(0, np.float32)):
        heard = listen(SpeechWindow(0, pcm, 0, 10, (), 0.0, final=True), drive)
        assert heard.rows.shape == (10, N_CONTROLS) and not heard.rows.any() and not heard.is_speaking.any()
        assert not listen(SpeechWindow(0, pcm, 0, 10, None, 0.0, final=True), drive).rows.any()


def test_a_louder_voice_looks_the_same() -> None:
    take = english()
    np.testing.assert_allclose(whole(take.pcm, None, "sound"), whole(take.pcm * np.float32(0.3), None, "sound"), atol=2e-3)


def test_rows_stay_in_bounds() -> None:
    for drive in DRIVES:
        rows = whole(*with_pause(english(), 0.5), drive)
        mouth = rows[:, [JAW, LOWER_DROP, UPPER_RAISE, WIDE, ROUND, PRESS, FTUCK, LIP_CLOSE]]
        assert np.isfinite(rows).all() and mouth.min() >= 0.0 and mouth.max() <= 1.0
        assert np.abs(rows[:, NOD]).max() <= 3.5 and np.abs(rows[:, TURN]).max() <= 2.5 and np.abs(rows[:, GAZE_X]).max() <= 1.0
        assert rows[:, [BLINK, AWAKE]].min() >= 0.0 and rows[:, [BLINK, AWAKE]].max() <= 1.0
        # No trembling: what moves, moves on for more than a frame.
        turns = np.abs(np.diff(gap_mm(rows), 2))
        assert np.median(turns) < 1.5


def test_head_motion_scales_nods() -> None:
    pcm, phonemes = with_pause(english(), 0.4)
    still, lively = whole(pcm, phonemes, head_motion=0.0), whole(pcm, phonemes, head_motion=1.0)
    assert not still[:, [NOD, TURN, RISE, BROW_UP, GAZE_X, BLINK, AWAKE]].any()
    assert np.abs(lively[:, [NOD, TURN]]).max() > 1.0 and lively[:, BROW_UP].max() > 0.1
    np.testing.assert_allclose(still[:, JAW], lively[:, JAW], atol=1e-6)


def test_accents_keep_their_distance() -> None:
    words = [(0.13 * k, 1.0, k) for k in range(1000)]
    times = np.arange(0, 130, 0.005)
    nod, turn = np.abs(accents(words, times)[:, [1, 3]]).T
    peaks = times[1:-1][(nod[1:-1] > nod[:-2]) & (nod[1:-1] >= nod[2:]) & (nod[1:-1] > 0.3)]
    assert 60 <= len(peaks) <= 140 and np.diff(peaks).min() >= 0.4
    assert np.percentile(nod[np.isin(times, peaks)], 90) > 1.6 * np.percentile(nod[np.isin(times, peaks)], 10)
    assert (nod + turn < 0.05).mean() > 0.15 and nod.max() <= 3.5 and 1.0 < turn.max() <= 2.5


def test_other_words_and_phases_nod_otherwise() -> None:
    times = np.arange(0, 13, 0.04)
    told = [accents([(0.13 * k, 1.0, k + first) for k in range(100)], times, phase)[:, 1] for first, phase in ((0, 0), (500, 0), (0, 88))]
    assert all(np.abs(a - b).max() > 1.0 for a, b in ((told[0], told[1]), (told[0], told[2])))


def test_a_head_comes_to_rest_when_a_phrase_ends() -> None:
    times = np.arange(0, 2, 0.005)
    for number in range(40):
        head = accents([(0.2, 1.0, number)], times, ends=[0.4])
        assert not head[times > 0.4 + SETTLE_S].any()
        assert np.abs(np.diff(head[:, 1], axis=0)).max() < 0.2  # degrees in 5 ms: no jerk


def test_blinks_are_as_frequent_as_a_speakers_and_unlike_each_other() -> None:
    times = np.arange(0, 300, 0.04)
    lids = blinks([2.3 * k for k in range(1, 130)], [0.21 * k for k in range(1430)], times)
    begins = np.flatnonzero((lids[1:] > 0.4) & (lids[:-1] <= 0.4))
    assert 15 <= len(begins) / 5 <= 26 and lids.max() > 0.95
    shapes = {tuple(np.round(lids[i : i + 8], 1)) for i in begins}
    assert len(shapes) > 0.5 * len(begins) and np.diff(times[begins]).min() > 0.4


def test_a_phrase_ends_with_a_blink_now_and_then() -> None:
    ends = [2.3 * k for k in range(1, 130)]
    times = np.arange(0, 300, 0.04)
    lids = blinks(ends, [], times)
    with_one = [lids[(times > end - 0.1) & (times < end + 0.2)].max() > 0.5 for end in ends]
    assert 0.2 < np.mean(with_one) < 0.5


def test_glances_are_rare_and_small() -> None:
    times = np.arange(0, 60, 0.04)
    shift = glances([0.2 * k for k in range(300)], times)
    away = np.hypot(shift[:, 0], shift[:, 1]) > 0.05
    begins = int((np.diff(away.astype(int)) == 1).sum())
    assert 15 <= begins <= 30 and np.abs(shift).max() <= 0.6 and away.mean() < 0.4


def test_segments_cover_time_once() -> None:
    row = segments_of(
        (Phoneme("a", 2400, 4800), Phoneme("b", 4900, 6000), Phoneme("", 6000, 9600), Phoneme("aɪ", 12000, 14400), Phoneme("s", 14000, 16000))
    )
    assert row[0].start == -FAR_S and row[-1].end == FAR_S
    for before, after in zip(row, row[1:], strict=False):
        assert before.end == pytest.approx(after.start)
    assert [s.viseme.kind for s in row].count(Kind.PAUSE) == 3


def test_closures_slide_to_the_quiet() -> None:
    loud = np.zeros(200, np.float32)
    loud[88:94] = -30.0  # 0.44 .. 0.47 s at 200 Hz
    (moved,) = [s for s in slide_closures(segments_of((Phoneme("p", 11520, 12480),)), loud, 0.0) if s.viseme.kind is Kind.CLOSURE]
    assert 0.44 <= (moved.start + moved.end) / 2 <= 0.47


def test_activity_rests_only_in_long_pauses() -> None:
    def lowest(pause_s: float) -> float:
        end = round((1 + pause_s) * SPEECH_RATE)
        row = segments_of((Phoneme("a", 0, SPEECH_RATE), Phoneme("a", end, end + SPEECH_RATE)))
        times = np.arange(0.2, 1 + pause_s + 0.5, 0.01)
        return float(activity(row, times).min())

    assert lowest(0.08) > 0.95 and lowest(0.5) == 0.0


@pytest.mark.parametrize("phonemes", [None, (Phoneme("a", 0, 12_000),)])
@pytest.mark.parametrize("behind", [0, 5, 11, 20, 28])
def test_frames_behind_the_end_of_the_speech_are_at_rest(phonemes: tuple[Phoneme, ...] | None, behind: int) -> None:
    pcm = np.random.default_rng(0).standard_normal(17_500).astype(np.float32) * 0.1
    heard = listen(SpeechWindow(0, pcm, 19 + behind, 1, phonemes, 0.1, final=True))
    assert not heard.rows.any() and not heard.is_speaking.any()


@pytest.mark.parametrize("drive", DRIVES)
@pytest.mark.parametrize("take", [english, english_man, korean])
def test_lips_part_and_meet_no_faster_than_lips_do(drive: Drive, take) -> None:
    spoken = take()
    steps = np.diff(gap_mm(whole(spoken.pcm, spoken.phonemes, drive)))
    assert steps.max() <= 11.9 and steps.min() >= -9.8  # mm in 40 ms: the quickest of those that were measured
    assert np.percentile(steps, 98) <= OPENING_MM_S / FPS and np.percentile(steps, 2) >= -CLOSING_MM_S / FPS
    assert steps.max() > 3 and steps.min() < -3  # but they do speak


def test_a_closing_keeps_its_place_and_what_is_open_around_it_gives_way() -> None:
    gap = np.full(61, 12.0, np.float32)
    gap[30] = 0.0
    limited = within_speed(gap, 0.005)
    assert limited[30] == 0.0 and limited[0] == limited[-1] == 12.0
    slopes = np.diff(limited) / 0.005
    assert slopes.max() == pytest.approx(OPENING_MM_S) and slopes.min() == pytest.approx(-CLOSING_MM_S)


def said(pcm: FloatArray, phonemes: tuple[Phoneme, ...] | None, drive: Drive, phase: int) -> FloatArray:
    speech = SpeechWindow(0, pcm, 0, frames_for(len(pcm)), phonemes, loud_level(pcm), final=True, phase=phase)
    return np.asarray(listen(speech, drive, 0.0).rows)


@pytest.mark.parametrize("drive", DRIVES)
def test_a_sentence_is_said_a_little_differently_on_each_phase_and_alike_on_the_same(drive: Drive) -> None:
    take = english()
    first, again, other = (said(take.pcm, take.phonemes, drive, phase) for phase in (8, 8, 128))
    np.testing.assert_array_equal(first, again)
    apart = gap_mm(first) - gap_mm(other)
    assert 0.15 < np.abs(apart).mean() < 1.2  # mm
    assert np.corrcoef(gap_mm(first), gap_mm(other))[0, 1] > 0.93
    contact = first[:, PRESS] > 0.7
    if drive != "sound":
        assert contact.any() and gap_mm(other)[contact].max() < 1.5  # lips meet at the same sounds


def test_the_same_sentence_later_in_an_utterance_is_said_differently() -> None:
    take = english()
    length = -(-len(take.pcm) // SPEECH_SAMPLES_PER_FRAME) * SPEECH_SAMPLES_PER_FRAME + SPEECH_RATE
    twice = np.zeros(2 * length, np.float32)
    twice[: len(take.pcm)] = twice[length : length + len(take.pcm)] = take.pcm
    later = tuple(Phoneme(p.symbol, p.start + length, p.end + length, p.stress) for p in take.phonemes)
    rows = said(twice, (*take.phonemes, *later), "phonemes", 0)
    frames, shift = len(take.pcm) // SPEECH_SAMPLES_PER_FRAME - 10, length // SPEECH_SAMPLES_PER_FRAME
    first, second = gap_mm(rows)[5:frames], gap_mm(rows)[5 + shift : frames + shift]
    assert 0.1 < np.abs(first - second).mean() < 1.2
    assert np.corrcoef(first, second)[0, 1] > 0.93


def test_stressed_vowels_keep_their_shape_and_others_take_their_neighbours() -> None:
    length = SPEECH_RATE // 14
    tone = (0.2 * np.sin(2 * np.pi * 150 * np.arange(5 * length) / SPEECH_RATE)).astype(np.float32)

    def spread(stress: int) -> float:
        symbols = ("u", "k", "i", "k", "u")
        phonemes = tuple(Phoneme(symbol, n * length, (n + 1) * length, stress if n == 2 else 0) for n, symbol in enumerate(symbols))
        middle = int(2.5 * length / SPEECH_SAMPLES_PER_FRAME)
        return float(np.mean([said(tone, phonemes, "phonemes", phase)[middle, WIDE] for phase in range(0, 256, 8)]))

    assert spread(1) > 1.03 * spread(0) > 0.1
