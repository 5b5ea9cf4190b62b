"""The page at `/` in headless Chromium, against the real service: it plays, it is quiet, it tells what goes wrong."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

import web

pytestmark = [pytest.mark.serve, pytest.mark.browser]

ROOT = Path(__file__).resolve().parent.parent.parent
PORTRAIT = ROOT / "musetalk" / "avatars" / "interviewer_woman" / "portrait.png"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=user-gesture-required",
]
SHORT = "Tell me about yourself."
TALK = "document.getElementById('talk')"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Browser, service) -> Iterator[Callable[..., Page]]:
    """Opens the page as a fresh visitor. What the console complained of is collected in `page.complaints`."""
    contexts = []

    def opened(*, locale: str = "en-US", width: int = 1280, before: str = "", **options: object) -> Page:
        context = browser.new_context(locale=locale, viewport={"width": width, "height": 860}, **options)
        contexts.append(context)
        page = context.new_page()
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        if before:
            page.add_init_script(before)
        page.goto(f"{service.url}/")
        expect(page.locator("#speak")).to_be_enabled(timeout=20_000)
        return page

    yield opened
    for context in contexts:
        context.close()


def speak(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.click("#speak")


def until(page: Page, condition: str, timeout_s: float = 30) -> None:
    """`page.wait_for_function` evaluates inside the page, which its content security policy forbids."""
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"still not so after {timeout_s} s: {condition}"
        page.wait_for_timeout(20)


def wait_for_state(page: Page, state: str, timeout_s: float = 30) -> None:
    expect(page.locator("#stage")).to_have_attribute("data-state", state, timeout=timeout_s * 1000)


def test_streams_an_utterance_to_its_end(open_page) -> None:
    page = open_page()
    speak(page, "Tell me about a project you are proud of. What was the hardest part of it, and what did you learn?")
    wait_for_state(page, "talking")
    early = page.evaluate(f"{TALK}.currentTime")
    until(page, f"{TALK}.currentTime > {early} + 0.5")
    wait_for_state(page, "idle")

    played = page.evaluate(
        f"({{ duration: {TALK}.duration, time: {TALK}.currentTime, ranges: {TALK}.buffered.length, size: {TALK}.videoWidth, ended: {TALK}.ended }})"
    )
    assert played["ended"] and played["size"] == 512
    assert played["ranges"] == 1, "the fragments join without a gap"
    assert played["time"] == pytest.approx(played["duration"], abs=0.1)
    assert played["duration"] / 0.32 == pytest.approx(round(played["duration"] / 0.32), abs=0.1), "a whole number of segments"
    idle = "document.getElementById('idle').currentTime"
    gone_on = (page.evaluate(idle) - played["duration"]) % 10.24
    assert gone_on < 2, "the idle loop goes on from where the speech left it"
    assert page.complaints == []
    expect(page.locator("#problem")).to_be_hidden()


def test_plays_before_everything_has_arrived(open_page) -> None:
    page = open_page()
    speak(page, " ".join([SHORT] * 6))
    wait_for_state(page, "talking")
    until(page, f"{TALK}.currentTime > 0.3")
    assert page.evaluate(f"{TALK}.duration") == float("inf") or page.evaluate("document.getElementById('timings').hidden")


def test_shows_the_stage_timings(open_page) -> None:
    page = open_page()
    speak(page, SHORT)
    wait_for_state(page, "talking")
    wait_for_state(page, "idle")
    expect(page.locator("#timings")).to_be_visible()
    rows = page.locator("#client-times tbody tr").all_inner_texts()
    labels = [re.split(r"\t|\n", row)[0] for row in rows]
    assert labels == ["Response began", "First fragment arrived", "First picture painted", "Playing", "Everything received"]
    times = [float(re.search(r"([\d.,]+) ms", row).group(1).replace(",", "")) for row in rows]
    assert times[:3] == sorted(times[:3]) and times[0] > 0
    assert page.locator("#server-times tbody tr").count() >= 3
    assert re.search(r"[1-9]\d* pictures painted", page.inner_text("#facts"))


def test_captions_follow_the_words_and_can_be_switched_off(open_page) -> None:
    page = open_page()
    speak(page, SHORT)
    wait_for_state(page, "talking")
    until(page, f"{TALK}.textTracks[0].cues?.length > 0")
    text = page.evaluate(f"[...{TALK}.textTracks[0].cues].map((cue) => cue.text).join(' ')")
    assert " ".join(text.split()) == SHORT
    assert page.evaluate(f"{TALK}.textTracks[0].mode") == "showing"
    page.click("#captions")
    assert page.evaluate(f"{TALK}.textTracks[0].mode") == "hidden"
    assert page.get_attribute("#captions", "aria-pressed") == "false"


def test_stop_ends_the_request_and_shows_the_idle_loop(open_page, service) -> None:
    page = open_page()
    speak(page, " ".join([SHORT] * 8))
    wait_for_state(page, "talking")
    page.click("#stop")
    wait_for_state(page, "idle")
    assert page.evaluate(f"{TALK}.paused")
    assert page.evaluate("document.activeElement.id") == "speak"
    until(page, "!document.getElementById('idle').paused")
    until(page, f"fetch('{service.url}/health').then((r) => r.json()).then((h) => h.live_utterances === 0)")
    speak(page, SHORT)
    wait_for_state(page, "talking")
    assert page.complaints == []


def test_idle_loop_runs_while_nothing_is_spoken(open_page) -> None:
    page = open_page()
    until(page, "document.getElementById('idle').currentTime > 0.2")
    idle = page.evaluate("(({ loop, muted, duration }) => ({ loop, muted, duration }))(document.getElementById('idle'))")
    assert idle == {"loop": True, "muted": True, "duration": pytest.approx(10.24, abs=0.05)}
    assert page.get_attribute("#portrait", "alt")


def test_reduced_motion_keeps_the_portrait_still(open_page) -> None:
    page = open_page(reduced_motion="reduce")
    page.wait_for_timeout(600)
    assert page.evaluate("document.getElementById('idle').paused")
    speak(page, SHORT)
    wait_for_state(page, "talking")


def test_korean_visitor_gets_korean(open_page) -> None:
    page = open_page(locale="ko-KR", width=390)
    assert page.get_attribute("html", "lang") == "ko"
    expect(page.locator("#speak")).to_have_text("말하기")
    assert "설명해 주세요" in page.input_value("#text")
    speak(page, "자기소개를 해 주세요.")
    wait_for_state(page, "talking")
    wait_for_state(page, "idle")
    expect(page.locator("#status")).to_have_text("끝났습니다.")
    page.click("[data-language=en]")
    expect(page.locator("#speak")).to_have_text("Speak")
    page.reload()
    expect(page.locator("#speak")).to_have_text("Speak")
    assert page.complaints == []


def test_phone_shows_nothing_beside_the_screen(open_page) -> None:
    page = open_page(width=390)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    speak(page, SHORT)
    wait_for_state(page, "talking")
    expect(page.locator("#stage")).to_be_in_viewport(ratio=0.9)


def test_upload_that_is_no_picture_is_told(open_page) -> None:
    page = open_page()
    page.click(".avatar.add")
    page.set_input_files("#image", files=[{"name": "cv.png", "mimeType": "image/png", "buffer": b"%PDF-1.7\n"}])
    page.click("#add-send")
    expect(page.locator("#report")).to_be_visible()
    assert "PDF" in page.inner_text("#report")
    page.click("#add-close")
    assert page.locator(".avatar input").count() == 2


def test_upload_becomes_an_avatar_that_speaks_and_is_removed(open_page) -> None:
    page = open_page()
    page.click(".avatar.add")
    page.set_input_files("#image", PORTRAIT)
    page.fill("#name", "Mina")
    page.click("#add-send")
    expect(page.locator("#add-status")).to_have_text("Mina is ready.", timeout=30_000)
    expect(page.locator("#report")).to_be_visible()
    page.click("#add-close")
    own = page.locator(".own")
    expect(own).to_contain_text("Mina")
    assert own.locator("input").is_checked()
    speak(page, SHORT)
    wait_for_state(page, "talking")
    page.on("dialog", lambda dialog: dialog.accept())
    page.click(".remove")
    expect(own).to_have_count(0)
    assert page.complaints == []


def test_service_errors_are_shown_in_its_words(open_page) -> None:
    page = open_page()
    speak(page, "a" * 10_000)
    expect(page.locator("#problem")).to_be_visible()
    assert "10,000" in page.inner_text("#problem") or "10000" in page.inner_text("#problem")
    wait_for_state(page, "idle")
    expect(page.locator("#speak")).to_be_visible()


def test_empty_question_is_not_sent(open_page) -> None:
    page = open_page()
    sent = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    speak(page, "   ")
    expect(page.locator("#problem")).to_have_text("Type a question first.")
    assert sent == [] and page.evaluate("document.activeElement.id") == "text"


def test_torn_stream_is_told_and_what_came_is_played(open_page) -> None:
    page = open_page()

    def tear(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.body()[: len(answer.body()) * 2 // 3])

    page.route("**/v1/videos", tear)
    speak(page, "Tell me about a project you are proud of.")
    expect(page.locator("#problem")).to_contain_text("broke off", timeout=30_000)
    until(page, f"{TALK}.currentTime > 0.3")
    wait_for_state(page, "idle")


def test_service_that_is_gone_is_told(open_page) -> None:
    page = open_page()
    page.route("**/v1/videos", lambda route: route.abort())
    speak(page, SHORT)
    expect(page.locator("#problem")).to_contain_text("cannot be reached")


def test_browser_without_media_source_gets_the_finished_video(open_page) -> None:
    page = open_page(before="delete self.MediaSource; delete self.ManagedMediaSource;")
    with page.expect_request("**/v1/videos") as sent:
        speak(page, SHORT)
    assert sent.value.post_data_json["stream"] is False
    expect(page.locator("#status")).to_contain_text("the whole video is made first")
    wait_for_state(page, "talking")
    wait_for_state(page, "idle")
    assert page.evaluate(f"{TALK}.ended")
    assert page.complaints == []


def test_keyboard_alone_is_enough(open_page) -> None:
    page = open_page()
    page.focus("#text")
    page.keyboard.press("Control+Enter")
    wait_for_state(page, "talking")
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, input, select, textarea")].filter((node) =>
             !node.labels?.length && !node.textContent.trim() && !node.getAttribute("aria-label")).map((node) => node.id)"""
    )
    assert unnamed == []


def test_nothing_is_loaded_from_elsewhere(open_page, service) -> None:
    page = open_page()
    hosts = page.evaluate("performance.getEntriesByType('resource').map((entry) => new URL(entry.name).origin)")
    assert set(hosts) == {service.url}
    for path, asset in web.load_assets().items():
        assert not re.search(rb"https?://(?!www\.w3\.org/2000/svg)", asset.body), path
