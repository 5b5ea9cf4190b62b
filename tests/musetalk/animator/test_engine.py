"""The animator behind the interface that every lip-sync engine has."""

from __future__ import annotations

import threading
from functools import cache

import numpy as np
import pytest

from configs.models import AnimatorConfig
from museserve.errors import EngineError, UnknownAvatarError
from museserve.messages import AvatarRef, RenderRequest, SpeechWindow
from museserve.timebase import frames_for
from musetalk.animator.engine import MAX_RIGS, Animator
from musetalk.animator.render import render_crop
from musetalk.animator.rig import Rig
from musetalk.avatars.builtin import shipped_portrait
from musetalk.engine import LipSyncEngine
from musetalk.speech_cues.controls import N_CONTROLS
from tests.musetalk.voices import english

WOMAN, MAN = AvatarRef("interviewer_woman", "1"), AvatarRef("interviewer_man", "1")


@cache
def rig_of(name: str) -> Rig:
    shipped = shipped_portrait(name)
    return Rig.build(shipped.portrait, shipped.landmarks, 512)


def animator(threads: int = 1) -> Animator:
    return Animator(AnimatorConfig(threads=threads), lambda ref: rig_of(ref.id))


def request(avatar: AvatarRef, first: int, rows: np.ndarray) -> RenderRequest:
    return RenderRequest(avatar, tuple(range(first, first + len(rows))), rows)


@cache
def spoken_rows() -> np.ndarray:
    take = english()
    speech = SpeechWindow(0, take.pcm, 0, frames_for(len(take.pcm)), take.phonemes, final=True)
    return animator().listen(speech).rows


def test_it_is_a_lip_sync_engine_and_says_what_it_is() -> None:
    engine: LipSyncEngine = animator()
    engine.check()
    assert engine.info.name == "animator" and engine.info.device == "cpu"
    assert 0.1 <= engine.info.lookahead_s <= 0.3 and engine.info.context_s <= 1.5
    assert engine.info.details["drive"] == "mix"


def test_crops_come_in_order_for_a_batch_of_two_avatars() -> None:
    rows = spoken_rows()
    asked = [request(WOMAN, 40, rows[8:16]), request(MAN, 250, rows[16:20])]
    woman, man = animator().render(asked)
    box = rig_of("interviewer_woman").box
    assert woman.shape == (8, box.h * 3 // 2, box.w) and woman.dtype == np.uint8
    assert len(man) == 4
    np.testing.assert_array_equal(woman[3], render_crop(rig_of("interviewer_woman"), 43, rows[11]))
    np.testing.assert_array_equal(man[0], render_crop(rig_of("interviewer_man"), 250, rows[16]))


def test_threads_change_nothing() -> None:
    asked = [request(WOMAN, 0, spoken_rows()[:16])]
    np.testing.assert_array_equal(animator(1).render(asked)[0], animator(3).render(asked)[0])


def test_rendering_is_idempotent() -> None:
    engine = animator()
    asked = [request(MAN, 5, spoken_rows()[10:18])]
    np.testing.assert_array_equal(engine.render(asked)[0], engine.render(asked)[0])


def test_the_configured_drive_is_used() -> None:
    take = english()
    speech = SpeechWindow(0, take.pcm, 0, frames_for(len(take.pcm)), take.phonemes, final=True)
    rows = {drive: Animator(AnimatorConfig(drive=drive), lambda ref: rig_of(ref.id)).listen(speech).rows for drive in ("mix", "phonemes", "sound")}
    assert np.abs(rows["mix"] - rows["phonemes"]).max() > 0.05
    assert np.abs(rows["mix"] - rows["sound"]).max() > 0.05


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(EngineError, match=rf"2 frames need rows \(2, {N_CONTROLS}\), got \(3, {N_CONTROLS}\)"):
        animator().render([RenderRequest(WOMAN, (0, 1), np.zeros((3, N_CONTROLS), np.float32))])


def test_an_unknown_avatar_is_asked_for_again_after_it_failed() -> None:
    asked: list[str] = []

    def load(ref: AvatarRef) -> Rig:
        asked.append(ref.id)
        if len(asked) == 1:
            raise UnknownAvatarError(f"no avatar {ref.id}")
        return rig_of("interviewer_man")

    engine = Animator(AnimatorConfig(), load)
    silent = request(AvatarRef("nobody", "1"), 0, np.zeros((1, N_CONTROLS), np.float32))
    with pytest.raises(UnknownAvatarError, match="nobody"):
        engine.render([silent])
    assert len(engine.render([silent])[0]) == 1 and asked == ["nobody", "nobody"]


def test_a_rig_is_loaded_once_by_many_threads_and_the_oldest_is_dropped() -> None:
    loads: list[str] = []
    started = threading.Barrier(4)

    def load(ref: AvatarRef) -> Rig:
        loads.append(ref.id)
        return rig_of("interviewer_man")

    engine = Animator(AnimatorConfig(), load)
    row = np.zeros((1, N_CONTROLS), np.float32)

    def draw() -> None:
        started.wait()
        engine.render([request(MAN, 0, row)])

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [MAN.id]
    for number in range(MAX_RIGS):
        engine.render([request(AvatarRef(f"other{number}", "1"), 0, row)])
    engine.render([request(MAN, 0, row)])
    assert loads.count(MAN.id) == 2
