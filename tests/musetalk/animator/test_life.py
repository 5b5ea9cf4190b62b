"""Gestures of who listens and thinks: they begin and end on the loop, go as far as people's do, and no faster."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from museserve.timebase import FPS, IDLE_FRAMES, SEGMENT_FRAMES
from musetalk.animator.fields import IDLE_FIELDS
from musetalk.animator.idle import idle_motion
from musetalk.animator.life import LAPS, lap
from musetalk.animator.render import idle_frame, lap_frame
from musetalk.animator.rig import Rig
from musetalk.faces.mediapipe import find_faces
from tests.musetalk.animator.test_rig import portrait

HEAD = [IDLE_FIELDS.index(name) for name in ("yaw", "pitch", "roll")]


@pytest.mark.parametrize("state", LAPS)
def test_gestures_leave_the_first_segment_and_a_pause_between_them(state: str) -> None:
    spans = lap(idle_motion(1), state, 1).spans
    ends = [0, *(span.first + span.n for span in spans)]
    assert all(span.first > end for span, end in zip(spans, ends, strict=False)), "each needs what is the loop's own before it"
    assert ends[-1] <= IDLE_FRAMES // SEGMENT_FRAMES


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("state", LAPS)
def test_a_gesture_is_seen_and_begins_and_ends_at_rest(state: str, seed: int) -> None:
    motion = idle_motion(seed)
    made = lap(motion, state, seed)
    head, gaze = (made.motion.weights - motion.weights)[:, HEAD], made.motion.gaze - motion.gaze
    inside = np.zeros(IDLE_FRAMES, bool)
    for span in made.spans:
        inside[span.frames] = True
        for at in (span.frames[0], span.frames[-1]):
            assert np.abs(head[at]).max() < 0.1 and np.abs(gaze[at]).max() < 0.1 and made.brows[at] < 0.05
        turned, looks = np.abs(head[span.frames]).max(), np.abs(gaze[span.frames]).max()
        assert turned < 4.0 and turned + looks + 2 * made.brows[span.frames].max() > 1.5, "degrees, mm, half of a brow's way"
    assert not head[~inside].any() and not gaze[~inside].any() and not made.brows[~inside].any()
    assert np.abs(np.diff(head, axis=0)).max() * FPS < 40, "degrees a second"
    again = lap(motion, state, seed)
    assert np.array_equal(again.motion.weights, made.motion.weights) and again.spans == made.spans


def test_who_thinks_looks_away_and_who_listens_does_not() -> None:
    motion = idle_motion(3)
    away = {state: np.abs(lap(motion, state, 3).motion.gaze - motion.gaze).max() for state in LAPS}
    assert away["thinking"] > 1.5 > 0.8 > away["listening"], "mm"


def test_no_amount_is_no_gesture() -> None:
    motion = idle_motion(3)
    still = lap(motion, "listening", 3, 0.0)
    assert np.array_equal(still.motion.weights, motion.weights) and not still.brows.any()


def test_a_nod_is_drawn_with_the_whole_head_and_without_a_border() -> None:
    rig = Rig.build(*portrait("interviewer_woman"))
    nod = lap(rig.motion, "listening", 5)
    span, pitch = nod.spans[0], (nod.motion.weights - rig.motion.weights)[:, IDLE_FIELDS.index("pitch")]
    low = span.frames[0] + int(np.argmax(pitch[span.frames]))
    before, there = (
        np.asarray(cv2.cvtColor(picture, cv2.COLOR_YUV2RGB_I420), np.uint8) for picture in (idle_frame(rig, low), lap_frame(rig, nod, low))
    )
    (one,), (other,) = (find_faces(picture) for picture in (before, there))
    nose = (other.landmarks[1] - one.landmarks[1])[1] / rig.size * 512
    assert 3 < nose < 14, "pixels of 512, down"
    raised = nod.spans[2]
    top = raised.frames[0] + int(np.argmax(nod.brows[raised.frames]))
    low_browed = replace(nod, brows=np.zeros(IDLE_FRAMES))
    raised_by = np.abs(lap_frame(rig, nod, top).astype(int) - lap_frame(rig, low_browed, top))[: rig.size]
    assert raised_by.max() > 60, "the brows are elsewhere"
    box = rig.box
    border = np.ones((box.h, box.w), bool)
    border[2:-2, 2:-2] = False
    assert raised_by[box.y : box.y + box.h, box.x : box.x + box.w][border].max() <= 2, "and nothing at the border of what speech redraws"


def test_a_lap_without_gestures_is_the_loop() -> None:
    rig = Rig.build(*portrait("interviewer_man"))
    listening = lap(rig.motion, "listening", 5)
    assert np.array_equal(lap_frame(rig, listening, 0), idle_frame(rig, 0))
