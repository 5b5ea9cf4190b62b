"""The player in headless Chromium against the real service. One page serves most tests; what changes it takes a page of its own."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

import tests.conftest as common
import web
from tests.conftest import Service
from tests.web.player_page import CHROMIUM, FLAGS, Stage, opened

pytestmark = [pytest.mark.serve, pytest.mark.browser]

SHORT = "Say a."
LONG = "I would like you to walk me through a system that you designed, from the first sketch to production."
VIDEO = "player.internals.video"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    microphone = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *microphone])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def shared(browser: Browser, service: Service) -> Iterator[Stage]:
    stage = opened(browser, service.url)
    stage.connect()
    stage.unlock()
    yield stage
    stage.close()


@pytest.fixture
def stage(shared: Stage) -> Stage:
    """Connected, unlocked, silent, with an empty log."""
    shared.js("() => { release(); gate.rewrite = null; gate.full = 0; player.interrupt(); player.setState('idle') }")
    shared.until("player.state === 'idle'")
    shared.js("() => { log.length = 0; frames.length = 0 }")
    shared.js("() => { gate.sent.length = 0; gate.got.length = 0; gate.appended.length = 0 }")
    return shared


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
        servers.append(ThreadingHTTPServer(("127.0.0.1", urlsplit(origin).port or 0), functools.partial(Empty, directory=web.WEB_DIR)))
        threading.Thread(target=functools.partial(servers[-1].serve_forever, poll_interval=0.05), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def states(stage: Stage) -> list[str]:
    return [entry["state"] for entry in stage.said("statechange")]


def wait_until_heard(stage: Stage, utterance: str) -> None:
    stage.until(f"said('started').some(({{ id }}) => id === '{utterance}')")


def test_idle_speech_idle_is_one_timeline(stage: Stage) -> None:
    stage.js("player.setState('listening')")
    first, second = stage.js(
        """async ([a, b]) => {
          const one = player.speak({ text: a, id: "one" });
          const two = player.speak({ text: b, id: "two" });
          const ranges = [];
          const timer = setInterval(() => ranges.push(player.internals.video.buffered.length), 20);
          const ended = [await one.ended, await two.ended];
          clearInterval(timer);
          window.ranges = new Set(ranges);
          return ended.map(({ outcome }) => outcome);
        }""",
        ["Tell me about yourself.", SHORT],
    )
    assert (first, second) == ("finished", "finished")
    assert stage.js("[...ranges]") == [1], "one buffered range throughout"
    assert states(stage) in (
        ["listening", "waiting", "speaking", "listening"],
        ["listening", "waiting", "speaking", "waiting", "speaking", "listening"],
    )
    assert [e["id"] for e in stage.said("started")] == ["one", "two"] == [e["id"] for e in stage.said("ended")]
    assert all(e["first_frame_ms"] > 0 for e in stage.said("started"))
    words = [(e["id"], e["index"], e["text"]) for e in stage.said("word")]
    assert words[:4] == [("one", 0, "Tell"), ("one", 1, "me"), ("one", 2, "about"), ("one", 3, "yourself.")]
    seen = stage.js("frames")
    kinds = [frame["speech"] for frame in seen]
    assert True in kinds and kinds[0] is False and kinds[-1] is False
    assert all(frame["phase"] % 8 == 0 for frame in seen if not frame["speech"])
    assert [e["outcome"] for e in stage.js("player.transcript") if e["id"] in ("one", "two")] == ["finished", "finished"]
    assert stage.said("error") == []
    asked = stage.js("gate.sent.filter(({ type }) => type === 'speak')")
    assert_joined_in_step(seen, asked[0]["phase"])
    assert asked[0]["voice"] == "auto" and asked[0]["speed"] == 1.1


def assert_joined_in_step(frames: list[dict[str, Any]], phase: int) -> None:
    """Speech that was drawn on idle frame `phase` follows the frame before it; where it came too late for that, a later one."""
    first = next(place for place, frame in enumerate(frames) if frame["speech"])
    before = next(frame for frame in reversed(frames[:first]) if not frame["covered"])
    shown = before["phase"] + math.floor(before["mediaTime"] * 25 + 1e-3) % 8
    late = (shown - phase + 128) % 256 - 128
    assert -3 <= late < 25, "neither from an earlier place of the loop nor from another"


def test_captions_are_a_real_track_and_are_shown_when_spoken(stage: Stage) -> None:
    stage.js("text => { window.spoken = player.speak({ text, id: 'captioned' }) }", LONG)
    stage.until("said('caption').some(({ lines }) => lines?.length)")
    shown = stage.js("[...player.shadowRoot.querySelectorAll('[part=caption]')].map(({ textContent }) => textContent)")
    cues = stage.js("[...player.internals.track.cues].map(({ startTime, endTime, text }) => ({ startTime, endTime, text }))")
    assert " ".join(shown) in " ".join(cue["text"].replace("\n", " ") for cue in cues) and shown
    assert stage.js("[player.internals.track.kind, player.internals.track.mode]") == ["captions", "hidden"]
    now, position = stage.js(f"[{VIDEO}.currentTime, player.internals.timeline.position().ms / 1000]")
    origin = now - position
    told = stage.js("spoken.cues")
    assert cues[0]["startTime"] - origin == pytest.approx(told[0]["start_ms"] / 1000, abs=0.02), "cues lie where their words are heard"
    stage.js("player.captions = 'off'")
    expect(stage.page.locator("avatar-player [part=captions]")).to_be_hidden()
    stage.js("player.captions = 'on'")
    expect(stage.page.locator("avatar-player [part=captions]")).to_be_visible()
    stage.js("player.style.setProperty('--caption-size', '33px')")
    assert stage.js("getComputedStyle(player.shadowRoot.querySelector('[part=captions]')).fontSize") == "33px"
    stage.js("() => { player.style.removeProperty('--caption-size'); player.interrupt() }")
    assert stage.js("player.internals.track.cues.length") == 0
    assert stage.said("caption")[-1].get("lines") is None
    assert stage.js("player.shadowRoot.querySelector('[part=captions]').childElementCount") == 0, "no empty plate"


def test_interrupted_again_and_again_it_speaks_on(stage: Stage) -> None:
    for number in range(5):
        name = f"cut-{number}"
        stage.js("([text, id]) => { player.speak({ text, id }) }", [LONG, name])
        wait_until_heard(stage, name)
        stage.page.wait_for_timeout(150)
        heard = stage.js(
            """() => {
              const ids = player.interrupt();
              return { ids, state: player.state, next: player.internals.timeline.contentAt(player.internals.timeline.facts.edge * 0.32 - 0.1).run };
            }"""
        )
        assert heard == {"ids": [name], "state": "idle", "next": None}, "idle lies at the edge at once"
        stage.until(f"!player.internals.timeline.position() && !{VIDEO}.seeking")
        assert stage.ranges() == 1
    assert [e["outcome"] for e in stage.said("ended")] == ["interrupted"] * 5
    assert all(e["silent_ms"] < 1000 for e in stage.said("interrupted"))
    stage.until("player.internals.graph.output.gain.value === 1")
    assert stage.speak({"text": SHORT, "id": "after"}) == {"id": "after", "outcome": "finished"}
    assert stage.said("error") == []


def test_the_picture_that_covers_a_jump_is_the_one_on_the_screen(stage: Stage) -> None:
    stage.js("text => { player.speak({ text, id: 'covered' }) }", LONG)
    wait_until_heard(stage, "covered")
    told = stage.js(
        """() => {
          const { video } = player.internals;
          const pixels = (picture) => {
            const drawing = new OffscreenCanvas(video.videoWidth, video.videoHeight).getContext("2d");
            drawing.drawImage(picture, 0, 0);
            return drawing.getImageData(0, 0, video.videoWidth, video.videoHeight).data;
          };
          const before = pixels(video);
          player.interrupt();
          const after = pixels(video);
          const { canvas, opacity } = player.internals.over;
          const covering = pixels(canvas);
          const place = (node) => JSON.stringify([node.getBoundingClientRect(), getComputedStyle(node).objectFit]);
          return {
            opacity,
            size: [canvas.width - video.videoWidth, canvas.height - video.videoHeight],
            placed: place(canvas) === place(video),
            same: [before, after].some((seen) => seen.every((level, i) => level === covering[i])),
          };
        }"""
    )
    assert told == {"opacity": 1, "size": [0, 0], "placed": True, "same": True}


def test_one_of_several_is_interrupted(stage: Stage) -> None:
    stage.js("text => { for (const id of ['a', 'b', 'c']) player.speak({ text, id }) }", SHORT)
    assert stage.js("player.interrupt('b')") == ["b"]
    assert stage.js("player.interrupt('unknown')") == []
    stage.until("said('ended').length === 3")
    assert {e["id"]: e["outcome"] for e in stage.said("ended")} == {"a": "finished", "b": "interrupted", "c": "finished"}
    assert [e["id"] for e in stage.said("started")] == ["a", "c"]


def test_fragments_held_back_leave_the_face_alive_and_lose_nothing(stage: Stage) -> None:
    before = stage.js("player.counters.late_segments")
    stage.js("text => { gate.holdFrom = 24; player.speak({ text, id: 'held' }) }", LONG)
    wait_until_heard(stage, "held")
    stage.until("gate.hold && player.internals.timeline.position() === null")  # it plays idle in the middle of the utterance
    assert stage.js("player.state") == "speaking" and stage.ranges() == 1
    gap = stage.js(f"{VIDEO}.currentTime")
    stage.until(f"{VIDEO}.currentTime > {gap} + 0.5 && !{VIDEO}.paused")
    stage.js("release()")
    stage.until("player.internals.timeline.position()?.run")
    stage.until("said('ended').length === 1")
    assert stage.said("ended")[0]["outcome"] == "finished"
    told = [e.get("id") for e in stage.said("notice") if e["code"] == "dry" and "did not come in time" in e["message"]]
    assert told == ["held"]
    assert stage.js("player.counters.late_segments") > before
    words = stage.said("word")
    assert [e["index"] for e in words] == list(range(len(LONG.split()))), "every word once, in order"
    assert_every_segment_once(stage, "held")
    assert stage.ranges() == 1


def assert_every_segment_once(stage: Stage, utterance: str, seen: bool = True) -> None:
    """Of what the browser was given and what it painted, not of what the player wrote down of it."""
    n, frames = stage.js(
        "id => gate.got.filter((said) => said.id === id && said.type === 'finished').map(({ n, frames }) => [n, frames])[0]", utterance
    )
    appended = stage.js("gate.appended")
    spoken = [(place, one) for place, one in enumerate(appended) if one["n"] == n]
    assert [one["frame"] for _, one in spoken] == list(range(0, frames, 8)), "each segment once, in order"
    begins = [one["offset"] + one["pictures"] / 12_800 for one in appended]
    slots = [begin / 0.32 for begin in begins]
    assert slots == pytest.approx([round(slot) for slot in slots], abs=1e-4), "all on the grid of segments"
    laid = {round(slots[place]): one["frame"] for place, one in spoken}
    assert len(laid) == len(spoken) and list(laid) == sorted(laid), "none over another"
    last = {round(slot): appended[place]["n"] for place, slot in enumerate(slots)}  # what lay there in the end
    assert all(slot in last for slot in range(min(laid), max(laid) + 1)), "no hole"
    assert all(last[slot] == n for slot in laid), "none was written over"
    if not seen:
        return
    painted = stage.js("frames.filter(({ speech }) => speech).map(({ mediaTime }) => mediaTime)")
    shown = [laid[slot] + round((time - slot * 0.32) * 25) for time in painted if (slot := math.floor(time / 0.32 + 1e-4)) in laid]
    assert shown == sorted(shown), "no picture again after a later one"
    assert {frame // 8 for frame in shown} == {frame // 8 for frame in range(frames)}, "something of each segment was painted"


def test_a_cut_connection_is_resumed_where_it_was(stage: Stage) -> None:
    stage.js("text => { player.speak({ text, id: 'resumed' }) }", LONG)
    wait_until_heard(stage, "resumed")
    sent = stage.js("gate.sockets.at(-1).close(), gate.sent.length")
    stage.js("player.speak({ text: 'Say b.', id: 'meanwhile' })")
    stage.until("said('ended').length === 2")
    assert [(e["id"], e["outcome"]) for e in stage.said("ended")] == [("resumed", "finished"), ("meanwhile", "finished")]
    assert [e["index"] for e in stage.said("word") if e["id"] == "resumed"] == list(range(len(LONG.split())))
    assert [e["resumed"] for e in stage.said("ready")] == [True]
    codes = [e["code"] for e in stage.said("notice")]
    assert "reconnecting" in codes and "resumed" in codes
    assert stage.js("n => gate.sent.slice(n).find(({ type }) => type === 'resume')", sent)["seq"] > 0


def test_what_is_asked_while_a_session_is_taken_up_again_is_asked_once(stage: Stage) -> None:
    stage.js(
        """async () => {
          const ready = new Promise((resolve) => player.addEventListener("ready", resolve, { once: true }));
          gate.sockets.at(-1).close();
          await ready;
          player.speak({ text: "Say b.", id: "between" }); // resumed, but what was missed is not there yet
        }"""
    )
    stage.until("said('ended').length")
    assert stage.said("ended")[0]["outcome"] == "finished"
    assert stage.js("gate.sent.filter(({ type }) => type === 'speak').length") == 1


@pytest.mark.slow
def test_a_session_that_is_gone_begins_anew_and_says_again_what_was_not_finished(stage: Stage) -> None:
    stage.js("text => { player.speak({ text, id: 'first' }); player.speak({ text: 'Say a.', id: 'second' }) }", LONG)
    wait_until_heard(stage, "first")
    stage.js("() => { gate.rewrite = (said) => (said.includes('resume') ? said.replace(/s_[0-9a-f]+/, 's_0000000000000000') : said) }")
    stage.js("gate.sockets.at(-1).close()")
    stage.until("said('notice').some(({ code }) => code === 'restarted')")
    stage.until("said('ended').length === 2")
    assert [(e["id"], e["outcome"]) for e in stage.said("ended")] == [("first", "finished"), ("second", "finished")]
    assert stage.ranges() == 1


def test_text_written_letter_by_letter_is_spoken(stage: Stage) -> None:
    stage.js(
        """async () => {
          window.written = player.speak({ deltas: true, id: "written", language: "ko" });
          for (const letter of "안녕하세요.".normalize("NFD")) written.write(letter);
          written.flush();
          await written.started;
          for (const letter of " 반갑습니다.") written.write(letter);
          written.end();
        }"""
    )
    assert stage.js("written.ended.then(({ outcome }) => outcome)") == "finished"
    assert len(stage.said("word")) >= 2
    assert stage.js("gate.sent.filter(({ type }) => type === 'text').length") <= 4, "letters travel together"


def test_more_than_the_service_queues_is_held_back(stage: Stage) -> None:
    stage.js("text => { for (let n = 0; n < 60; n += 1) player.speak({ text, id: `many-${n}` }) }", SHORT)
    wait_until_heard(stage, "many-0")
    asked, over, room = stage.js(
        """() => {
          const told = (kinds) => gate.got.filter(({ type }) => kinds.includes(type)).length;
          return [gate.sent.filter(({ type }) => type === "speak").length, told(["finished"]), gate.ready.limits.queued_utterances];
        }"""
    )
    assert asked == over + room < 60, "as many wait with the service as it takes; the next goes when one is finished"
    assert len(stage.js("player.interrupt()")) == 60
    assert stage.said("error") == []


def test_a_full_buffer_is_cleared_and_played_on(stage: Stage) -> None:
    stage.until(f"{VIDEO}.currentTime > 3")
    hits = stage.js("player.internals.timeline.facts.quotaHits")
    stage.js("gate.full = 2")
    assert stage.speak({"text": SHORT})["outcome"] == "finished"
    assert stage.js("player.internals.timeline.facts.quotaHits") - hits == 2
    start, now = stage.js(f"[{VIDEO}.buffered.start(0), {VIDEO}.currentTime]")
    assert 0 < start < now and stage.ranges() == 1
    assert stage.said("error") == []


def test_a_hidden_tab_keeps_more_in_hand(stage: Stage) -> None:
    hide = """hidden => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    stage.js(hide, True)
    try:
        stage.until("player.internals.timeline.facts.ahead > 2")
        stage.js(
            """text => {
              window.ranges = new Set();
              window.timer = setInterval(() => ranges.add(player.internals.video.buffered.length), 2);
              gate.holdFrom = 0;
              player.speak({ text, id: "unseen" });
            }""",
            LONG,
        )
        stage.until("gate.held.length > 8")  # several segments come at once, over the idle that is in hand
        stage.js("release()")
        stage.until("said('ended').length === 1")
        assert stage.js("clearInterval(timer), [...ranges]") == [1], "no hole at any time"
        assert_every_segment_once(stage, "unseen", seen=False)
    finally:
        stage.js(hide, False)
    assert stage.speak({"text": SHORT})["outcome"] == "finished"
    assert stage.ranges() == 1


def test_a_clock_that_is_set_changes_nothing(stage: Stage) -> None:
    stage.js("() => { window.now = Date.now; Date.now = () => now() + (performance.now() % 2 ? 1 : -1) * 86_400_000 }")
    try:
        assert [stage.speak({"text": SHORT, "id": f"set-{i}"})["outcome"] for i in range(2)] == ["finished", "finished"]
    finally:
        stage.js("() => { Date.now = now }")


def test_calls_that_cannot_be_meant_are_refused_at_once(stage: Stage) -> None:
    refused = stage.js(
        """() => [{}, "", { text: "a", deltas: true }, { text: 7 }, { audio: "x" }, { text: "a", id: "a b" }].map((what) => {
          try { player.speak(what); return "taken"; } catch (error) { return error.code + ": " + error.message; }
        })"""
    )
    assert all(words.startswith("bad_call: ") for words in refused)
    assert "exactly one of text, audio and deltas; got text and deltas" in refused[2]
    with pytest.raises(Exception, match="a state is one of idle, listening, thinking"):
        stage.js("player.setState('asleep')")
    ended = stage.speak({"text": "Hello.", "voice": "nobody"})
    assert ended["outcome"] == "failed" and ended["code"] == stage.said("error")[-1]["code"]
    assert "nobody" in stage.said("error")[-1]["message"]
    assert stage.speak({"text": SHORT})["outcome"] == "finished", "the session goes on"


def test_the_microphone_interrupts_only_when_asked_to(stage: Stage) -> None:
    stage.js("player.listen({ interrupt: false, hold_ms: 40 })")
    stage.until("said('voice').some(({ speaking }) => speaking)")
    stage.js("player.stopListening()")
    assert stage.said("interrupted") == []
    stage.js("text => { player.speak({ text, id: 'talked-over' }) }", LONG)
    wait_until_heard(stage, "talked-over")
    stage.js("player.listen({ hold_ms: 40 })")
    stage.until("said('interrupted').length")
    stage.js("player.stopListening()")
    assert stage.said("interrupted")[0]["ids"] == ["talked-over"]


def test_quality_is_told_to_the_service(stage: Stage) -> None:
    assert stage.speak({"text": SHORT})["outcome"] == "finished"
    stage.until("gate.sent.some(({ type, first_frame_ms }) => type === 'stats' && first_frame_ms?.length)", 15)


def test_tts_manager_queues_and_shows_the_avatar(stage: Stage) -> None:
    outcome = stage.js(
        """async () => {
          const { TTSManager } = await import("/tts.js");
          window.calls = [];
          const tts = new TTSManager({ player, onStart: (text) => calls.push(["start", text]), onEnd: (text) => calls.push(["end", text]) });
          const first = tts.speak("Say a."), second = tts.speak("Say b.");
          const queued = tts.queue, playing = tts.isPlaying;
          await Promise.all([first, second]);
          return [queued, playing, tts.isPlaying, tts.voice, tts.speed];
        }"""
    )
    assert outcome == [["Say b."], True, False, "nova", 1.1]
    assert stage.js("calls") == [["start", "Say a."], ["end", "Say a."], ["start", "Say b."], ["end", "Say b."]]
    asked = stage.js("gate.sent.filter(({ type }) => type === 'speak')")
    assert [(one["voice"], one["speed"]) for one in asked] == [("nova", 1.1)] * 2


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
    codes = "said('notice').map(({ code }) => code)"
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


def test_types_name_what_the_element_has(stage: Stage) -> None:
    declared = (web.WEB_DIR / "avatar-player.d.ts").read_text()
    for name in stage.js("Object.getOwnPropertyNames(Object.getPrototypeOf(player))"):
        if name.endswith("Callback") or name in ("constructor", "internals"):
            continue
        assert f" {name}" in declared, name
