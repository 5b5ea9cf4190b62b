"""The player and the page in Firefox and in WebKitGTK, as far as they are installed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Service
from tests.web.other_browsers import FIREFOX, MINI_BROWSER, PULSEAUDIO, WEBKIT_DRIVER, XVFB, Firefox, WebKit, Window, quiet_loudspeaker
from tests.web.perception import LOUD, MOVED
from tests.web.perception import SCRIPT as PERCEIVED
from tests.web.player_page import BODY, LONG, PROBE, VIDEO

pytestmark = [pytest.mark.serve, pytest.mark.browser]

SHORT = "Tell me about yourself."
PAGE_PLAYER = "document.getElementById('player')"
PAGE_VIDEO = f"{PAGE_PLAYER}.internals.video"
H264 = """'video/mp4; codecs="avc1.64001f, mp4a.40.2"'"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if PULSEAUDIO is None:
        yield dict(os.environ)
        return
    server, environment = quiet_loudspeaker(tmp_path_factory.mktemp("sound"))
    yield environment
    server.terminate()
    server.wait(10)


@pytest.fixture(scope="module", params=[Firefox, WebKit], ids=["firefox", "webkit"])
def window(request: pytest.FixtureRequest, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Window]:
    kind: type[Firefox] | type[WebKit] = request.param
    missing = FIREFOX is None if kind is Firefox else None in (WEBKIT_DRIVER, XVFB, MINI_BROWSER)
    if missing:
        pytest.skip(f"{kind.__name__} is not installed")
    folder: Path = tmp_path_factory.mktemp(kind.__name__)
    opened = kind(folder, environment)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def able(window: Window, service: Service) -> Window:
    """On an empty page of the service; it plays what that sends."""
    window.goto(f"{service.url}/v1/voices")
    if not window.js(f"(self.ManagedMediaSource ?? self.MediaSource).isTypeSupported({H264})"):
        pytest.skip("this browser was installed without H.264")
    return window


@pytest.fixture(scope="module")
def player(able: Window, service: Service) -> Window:
    """Connected, and the button was clicked once."""
    window = able
    window.run(f"(0, eval)({json.dumps(PROBE)})")
    window.run(f"document.body.innerHTML = {json.dumps(BODY)}")
    window.js(f"import('{service.url}/avatar-player.js').then(() => true)")
    window.run("watch(document.querySelector('avatar-player')); document.getElementById('begin').onclick = () => player.unlock()")
    window.js("player.connect().then(() => true)")
    window.until(f"{VIDEO}.currentTime > 0.3")
    window.click("#begin")
    return window


def speak(player: Window, text: str, utterance: str) -> dict[str, Any]:
    """Spoken to its end: what `started`, the last `word` and `ended` said, by name."""
    player.run(f"player.speak({{ text: {json.dumps(text)}, id: '{utterance}' }})")
    player.until(f"said('ended').some(({{ id }}) => id === '{utterance}')")
    found: dict[str, Any] = player.js(
        f"Object.fromEntries(log.filter((e) => e.id === '{utterance}' && ['started', 'word', 'ended'].includes(e.type)).map((e) => [e.type, e]))"
    )
    return found


@pytest.mark.skipif(PULSEAUDIO is None, reason="without a sound device Firefox allows no sound; pulseaudio makes one")
def test_one_click_brings_the_sound(player: Window) -> None:
    player.until("player.unlocked")
    assert player.js(f"{VIDEO}.muted") is False


def test_it_speaks_in_real_time_on_one_timeline(player: Window) -> None:
    for n, text in enumerate((SHORT, LONG, SHORT)):
        came = speak(player, text, f"spoken-{n}")
        assert came["ended"]["outcome"] == "finished"
        heard_ms = came["ended"]["at"] - came["started"]["at"]
        assert abs(heard_ms - came["word"]["end_ms"]) < 800, "a clock that runs ahead, or stands"
    assert player.js(f"{VIDEO}.buffered.length") == 1
    assert player.js("player.counters.late_segments") == 0
    assert player.js("frames.filter(({ speech }) => speech).length") > 40
    assert player.js("said('error')") == []


def test_it_is_interrupted_and_speaks_again(player: Window) -> None:
    player.run(f"player.speak({{ text: {json.dumps(LONG)}, id: 'cut' }})")
    player.until("said('word').filter(({ id }) => id === 'cut').length > 2")
    player.run("player.interrupt()")
    player.until("player.state === 'idle'")
    assert player.js("said('ended').find(({ id }) => id === 'cut').outcome") == "interrupted"
    at = player.js(f"{VIDEO}.currentTime")
    player.until(f"{VIDEO}.currentTime > {at} + 0.5")
    assert speak(player, SHORT, "after")["ended"]["outcome"] == "finished"
    assert player.js(f"{VIDEO}.buffered.length") == 1


def pictures_go_on(window: Window) -> None:
    painted = f"{PAGE_VIDEO}.getVideoPlaybackQuality().totalVideoFrames"
    before, at = window.js(f"[{painted}, {PAGE_VIDEO}.currentTime]")
    window.until(f"{painted} > {before} + 5 && {PAGE_VIDEO}.currentTime > {at} + 0.2")


def seen_and_heard(window: Window) -> None:
    """Until lips have moved, and a voice was heard; where the browser lets nobody listen, until its one track of sound plays unmuted."""
    window.until(f"{PAGE_PLAYER}.unlocked")  # from then on there is something to listen at
    window.run(PERCEIVED)
    window.run(f"perceive({PAGE_PLAYER})")
    ears = window.js(f"Boolean({PAGE_PLAYER}.internals.graph)")
    heard = f"so.loudest > {LOUD}" if ears else f"!{PAGE_VIDEO}.muted && {PAGE_VIDEO}.volume === 1 && {PAGE_VIDEO}.audioTracks.length === 1"
    window.until(f"((so) => so.pictures > 5 && so.changes > {MOVED} && {heard})(perceivedSoFar())")
    window.js("perceived()")


def test_the_page_asks_is_interrupted_and_asks_again(able: Window, service: Service) -> None:
    window = able
    window.goto(f"{service.url}/v1/voices")
    window.run(f"localStorage.setItem('museserve.page', {json.dumps(json.dumps({'questions': [LONG, SHORT]}))})")
    window.goto(f"{service.url}/")
    window.until(f"{PAGE_PLAYER}.state === 'idle' && !document.getElementById('begin').disabled")
    pictures_go_on(window)
    window.run(f"window.outcomes = []; {PAGE_PLAYER}.addEventListener('ended', ({{ detail }}) => outcomes.push(detail.outcome))")

    window.click("#begin")
    state = "document.getElementById('interview').dataset.state"
    window.until(f"{state} === 'asking'")
    assert window.js("document.getElementById('question').textContent") == LONG
    if PULSEAUDIO is not None:
        seen_and_heard(window)
    window.click("#interrupt")
    window.until(f"{state} === 'listening' && {PAGE_PLAYER}.state !== 'speaking'")
    pictures_go_on(window)

    window.click("#next")
    window.until(f"document.getElementById('question').textContent === {json.dumps(SHORT)} && {state} === 'listening'")
    pictures_go_on(window)
    assert window.js("outcomes") == ["interrupted", "finished"]
    assert window.js(f"{PAGE_VIDEO}.buffered.length") == 1
    window.click("#end")
    window.until("!document.getElementById('finish').hidden && document.querySelectorAll('#transcript li').length === 2")
    assert window.complaints() == []
