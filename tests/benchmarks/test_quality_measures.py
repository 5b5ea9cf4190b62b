"""The measures of lips and motion on curves whose answer is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.lips.bars import BARS, Bar
from benchmarks.lips.faces import EYE_CORNERS, LIP_PAIRS, FaceReader, FaceTrack, Seen
from benchmarks.lips.motion import count_blinks, head_motion, longest_freeze_s
from benchmarks.lips.mouth import agreement, closures, intended_gap, silence_motion
from benchmarks.lips.picture import crop_seam, lower_face_seam, most_different, tear, without_sway
from benchmarks.lips.report import table, verdicts
from benchmarks.lips.stage import PHOTOGRAPH
from benchmarks.lips.timing import loudness, mouth_offset, sound_delay
from museserve.messages import FloatArray, Phoneme
from musetalk.animator.rig import Rig
from musetalk.avatars.builtin import shipped_portrait
from musetalk.speech_cues.controls import JAW, LIP_CLOSE, N_CONTROLS, ROUND, SEAL, UPPER_RAISE, WIDE
from tests.musetalk.pictures import photo

SOUND_RATE = 16_000
FPS = 25
Curve = NDArray[np.float64]


def syllables(seconds: float, seed: int = 1) -> Curve:
    """How open a mouth is at 1 kHz, 0..1: bumps of irregular length and height with closures and a pause between them."""
    random = np.random.default_rng(seed)
    n = round(seconds * 1000)
    opening = np.zeros(n)
    at = 300
    while at < n - 700:
        length = int(random.integers(110, 260))
        opening[at : at + length] = random.uniform(0.35, 1.0) * np.sin(np.pi * np.arange(length) / length)[: n - at] ** 2
        at += length + int(random.choice((20, 60, 500), p=(0.5, 0.4, 0.1)))
    return opening


def voice(opening: Curve, delay_s: float = 0.0) -> FloatArray:
    """Noise as loud as a mouth is open, `delay_s` later."""
    random = np.random.default_rng(2)
    times = np.arange(round(len(opening) / 1000 * SOUND_RATE)) / SOUND_RATE
    loud = np.interp(times - delay_s, np.arange(len(opening)) / 1000, opening, left=0.0, right=0.0)
    return (0.3 * loud * random.uniform(-1, 1, len(times))).astype(np.float32)


def at_frames(opening: Curve) -> tuple[Curve, Curve]:
    """Frame times and the opening in the middle of each frame, where a moving mouth is best drawn."""
    times = np.arange(len(opening) * FPS // 1000) / FPS
    return times, 0.1 * np.interp(times, np.arange(len(opening)) / 1000, opening)


@pytest.fixture(scope="module")
def still() -> Rig:
    shipped = shipped_portrait("interviewer_woman")
    return without_sway(Rig.build(shipped.portrait, shipped.landmarks, 256))


class TestOffset:
    @pytest.mark.parametrize("shift_ms", [-200, -80, -7, 13, 80, 200])
    def test_moving_the_sound_is_recovered_within_a_millisecond(self, shift_ms: int) -> None:
        opening = syllables(9.0)
        times, gap = at_frames(opening)
        pcm = voice(opening)
        unmoved = mouth_offset(times, gap, loudness(pcm, SOUND_RATE))
        moved = mouth_offset(times, gap, loudness(pcm, SOUND_RATE, shift_ms / 1000))
        assert unmoved.is_reliable and moved.is_reliable
        assert moved.seconds - unmoved.seconds == pytest.approx(shift_ms / 1000, abs=0.001)
        assert moved.correlation == pytest.approx(unmoved.correlation, abs=0.02)

    def test_a_mouth_that_follows_the_loudness_has_none(self) -> None:
        opening = syllables(9.0)
        times, gap = at_frames(opening)
        assert abs(mouth_offset(times, gap, loudness(voice(opening), SOUND_RATE)).seconds) < 0.01

    def test_sound_that_is_late_is_positive(self) -> None:
        opening = syllables(9.0)
        times, gap = at_frames(opening)
        assert mouth_offset(times, gap, loudness(voice(opening, 0.1), SOUND_RATE)).seconds == pytest.approx(0.1, abs=0.012)

    def test_the_mouth_of_another_utterance_is_not_reliable(self) -> None:
        times, gap = at_frames(syllables(9.0, seed=5))
        offset = mouth_offset(times, gap, loudness(voice(syllables(9.0)), SOUND_RATE))
        assert not offset.is_reliable or abs(offset.seconds) > 0.2

    def test_frames_with_no_face_are_bridged(self) -> None:
        opening = syllables(9.0)
        times, gap = at_frames(opening)
        whole = mouth_offset(times, gap, loudness(voice(opening), SOUND_RATE))
        gap[[40, 41, 90]] = np.nan
        assert mouth_offset(times, gap, loudness(voice(opening), SOUND_RATE)).seconds == pytest.approx(whole.seconds, abs=0.005)

    def test_a_mouth_that_stands_still_is_refused(self) -> None:
        opening = syllables(9.0)
        times, gap = at_frames(opening)
        with pytest.raises(ValueError, match="does not move"):
            mouth_offset(times, np.full_like(gap, 0.02), loudness(voice(opening), SOUND_RATE))

    def test_silence_is_too_little_speech(self) -> None:
        times, gap = at_frames(syllables(9.0))
        with pytest.raises(ValueError, match="too little speech"):
            mouth_offset(times, gap, loudness(np.zeros(9 * SOUND_RATE, np.float32), SOUND_RATE))

    @pytest.mark.parametrize("delay", [-300, 0, 1, 777])
    def test_a_delayed_copy_of_a_sound_is_found_to_the_sample(self, delay: int) -> None:
        pcm = voice(syllables(4.0))
        assert sound_delay(pcm, np.roll(pcm, delay), 2000) == delay


class TestLoudness:
    def test_speech_is_where_the_sound_is(self) -> None:
        pcm = np.zeros(3 * SOUND_RATE, np.float32)
        pcm[SOUND_RATE : 2 * SOUND_RATE] = 0.2 * np.sin(2 * np.pi * 440 * np.arange(SOUND_RATE) / SOUND_RATE)
        heard = loudness(pcm, SOUND_RATE, start_s=0.5)
        said = heard.times[heard.speech]
        assert said[0] == pytest.approx(1.5, abs=0.04) and said[-1] == pytest.approx(2.5, abs=0.04)
        near = heard.times[heard.surroundings]
        assert near[0] == pytest.approx(said[0] - 0.3, abs=0.02) and near[-1] == pytest.approx(said[-1] + 0.3, abs=0.02)

    def test_a_click_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"0\.10 s"):
            loudness(np.ones(1600, np.float32), SOUND_RATE)


class TestMouth:
    def test_a_gap_that_is_late_is_seen_in_frames(self) -> None:
        _, gap = at_frames(syllables(8.0))
        r, lag = agreement(np.roll(gap, 2), gap)
        assert lag == 2 and r < 0.95
        assert agreement(3 * gap + 0.01, gap) == pytest.approx((1.0, 0))

    def test_unknown_frames_do_not_count(self) -> None:
        _, gap = at_frames(syllables(8.0))
        seen = gap.copy()
        seen[50:60] = np.nan
        assert agreement(seen, gap) == pytest.approx((1.0, 0))

    def test_the_lips_that_close_a_lowered_jaw_ask_for_no_gap(self, still: Rig) -> None:
        rows = np.zeros((4, N_CONTROLS), np.float32)
        rows[1:, JAW] = 0.4
        rows[2, LIP_CLOSE] = 0.4
        rows[3, UPPER_RAISE] = 1.0  # 3.2 mm
        jaw = 0.4 * still.anatomy.jaw_mm
        np.testing.assert_allclose(intended_gap(still, rows), [0.0, jaw, 0.0, jaw + 3.2], atol=0.4)

    def test_a_smile_with_teeth_has_a_gap_until_it_is_sealed(self) -> None:
        reader = FaceReader()
        photograph = photo(PHOTOGRAPH.name)
        seen = reader.read(photograph)
        reader.close()
        assert seen is not None
        smiling = Rig.build(photograph, np.pad(seen.points, ((0, 0), (0, 1))), 256)
        rows = np.zeros((2, N_CONTROLS), np.float32)
        rows[1, SEAL] = 1.0
        asked = intended_gap(smiling, rows)
        assert asked[0] > 3.0 and asked[1] < 0.5  # mm

    def test_closures_are_told_from_near_misses(self) -> None:
        times = np.arange(50) / FPS
        gap = np.full(50, 0.11)
        gap[[10, 11]] = 0.012  # shut
        gap[30] = 0.06  # half
        phonemes = (Phoneme("p", 9600, 10800), Phoneme("a", 10800, 14400), Phoneme("m", 28200, 29400), Phoneme("b", 43200, 44400))
        found = closures(times, gap, phonemes, rest=0.01, speaking=np.ones(50, bool))
        assert [closure.symbol for closure in found] == ["p", "m", "b"]
        assert [round(closure.opening, 2) for closure in found] == [0.02, 0.5, 1.0]
        assert found[0].second == pytest.approx(0.425)

    def test_a_closure_may_not_borrow_a_frame_from_far_away(self) -> None:
        times = np.arange(50) / FPS
        gap = np.full(50, 0.11)
        gap[20] = 0.01
        phoneme = Phoneme("b", 15600, 16800)  # 0.65 .. 0.70 s; frame 20 is shown at 0.80 s
        assert closures(times, gap, [phoneme], 0.01, np.ones(50, bool))[0].opening == pytest.approx(1.0)

    def test_a_quiver_in_silence_shows(self) -> None:
        speaking = np.arange(100) < 60
        gap = np.where(speaking, 0.05 + 0.05 * np.sin(np.arange(100)), 0.01)
        quiet = ~speaking & (np.arange(100) > 62)
        assert silence_motion(gap, quiet, speaking) == 0.0
        gap[70::2] += 0.02
        assert silence_motion(gap, quiet, speaking) > 0.3
        assert math.isnan(silence_motion(gap, np.zeros(100, bool), speaking))


class TestMotion:
    def test_a_still_head_has_none(self) -> None:
        still = head_motion(np.full((40, 13, 2), 2.5))
        assert (still.jitter_median, still.jitter_p95, still.jump, still.reach) == (0.0, 0.0, 0.0, 0.0)

    def test_noise_is_jitter_and_sway_is_not(self) -> None:
        sway = np.zeros((250, 13, 2))
        sway[:, :, 0] = 0.03 * np.sin(2 * np.pi * np.arange(250) / 250)[:, None]
        smooth = head_motion(sway)
        noisy = head_motion(sway + np.random.default_rng(0).normal(0, 0.003, sway.shape))
        assert smooth.jitter_median < 0.01 < 0.5 < noisy.jitter_median
        assert smooth.reach == pytest.approx(6.0, abs=0.01)

    def test_one_jump_is_found_and_the_median_does_not_mind(self) -> None:
        points = np.zeros((50, 13, 2))
        points[20:, :, 1] = 0.05
        jumped = head_motion(points)
        assert jumped.jump == pytest.approx(5.0) and jumped.jitter_median == 0.0

    def test_lost_faces_do_not_make_a_jump(self) -> None:
        points = np.zeros((50, 13, 2))
        points[20:22] = np.nan
        points[22:] = 0.5
        assert head_motion(points).jump == 0.0

    def test_too_few_faces_are_refused(self) -> None:
        with pytest.raises(ValueError, match="three frames"):
            head_motion(np.full((10, 13, 2), np.nan))

    def test_each_blink_counts_once(self) -> None:
        opening, score = np.full(200, 0.3), np.full(200, 0.05)
        opening[[50, 51, 52, 120]] = 0.05
        score[[160, 161]] = 0.8
        assert count_blinks(opening, score) == 3
        assert count_blinks(np.full(200, 0.2), np.full(200, 0.4)) == 0

    def test_the_longest_freeze_while_speaking(self) -> None:
        changes = np.full(100, 0.4)
        changes[10:15] = 0.0
        changes[50:90] = 0.0
        speaking = np.arange(100) < 45
        assert longest_freeze_s(changes, 0.04, speaking) == pytest.approx(0.2)


class TestFaces:
    def test_distances_are_in_eye_spans(self) -> None:
        points = np.zeros((478, 2), np.float32)
        points[EYE_CORNERS[1]] = (80.0, 60.0)
        for _, lower in LIP_PAIRS:
            points[lower] = (0.0, 7.0)
        track = FaceTrack.of([Seen(points, 0.1, 0.0), None, Seen(points, 0.2, 0.0)])
        assert track.unit_px == 100.0
        np.testing.assert_allclose(track.lip_gap, [0.07, np.nan, 0.07], rtol=1e-6)
        assert track.found.tolist() == [True, False, True]


class TestPicture:
    def test_a_face_that_does_nothing_leaves_no_seam(self, still: Rig) -> None:
        rows = np.zeros((3, N_CONTROLS), np.float32)
        assert lower_face_seam(still, rows) == 0
        assert crop_seam(still, np.arange(3), rows) == 0

    def test_a_box_too_small_for_the_jaw_shows_its_seam(self, still: Rig) -> None:
        row = np.zeros((1, N_CONTROLS), np.float32)
        row[0, JAW] = 1.0
        box = still.lower_box

        def cells(pixels: int) -> int:
            return pixels // still.cell * still.cell  # a box is made of whole ones

        tight = replace(still, lower_box=replace(box, x=box.x + cells(box.w // 4), w=cells(box.w // 2), h=cells(box.h // 2)))
        assert lower_face_seam(tight, row) > 10

    def test_a_torn_layer_shows_in_pixels(self, still: Rig) -> None:
        rows = np.zeros((1, N_CONTROLS), np.float32)
        rows[0, JAW] = 1.0
        assert tear(still, rows) < 0.3
        moves = still.lower_contour.moves.copy()
        moves[:, 1::2] *= 1.5  # every vertical motion of the lower layer half as much again
        torn = replace(still, lower_contour=replace(still.lower_contour, moves=moves))
        assert tear(torn, rows) > 0.3

    def test_rows_that_tell_the_most_are_picked(self) -> None:
        rows = np.zeros((100, N_CONTROLS), np.float32)
        rows[7, JAW], rows[42, WIDE], rows[63, ROUND] = 0.9, 0.8, 0.7
        assert {7, 42, 63} <= set(most_different(rows, N_CONTROLS).tolist())


class TestBars:
    def test_a_kind_has_limits_of_its_own(self) -> None:
        bar = next(bar for bar in BARS if bar.key == "silence_motion")
        assert bar.limits(frozenset({"film"})) == (-math.inf, 0.10)
        assert bar.limits(frozenset({"film", "smile"})) == (-math.inf, 0.25)
        assert bar.limits(frozenset({"avatar"})) is None

    @pytest.mark.parametrize(("value", "passed"), [(0.95, True), (0.949, False), (math.nan, False), (1.0, True)])
    def test_the_limit_itself_is_accepted_and_an_unknown_is_not(self, value: float, passed: bool) -> None:
        (verdict,) = verdicts("case", {"gap_r": value}, frozenset({"film"}))
        assert verdict.passed is passed

    def test_the_table_shows_the_worst_case_and_every_failure(self) -> None:
        kinds = frozenset({"film", "phonemes"})
        found = [
            *verdicts("good", {"av_offset": 20.0, "closure_worst": 3.0}, kinds),
            *verdicts("late", {"av_offset": 75.0, "closure_worst": 14.0}, kinds),
            *verdicts("early", {"av_offset": -30.0, "closure_worst": math.nan}, kinds),
        ]
        shown = table(found).splitlines()
        offset = next(line for line in shown if line.startswith("A/V offset"))
        assert "75.0" in offset and "late" in offset and offset.endswith("FAIL")
        assert sum(line.startswith("FAIL") for line in shown) == 3
        assert "3 of 6 measures are met" in shown

    def test_limits_read_as_words(self) -> None:
        assert Bar("a", "a", "ms", low=-20, high=60).accept((-20, 60)) == "-20 .. 60 ms"
        assert Bar("a", "a", low=0.4).accept((0.4, math.inf)) == ">= 0.4"
        assert Bar("a", "a", "%", high=15).accept((-math.inf, 15)) == "<= 15 %"
        assert Bar("a", "a", "%").accept((100, 100)) == "100 %"
