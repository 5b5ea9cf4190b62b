"""The player on a network that fails, in headless Chromium against the real service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.conftest import Service, free_port, start, stop
from tests.web.line import Line
from tests.web.player_page import Stage, opened
from tests.web.test_player import SOUND, WRITE

pytestmark = [pytest.mark.serve, pytest.mark.browser]

LONG = "I would like you to walk me through a system that you designed, from the first sketch to production."


@pytest.fixture
def line(service: Service) -> Iterator[Line]:
    line = Line(service.url)
    yield line
    line.close()


@pytest.fixture
def stage(browser: Browser, line: Line) -> Iterator[Stage]:
    stage = opened(browser, line.url)
    stage.connect()
    stage.unlock()
    yield stage
    stage.close()


def test_sound_that_is_written_goes_on_after_the_connection_was_lost(stage: Stage, line: Line) -> None:
    whole_ms = stage.js(SOUND)
    stage.js(WRITE, ["a", 0, 0.5])
    stage.until("said('started').some(({ id }) => id === 'a')")
    line.cut()
    stage.js(WRITE, ["a", 0.5, 0.8])  # nobody knows what of it arrived
    line.mend(keep=False)
    stage.until("said('ready').length === 2", 60)
    stage.js(WRITE, ["a", 0.8, -1])
    stage.until("said('ended').length === 1", 60)
    (ended,) = stage.said("ended")
    assert ended["outcome"] == "finished" and ended["heard_ms"] == pytest.approx(whole_ms, abs=1)
    frames = stage.js("gate.got.filter(({ type }) => type === 'finished').at(-1).frames")
    assert frames * 40 >= whole_ms and stage.said("error") == [] and stage.ranges() == 1


@pytest.mark.parametrize(
    ("seconds", "keep"),
    [
        pytest.param(2, True, id="two seconds, and the connection lives"),
        pytest.param(60, False, id="a minute, and the connection is lost", marks=pytest.mark.slow),
    ],
)
def test_a_cut_network_leaves_the_face_alive_and_loses_nothing(stage: Stage, line: Line, seconds: int, keep: bool) -> None:
    stage.js("text => { player.speak({ text, id: 'cut' }); player.speak({ text: 'Say a.', id: 'next' }) }", LONG)
    stage.until("said('started').some(({ id }) => id === 'cut')")
    line.cut()
    stage.page.wait_for_timeout(1000 * seconds - 1000)
    painted = stage.js("frames.length")
    stage.page.wait_for_timeout(1000)
    assert stage.js("frames.length") - painted >= 15, "the face stands still"
    codes = [notice["code"] for notice in stage.said("notice")]
    assert keep or "reconnecting" in codes
    line.mend(keep=keep)
    stage.until("said('ended').length === 2", 60)
    assert [(e["id"], e["outcome"]) for e in stage.said("ended")] == [("cut", "finished"), ("next", "finished")]
    assert [e["index"] for e in stage.said("word") if e["id"] == "cut"] == list(range(len(LONG.split())))
    assert [e["resumed"] for e in stage.said("ready")] == ([False] if keep else [False, True])
    assert stage.ranges() == 1


@pytest.mark.slow
def test_a_restarted_service_is_found_again_and_says_what_was_not_finished(browser: Browser, tmp_path: Path) -> None:
    config = {"server": {"port": free_port(), "dashboard_port": 0}}
    process, service = start(tmp_path, config)
    try:
        stage = opened(browser, service.url)
        stage.connect()
        stage.unlock()
        stage.js("text => { player.speak({ text, id: 'cut' }); player.speak({ text: 'Say a.', id: 'next' }) }", LONG)
        stage.until("said('started').some(({ id }) => id === 'cut')")
        stop(process)
        painted = stage.js("frames.length")
        process, _ = start(tmp_path, config)
        assert stage.js("frames.length") > painted, "the face stands still"
        stage.until("said('ended').length === 2", 90)
        assert [(e["id"], e["outcome"]) for e in stage.said("ended")] == [("cut", "finished"), ("next", "finished")]
        codes = [notice["code"] for notice in stage.said("notice")]
        assert "reconnecting" in codes and "restarted" in codes
        assert stage.ranges() == 1
        stage.close()
    finally:
        stop(process)
