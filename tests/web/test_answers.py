"""Answers that are recorded in the browser: heard again, kept, deleted, and sent nowhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from tests.conftest import Service
from tests.web.browser import until
from tests.web.player_page import CHROMIUM, FLAGS

pytestmark = [pytest.mark.serve, pytest.mark.browser]
STATE = "document.getElementById('interview').dataset.state"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Its microphone beeps once a second."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    microphone = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *microphone])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    stored = json.dumps(json.dumps({"questions": ["Why do you test?", "What comes first?"]}))
    page.add_init_script(f"localStorage.setItem('museserve.page', {stored})")
    page.goto(f"{service.url}/")
    until(page, "!document.getElementById('begin').disabled")
    yield page
    context.close()


def test_answers_are_recorded_heard_again_and_deleted_and_leave_the_browser_never(page: Page) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method != "GET" else None)
    page.click("#record")
    expect(page.locator("#record")).to_have_attribute("aria-pressed", "true")
    until(page, "document.getElementById('level').value > 0.2")
    page.click("#begin")
    for n in range(2):
        until(page, f"{STATE} === 'listening'")
        expect(page.locator("#state")).to_have_text("Your turn: recording")
        page.wait_for_timeout(1_600)
        if n == 0:
            page.click("#repeat")
            until(page, f"{STATE} === 'listening'")
            page.wait_for_timeout(800)
        page.click("#next")
    rows = page.locator("#transcript li")
    expect(rows.locator("audio")).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("Recorded: 0:0")
    expect(rows.nth(0)).to_contain_text("pause")
    page.evaluate("document.querySelector('#transcript audio').muted = true")
    page.evaluate("document.querySelector('#transcript audio').play()")
    until(page, "document.querySelector('#transcript audio').currentTime > 0.3")

    expect(page.locator("#recorded")).to_contain_text("They are not written down: this service has no server for that.")
    expect(page.locator("#write-answers")).to_be_hidden()
    with page.expect_download() as kept:
        page.get_by_role("button", name="Download the answer to question 1").click()
    assert kept.value.suggested_filename.endswith("-1.webm")
    assert Path(kept.value.path()).stat().st_size > 2_000

    page.get_by_role("button", name="Delete the answer to question 1").click()
    expect(rows.locator("audio")).to_have_count(1)
    page.click("#delete-answers")
    expect(rows.locator("audio")).to_have_count(0)
    expect(page.locator("#recorded")).to_be_hidden()
    assert {url.rsplit("/", 1)[1] for url in sent} <= {"prerender"}, "nothing was sent but the texts of questions"


def test_answers_are_written_down_where_the_operator_set_a_server_up_and_only_when_asked(browser: Browser, service: Service) -> None:
    """The server behind the service is tested without a browser; here its answer is what it would be."""
    context = browser.new_context(locale="en-US")
    page = context.new_page()
    sent: list[bytes] = []

    def told(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "transcription": "small"})

    def written(route: Route) -> None:
        sent.append(route.request.post_data_buffer or b"")
        route.fulfill(json={"text": "I test because I forget."})

    page.route("**/health", told)
    page.route("**/v1/audio/transcriptions", written)
    stored = json.dumps(json.dumps({"questions": ["Why do you test?"]}))
    page.add_init_script(f"localStorage.setItem('museserve.page', {stored})")
    page.goto(f"{service.url}/")
    page.click("#record")
    page.click("#begin")
    until(page, f"{STATE} === 'listening'")
    page.wait_for_timeout(1_500)
    page.click("#next")
    expect(page.locator("#recorded-hint")).to_contain_text("sent to the server that the operator of this service chose (small)")
    assert sent == []
    page.click("#write-answers")
    row = page.locator("#transcript li")
    expect(row).to_contain_text("I test because I forget.")
    expect(row).to_contain_text("words a minute")
    assert len(sent) == 1 and len(sent[0]) > 2_000
    with page.expect_download() as kept:
        page.click("#save-text")
    assert "        I test because I forget.\n" in Path(kept.value.path()).read_text(encoding="utf-8")
    context.close()


def test_without_being_asked_nothing_is_recorded(page: Page) -> None:
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = async () => { window.opened = true; throw new Error('no') } }")
    page.click("#begin")
    until(page, f"{STATE} === 'listening'")
    expect(page.locator("#state")).to_have_text("Your turn")
    page.click("#end")
    expect(page.locator("#transcript li")).to_have_count(1)
    expect(page.locator("#transcript audio")).to_have_count(0)
    assert page.evaluate("window.opened") is None


def test_pauses_are_counted_between_stretches_of_speech_alone(page: Page) -> None:
    measured = page.evaluate(
        """async () => {
          const { pausesOf } = await import('/page/measured.js');
          const rate = 16000;
          const stretches = [[1, 0], [1, 0.3], [0.4, 0], [1, 0.3], [1.5, 0.0005], [0.5, 0.2], [2, 0]]; // seconds, amplitude
          const samples = stretches.flatMap(([s, level]) => Array.from({ length: s * rate }, (_, i) => level * Math.sin(i)));
          return pausesOf(Float32Array.from(samples), rate);
        }"""
    )
    assert measured["seconds"] == pytest.approx(7.4) and measured["pauses"] == 1 and measured["longest"] == pytest.approx(1.5, abs=0.05)
