"""The player in headless Chromium against the real service. One page serves most tests; what changes it takes a page of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from deployments.ingress.page import folder
from tests.conftest import Service
from tests.web.player_page import CHROMIUM, FLAGS, LONG, SHORT, VIDEO, Stage, opened, wait_until_heard

pytestmark = [pytest.mark.serve, pytest.mark.browser]


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


def states(stage: Stage) -> list[str]:
    return [entry["state"] for entry in stage.said("statechange")]


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
          const { canvas, opacity } = player.internals.overlay;
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
    spoken, again = list[tuple[int, Any]](), list[tuple[int, Any]]()
    for place, one in enumerate(appended):
        if one["n"] != n:
            continue
        if one["frame"] == 8 * len(spoken):
            spoken.append((place, one))
        else:  # what is played already, for the pictures that are predicted from it
            again.append((place, one))
            assert one["frame"] < 8 * len(spoken)
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
    hidden = {round(slots[place]) for place, _ in again}
    lead = stage.js("player.internals.timeline.facts.leadS") + 0.04  # the sound lies before its pictures: the clock begins with it
    twice = [time for time in painted if math.floor(time / 0.32 + 1e-4) in hidden and math.floor((time + lead) / 0.32 + 1e-4) in hidden]
    assert not twice, "nothing is played twice"
    assert {frame // 8 for frame in shown} == {frame // 8 for frame in range(frames)}, "something of each segment was painted"


GESTURE = f"player.internals.timeline.contentAt({VIDEO}.currentTime)?.gesture"


@pytest.mark.parametrize("state", ["listening", "thinking"])
def test_who_listens_and_thinks_moves_and_speaks_on_from_there(stage: Stage, state: str) -> None:
    assert stage.js(GESTURE) == 0, "idle is idle"
    stage.js("state => { player.setState(state) }", state)
    stage.until(f"{GESTURE} > 0")
    stage.until(f"{GESTURE} === 0")
    stage.until(f"{GESTURE} > 2")
    spoken = stage.speak({"text": SHORT, "id": f"after-{state}"})
    assert spoken == {"id": f"after-{state}", "outcome": "finished"}
    assert stage.said("started")[-1]["first_frame_ms"] < 2_500
    assert stage.ranges() == 1 and stage.said("error") == [] and stage.said("notice") == []
    frames = stage.js("frames")
    phases = [frame["phase"] + math.floor(frame["mediaTime"] * 25 + 1e-3) % 8 for frame in frames if not frame["speech"]]
    steps = [(after - before) % 256 for before, after in zip(phases, phases[1:], strict=False)]
    assert steps.count(1) > 0.7 * len(steps), "the loop went on below"


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


SOUND = """async () => {
  const body = JSON.stringify({ input: "Tell me about a project that you are proud of, please.", response_format: "pcm" });
  const headers = { "content-type": "application/json" };
  const answer = await fetch(new URL("/v1/audio/speech", player.src || location.href), { method: "POST", body, headers });
  window.sound = new Int16Array(await answer.arrayBuffer());
  return (1000 * sound.length) / 24_000;
}"""
WRITE = """([id, from, to]) => {
  window.live ??= {};
  live[id] ??= player.speak({ id, pcm: 24_000 });
  const until = to < 0 ? sound.length : Math.round(sound.length * to);
  for (let at = Math.round(sound.length * from); at < until; at += 2_400) live[id].write(sound.subarray(at, Math.min(at + 2_400, until)));
  if (to < 0) live[id].end();
}"""


def test_sound_is_spoken_while_it_is_written(stage: Stage) -> None:
    whole_ms = stage.js(SOUND)
    stage.js(WRITE, ["sound", 0, 0.6])
    wait_until_heard(stage, "sound")
    stage.js(WRITE, ["sound-2", 0, -1])  # behind it
    stage.js(WRITE, ["sound", 0.6, -1])
    stage.until("said('ended').length === 2")
    assert [(e["id"], e["outcome"]) for e in stage.said("ended")] == [("sound", "finished"), ("sound-2", "finished")]
    assert [e["heard_ms"] for e in stage.said("ended")] == [pytest.approx(whole_ms, abs=1)] * 2
    assert stage.said("error") == [] and stage.ranges() == 1


def test_a_sound_that_pauses_and_is_interrupted_tells_how_much_of_it_was_heard(stage: Stage) -> None:
    whole_ms = stage.js(SOUND)
    stage.js("() => { window.told = (...types) => gate.got.filter(({ id, type }) => id === 'paused' && types.includes(type)) }")
    stage.js(WRITE, ["paused", 0, 0.4])
    stage.until("told('waiting').length === 1")
    stage.page.wait_for_timeout(1500)
    stage.js(WRITE, ["paused", 0.4, 1])
    stage.until("told('started').length === 2")
    waited, again = stage.js("told('waiting', 'started').slice(1)")
    assert again["phase"] != waited["phase"], "the idle loop has gone on"
    stage.page.wait_for_timeout(700)
    stage.js("player.interrupt()")
    (ended,) = stage.said("ended")
    assert ended["outcome"] == "interrupted" and 0.4 * whole_ms < ended["heard_ms"] < 0.95 * whole_ms
    assert stage.said("error") == [] and stage.ranges() == 1


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
        """() => [{}, "", { text: "a", deltas: true }, { text: 7 }, { audio: "x" }, { text: "a", id: "a b" }, { pcm: 44_100 }].map((what) => {
          try { player.speak(what); return "taken"; } catch (error) { return error.code + ": " + error.message; }
        })"""
    )
    assert all(words.startswith("bad_call: ") for words in refused)
    assert "exactly one of text, audio, deltas and pcm; got text and deltas" in refused[2]
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


def test_types_name_what_the_element_has(stage: Stage) -> None:
    declared = (folder() / "avatar-player.d.ts").read_text()
    for name in stage.js("Object.getOwnPropertyNames(Object.getPrototypeOf(player))"):
        if name.endswith("Callback") or name in ("constructor", "internals"):
            continue
        assert f" {name}" in declared, name
