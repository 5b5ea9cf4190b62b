"""A session whose ingress replica is killed or replaced while it speaks, in headless Chromium, with two replicas."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.conftest import Replicated
from tests.redeployed_service import DRAIN_S
from tests.web.player_page import LONG, Stage, opened, wait_until_heard
from tests.web.test_player import assert_every_segment_once

pytestmark = [pytest.mark.serve, pytest.mark.browser]

MEANWHILE_S = 2.0  # in which picture and sound must go on


@pytest.fixture
def stage(browser: Browser, replicated: Replicated) -> Iterator[Stage]:
    stage = opened(browser, replicated.service.url)
    stage.connect()
    stage.unlock()
    stage.until("player.state === 'idle'")
    yield stage
    stage.js("player.disconnect()")  # and no session of it is left
    stage.close()


def assert_it_went_on(stage: Stage, words: int) -> None:
    ended = stage.said("ended")
    assert [(e["id"], e["outcome"]) for e in ended] == [("long", "finished"), ("next", "finished")], stage.said("error")
    assert [e["index"] for e in stage.said("word") if e["id"] == "long"] == list(range(words)), "every word once, in order"
    sessions = [e["session"] for e in stage.said("ready")]
    assert len(sessions) >= 2 and len(set(sessions)) == len(sessions), "each was a new one"
    assert_every_segment_once(stage, "long", seen=False)  # while replicas start, a busy machine may skip one's pictures
    assert stage.ranges() == 1 and stage.said("error") == []
    began, over = (next(e["at"] for e in stage.said(kind) if e["id"] == "long") for kind in ("started", "ended"))
    painted = [at for at in stage.js("frames.map(({ at }) => at)") if began <= at <= over]
    assert max(b - a for a, b in zip(painted, painted[1:], strict=False)) < 1000 * MEANWHILE_S


def test_a_killed_replica_is_a_hiccup_in_mid_sentence(stage: Stage, replicated: Replicated) -> None:
    text = f"{LONG} {LONG}"
    stage.js("text => { player.speak({ text, id: 'long' }); player.speak({ text: 'Say a.', id: 'next' }) }", text)
    wait_until_heard(stage, "long")
    stage.page.wait_for_timeout(1500)
    replicated.holder()[0].kill()
    stage.until("said('ended').length === 2", 60)
    assert_it_went_on(stage, len(text.split()))
    assert "restarted" in [e["code"] for e in stage.said("notice")]
    received = stage.js("gate.sent.filter(({ type, id }) => type === 'speak' && id === 'long')")
    assert "received" not in received[0] and received[1]["received"]["frames"] >= 40
    deadline = time.monotonic() + 90
    while len(replicated.service.replicas("Ingress")) < 2 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert len(replicated.service.replicas("Ingress")) == 2


@pytest.mark.slow  # the whole of a redeploy
def test_a_redeploy_is_not_noticed(stage: Stage, replicated: Replicated) -> None:
    text = " ".join([LONG] * 8)
    before = replicated.service.replicas("Ingress")
    stage.js("text => { player.speak({ text, id: 'long' }); player.speak({ text: 'Say a.', id: 'next' }) }", text)
    wait_until_heard(stage, "long")
    replicated.redeploy.touch()
    stage.until("said('notice').some(({ code }) => code === 'moved')", 90)
    assert stage.js("player.state") == "speaking", "it moved in mid-sentence"
    told = stage.js("gate.got.find(({ type }) => type === 'moving')")
    assert 0 < told["within_s"] <= DRAIN_S
    stage.until("said('ended').length === 2", 90)
    assert_it_went_on(stage, len(text.split()))
    assert not {"reconnecting", "restarted"} & {e["code"] for e in stage.said("notice")}
    assert stage.js("player.counters")["reconnects"] == 0  # how late it is while replicas start, benchmarks.moving says
    deadline = time.monotonic() + 90
    while any(replica.is_running() for replica in before) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not any(replica.is_running() for replica in before) and len(replicated.service.replicas("Ingress")) == 2
