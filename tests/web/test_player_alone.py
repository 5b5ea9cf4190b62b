"""The player on pages of its own: before a gesture, without a media source or an avatar, at rest, in two places, on another origin."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Route, expect

import tests.conftest as common
from deployments.ingress.page import folder
from tests.conftest import Service
from tests.web.player_page import LONG, SHORT, VIDEO, Stage, opened, wait_until_heard

pytestmark = [pytest.mark.serve, pytest.mark.browser]


@pytest.fixture
def open_stage(browser: Browser, service: Service) -> Iterator[Callable[..., Stage]]:
    made: list[Stage] = []

    def one(**options: Any) -> Stage:
        made.append(opened(browser, service.url, **options))
        return made[-1]

    yield one
    for stage in made:
        stage.close()


@pytest.fixture
def elsewhere() -> Iterator[Callable[[str], str]]:
    """Serves an empty page and copies of the scripts at an origin; returns the page's URL."""
    servers: list[ThreadingHTTPServer] = []

    class Empty(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/":
                super().do_GET()
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><html lang=en><body></body></html>")

        def log_message(self, *args: object) -> None:
            pass

    def serve(origin: str) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", urlsplit(origin).port or 0), functools.partial(Empty, directory=folder())))
        threading.Thread(target=functools.partial(servers[-1].serve_forever, poll_interval=0.05), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_tts_manager_goes_on_with_sound_alone_and_says_so(open_stage: Callable[..., Stage]) -> None:
    refuses = "class { static OPEN = 1; constructor() { setTimeout(() => this.onclose?.({ code: 1006 })) } close() {} }"
    stage = open_stage(before=f"window.WebSocket = {refuses};")
    made = "import('/tts.js').then(({ TTSManager }) => (window.tts = new TTSManager({ player })).unlock())"
    stage.js(f"() => {{ document.getElementById('begin').onclick = () => {made} }}")
    stage.page.click("#begin")
    stage.until("window.tts")
    assert stage.js("tts.speak('Say a.').then(() => 'spoken')") == "spoken"
    assert [e["code"] for e in stage.said("notice") if e["code"] == "sound_only"] == ["sound_only"]
    assert stage.js("player.state") == "failed"


def test_without_a_media_source_it_plays_finished_videos_and_says_so(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(before="delete window.MediaSource; delete window.ManagedMediaSource;")
    stage.connect()
    stage.unlock()
    assert stage.js("player.mode") == "file"
    assert [e["code"] for e in stage.said("notice")] == ["file_mode"]
    assert stage.speak({"text": SHORT, "id": "whole"}) == {"id": "whole", "outcome": "finished"}
    assert any(e.get("lines") for e in stage.said("caption"))
    stage.js("text => { player.speak({ text, id: 'cut' }) }", LONG)
    wait_until_heard(stage, "cut")
    assert stage.js("player.interrupt()") == ["cut"]
    stage.until(f"{VIDEO}.loop && !{VIDEO}.paused && player.state === 'idle'")


def test_reduced_motion_is_a_still_portrait_with_sound_and_captions(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(reduced_motion="reduce")
    stage.connect()
    stage.unlock()
    picture, portrait = (f"getComputedStyle(player.shadowRoot.querySelector('[part={part}]'))" for part in ("picture", "portrait"))
    assert stage.js(f"[player.moving, {picture}.opacity, {portrait}.visibility]") == [False, "0", "visible"]
    assert "still" in [e["code"] for e in stage.said("notice")]
    assert stage.js("player.shadowRoot.querySelector('[part=portrait]').decode().then(() => true)")
    stage.js("() => { player.speak({ text: 'Say a.', id: 'still' }) }")
    wait_until_heard(stage, "still")
    stage.until("said('caption').some(({ lines }) => lines?.length)")
    assert stage.js(f"{VIDEO}.muted") is False
    stage.js("player.motion = 'on'")
    assert stage.js(f"[player.moving, {picture}.opacity, {portrait}.visibility]") == [True, "1", "hidden"]
    stage.until("said('ended').length")


def test_before_a_gesture_it_lives_mute_and_offers_the_sound(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage()
    stage.connect()
    assert stage.js(f"[{VIDEO}.muted, {VIDEO}.paused, player.unlocked]") == [True, False, False]
    stage.js("() => { player.speak({ text: 'Say a.', id: 'mute' }) }")
    assert "locked" in [e["code"] for e in stage.said("notice")]
    stage.page.get_by_role("button", name="Turn on sound").click()
    stage.until("player.unlocked")
    expect(stage.page.get_by_role("button", name="Turn on sound")).to_be_hidden()
    stage.until("said('ended').length")
    assert stage.said("ended")[0]["outcome"] == "finished"
    stage.js("player.disconnect()")
    assert stage.js("[player.state, player.dataset.state]") == ["off", "off"]


def test_sound_that_the_system_took_comes_back_with_it_or_by_the_button(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage()
    stage.connect()
    stage.unlock()
    button = stage.page.get_by_role("button", name="Turn on sound")
    # Of the sound alone: a busy machine may run dry meanwhile, and says so.
    codes = "said('notice').map(({ code }) => code).filter((code) => code.startsWith('sound'))"
    stage.js("player.internals.graph.context.suspend()")
    stage.until("!player.unlocked")
    expect(button).to_be_visible()
    stage.js("player.internals.graph.context.resume()")
    stage.until("player.unlocked")
    expect(button).to_be_hidden()
    assert stage.js(codes) == ["sound_paused", "sound_on"]
    stage.js("player.internals.graph.context.suspend()")
    stage.until("!player.unlocked")
    button.click()
    stage.until("player.unlocked")
    assert stage.speak("Say a.")["outcome"] == "finished"
    assert stage.js(codes) == ["sound_paused", "sound_on", "sound_paused"]


def test_another_page_that_took_the_session_leaves_a_way_back(open_stage: Callable[..., Stage], service: Service) -> None:
    stage = open_stage()
    stage.connect()
    stage.js(
        """(url) => {
          const other = new Untouched(url);
          other.onopen = () => other.send(JSON.stringify({ type: "resume", session: gate.ready.session, token: gate.ready.token, seq: 1 }));
        }""",
        service.url.replace("http", "ws", 1) + "/v1/sessions",
    )
    stage.until("player.state === 'failed'")
    assert stage.said("error")[-1]["close"] == 4006
    button = stage.page.get_by_role("button", name="Try again")
    expect(button).to_be_visible()
    button.click()
    stage.until("player.state === 'idle'")


def test_a_listed_page_of_another_origin_plays(open_stage: Callable[..., Stage], elsewhere: Callable[[str], str]) -> None:
    stage = open_stage(page_url=elsewhere(common.OTHER_ORIGIN))
    stage.connect()
    stage.unlock()
    assert stage.speak({"text": SHORT})["outcome"] == "finished"
    assert stage.js("player.shadowRoot.querySelector('[part=portrait]').decode().then(() => true)")


def test_other_pages_are_told_why_they_may_not(open_stage: Callable[..., Stage], elsewhere: Callable[[str], str], service: Service) -> None:
    # The module cannot be had across origins either: this page brings its own copy.
    stage = open_stage(page_url=elsewhere("http://127.0.0.1:0"), own_script=True, attributes=f'src="{service.url}"')
    refused = stage.js("player.connect().catch(({ code, message, close }) => ({ code, message, close }))")
    assert refused["code"] == "origin" and refused["close"] == 4009 and "server.cors_origins" in refused["message"]
    assert stage.js("player.state") == "failed"
    expect(stage.page.get_by_text("server.cors_origins")).to_be_visible()


def test_a_text_that_was_stopped_while_the_player_connected_is_not_spoken(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage()
    stopped = """async () => {
      const { TTSManager } = await import('/tts.js');
      const tts = new TTSManager({ player });
      const spoken = tts.speak('Say a.');
      tts.stop();
      await spoken;
      await player.connect();
    }"""
    stage.js(stopped)
    stage.page.wait_for_timeout(200)
    assert stage.js("gate.sent.filter(({ type }) => type === 'speak')") == []
    assert stage.js("player.transcript") == []


def test_a_microphone_that_is_not_wanted_any_more_is_let_go(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage()
    late = """async () => {
      const track = { stopped: false, stop() { this.stopped = true; } };
      let allow;
      navigator.mediaDevices.getUserMedia = () => new Promise((resolve) => (allow = () => resolve({ getTracks: () => [track] })));
      const listening = player.listen();
      player.stopListening();
      allow();
      await listening;
      return track.stopped;
    }"""
    # Only pages on https or localhost have a microphone.
    assert stage.js(late) is True


def test_the_face_lives_from_three_segments_on_while_the_rest_is_on_its_way(open_stage: Callable[..., Stage]) -> None:
    """On a line that gives no more for a while: the loop goes round what is there, speech joins it, and the rest is asked for by ranges."""
    stage = open_stage()
    asked: list[str] = []
    held: list[Route] = []
    released = False

    def idle(route: Route) -> None:
        asked.append(route.request.headers["range"])
        if len(asked) == 1 or released:
            route.continue_()
        else:
            held.append(route)

    stage.page.route("**/idle.segments**", idle)
    stage.connect()
    stage.unlock()
    stage.until(f"{VIDEO}.currentTime > 3")  # the first request brought about one second
    content = "player.internals.timeline.contentAt"
    phases = set(stage.js(f"[...Array(9).keys()].map((slot) => {content}(slot * 0.32 + 0.1)?.phase)"))
    assert phases <= {0, 8, 16, 24, 32} and stage.ranges() == 1, phases
    assert stage.speak(SHORT)["outcome"] == "finished"
    assert stage.ranges() == 1
    assert len(held) == 2, "one request for the rest, and one for the way into the loop behind the speech"
    released = True
    for route in held:
        route.continue_()
    stage.until(f"{content}({VIDEO}.currentTime).phase > 64", 60)
    firsts = [int(one.removeprefix("bytes=").split("-")[0]) for one in asked]
    assert firsts[0] == 0 < firsts[1], "what is there is not asked for again"


def test_how_much_is_gathered_follows_from_how_fast_it_came(open_stage: Callable[..., Stage]) -> None:
    """Segments of 0.32 s that come every so many milliseconds, and how many seconds of the rest must be in hand."""
    told = open_stage().js(
        """async () => {
          const { Pace } = await import('/player/pace.js');
          const real = performance.now;
          let now = 0;
          performance.now = () => now;
          const after = (gaps, secondsToCome, options = {}) => {
            const pace = new Pace(), run = { utterance: { options }, secondsToCome };
            for (const gap of gaps) { pace.came(run, 8); now += gap; }
            return pace.wanted(run);
          };
          const every = (gap, n = 10) => Array(n).fill(gap);
          const told = {
            fast: after(every(260), 20), slow: after(every(427), 20), slowest: after(every(1000), 60), unknown: after(every(427, 2), 20),
            nearlyOver: after(every(427), 1), cut: after([...every(240, 6), 8000, ...every(240, 6)], 5),
            written: after(every(900), 20, { deltas: true }),
          };
          performance.now = real;
          return told;
        }"""
    )
    assert told["fast"] == told["unknown"] == told["nearlyOver"] == told["cut"] == told["written"] == 0, told
    assert 5 < told["slow"] < 7 and told["slowest"] == 12, "what it will lack, with a margin; no more than twelve seconds"


def test_the_rendition_follows_the_line(open_stage: Callable[..., Stage]) -> None:
    """Down where speech comes more slowly than it is heard; up again after some that came in time, and after more where that was in vain."""
    told = open_stage().js(
        """async () => {
          const { Pace } = await import('/player/pace.js');
          const real = performance.now;
          let now = 0;
          performance.now = () => now;
          const pace = new Pace(), renditions = [];
          const speak = (gap, times = 1) => {
            for (let n = 0; n < times; n += 1) {
              const run = { utterance: { options: {} }, secondsToCome: 20 };
              for (let i = 0; i < 12; i += 1) { pace.came(run, 8); now += gap; }
              pace.over(run);
              renditions.push(pace.rendition);
            }
          };
          speak(300, 2); speak(500, 3); speak(300, 3); speak(400); speak(300, 6);
          performance.now = real;
          return { renditions, wanted: pace.wanted({ utterance: { options: {} }, secondsToCome: 20 }) };
        }"""
    )
    assert told["renditions"] == [0, 0, 1, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1]
    assert told["wanted"] == 0, "what is tried is not waited for"
