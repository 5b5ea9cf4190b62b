"""The idle loop: exactly periodic, alive, and nothing but small motion."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from museserve.timebase import FPS, IDLE_FRAMES
from musetalk.animator.idle import idle_motion
from musetalk.animator.render import i420_planes, idle_frame, idle_loop
from musetalk.animator.rig import Rig
from musetalk.speech_cues.blinks import blink_curve
from tests.musetalk.animator.test_rig import NAMES, portrait


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def rig(name: str) -> Rig:
    return Rig.build(*portrait(name))


@pytest.fixture(scope="module")
def loop(rig: Rig) -> np.ndarray:
    return idle_loop(rig)


def test_the_loop_closes(rig: Rig, loop: np.ndarray) -> None:
    assert loop.shape == (IDLE_FRAMES, rig.size * 3 // 2, rig.size) and loop.dtype == np.uint8
    assert np.array_equal(idle_frame(rig, IDLE_FRAMES), loop[0])
    assert np.array_equal(idle_frame(rig, -1), loop[-1])


def test_the_step_over_the_end_is_like_any_other(loop: np.ndarray) -> None:
    head = loop[:, : loop.shape[2]].astype(np.int16)
    steps = np.array([np.abs(head[n] - head[n - 1]).mean() for n in range(IDLE_FRAMES)])  # [0] is the step from the last frame
    assert 0 < steps[0] <= steps[1:].max()
    assert steps.max() < 1.5


@pytest.mark.parametrize("seed", range(6))
def test_motion_is_continuous_round_the_end(seed: int) -> None:
    motion = idle_motion(seed)
    step = np.abs(np.diff(motion.weights, axis=0, append=motion.weights[:1]))
    assert (step[-1] <= step[:-1].max(0) + 1e-6).all()
    assert np.array_equal(motion.weights, idle_motion(seed).weights)


@pytest.mark.parametrize("seed", range(6))
def test_blinks_are_full_and_as_frequent_as_a_persons(seed: int) -> None:
    lids = idle_motion(seed).lids
    blinks = int(((lids > 0.5) & (np.roll(lids, 1) <= 0.5)).sum())
    assert 8 <= blinks * 60 * FPS / IDLE_FRAMES <= 40
    assert lids.min() == 0.0 and lids.max() > 0.9 and (lids == 0).mean() > 0.6


@pytest.mark.parametrize("seed", range(6))
def test_eyes_jump_and_rest(seed: int) -> None:
    motion = idle_motion(seed)
    turn = 0.85 * 11.5 * np.sin(np.radians(motion.weights[:, 1:3]))
    own = motion.gaze + turn  # without what undoes the head's turn
    speed = np.hypot(*(own - np.roll(own, 1, axis=0)).T)
    assert (speed < 1e-4).mean() > 0.7  # fixations
    assert 3 <= (speed > 0.05).sum() <= 40  # saccades
    assert np.abs(motion.gaze).max() < 2.5


def test_blink_curve_shuts_and_opens() -> None:
    times = np.array([-1.0, 0.0, 0.09, 0.255, 9.0])
    assert np.allclose(blink_curve(times), [0, 0, 1, 0, 0])


def test_the_background_border_is_still(rig: Rig, loop: np.ndarray) -> None:
    edge = loop[:, : rig.size, :2].astype(np.int16)
    assert np.abs(edge - edge[0]).max() <= 3


def test_sharpness_is_that_of_the_still_and_steady(name: str, rig: Rig, loop: np.ndarray) -> None:
    # From the forehead to the nose, and between the brows' ends: a border through an eye would see it come and go.
    (x0, _), (x1, _), (_, y0), (_, y1) = rig.landmarks[[70, 300, 151, 195]].astype(int)

    def sharpness(luma: np.ndarray) -> float:
        return float(cv2.Laplacian(luma[y0:y1, x0:x1].astype(np.float32), cv2.CV_32F).var())

    picture = cv2.resize(portrait(name)[0], (rig.size, rig.size), interpolation=cv2.INTER_AREA)
    still = i420_planes(np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420), np.uint8)).luma
    open_eyes = np.nonzero(rig.motion.lids == 0)[0]
    ratio = np.array([sharpness(i420_planes(loop[n]).luma) for n in open_eyes]) / sharpness(still)
    assert ratio.mean() >= 0.85
    assert ratio.std() <= 0.07
