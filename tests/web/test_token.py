"""A page that has no key: its player shows the service tokens, and gets a fresh one whenever it connects."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page

from museserve.access.keys import create_key
from tests.conftest import CONFIG, Service, start, stop
from tests.web.line import Line
from tests.web.player_page import Stage, opened

pytestmark = [pytest.mark.serve, pytest.mark.browser]


@dataclass
class Backend:
    """Makes tokens, as a backend does that knows its users."""

    service: Service
    key: str
    line: Line
    made: list[str] = field(default_factory=list)

    def token(self, **asked: Any) -> str:
        answer = httpx.post(f"{self.service.url}/v1/sessions/tokens", json=asked, headers={"Authorization": f"Bearer {self.key}"}, timeout=30)
        self.made.append(answer.raise_for_status().json()["token"])
        return self.made[-1]


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    tmp = tmp_path_factory.mktemp("token")
    key, _ = create_key(tmp / "keys.json", "acme", ["speak"])
    process, started = start(tmp, {**CONFIG, "access": {"auth": "keys", "keys_file": str(tmp / "keys.json")}})
    yield started, key
    stop(process)


@pytest.fixture
def backend(keyed: tuple[Service, str]) -> Iterator[Backend]:
    line = Line(keyed[0].url)
    yield Backend(*keyed, line)
    line.close()


@pytest.fixture
def stage(browser: Browser, backend: Backend) -> Iterator[Stage]:
    stage = opened(browser, backend.line.url, page_url=f"{backend.line.url}/openapi.json")
    yield stage
    stage.close()


def with_tokens(stage: Stage, backend: Backend) -> Page:
    stage.page.expose_function("tokenOfBackend", lambda: backend.token(avatar="woman"))
    stage.js("() => { player.token = () => tokenOfBackend() }")
    return stage.page


def test_without_a_token_it_fails_and_says_why(stage: Stage) -> None:
    stage.js("() => { player.connect().catch(() => {}) }")
    stage.until("player.state === 'failed'")
    assert stage.said("error")[-1]["code"] == "unauthorized"


def test_it_speaks_and_goes_on_with_a_fresh_token_when_the_connection_was_lost(stage: Stage, backend: Backend) -> None:
    page = with_tokens(stage, backend)
    stage.connect()
    stage.until("player.state === 'idle'")
    before = len(backend.made)
    assert before >= 1 and len(set(backend.made)) == before
    page.wait_for_function("player.shadowRoot.querySelector('img').naturalWidth > 0")
    stage.js("() => { player.speak({ text: 'I would like you to walk me through a system that you designed.', id: 'cut' }) }")
    stage.until("said('started').some(({ id }) => id === 'cut')")
    backend.line.cut()
    page.wait_for_timeout(500)
    backend.line.mend(keep=False)
    stage.until("said('ended').length === 1", 60)
    assert [(each["id"], each["outcome"]) for each in stage.said("ended")] == [("cut", "finished")]
    assert [each["resumed"] for each in stage.said("ready")] == [False, True]
    assert len(backend.made) > before


def test_a_page_that_gets_no_token_says_so(stage: Stage) -> None:
    stage.js("() => { player.token = async () => { throw new Error('you are not logged in') } }")
    stage.js("() => { player.connect().catch(() => {}) }")
    stage.until("player.state === 'failed'", 60)
    said = stage.said("error")[-1]
    assert said["code"] == "unauthorized" and "you are not logged in" in said["message"]


def test_the_page_asks_whoever_uses_it_for_a_key(browser: Browser, keyed: tuple[Service, str]) -> None:
    service, key = keyed
    context = browser.new_context(locale="en-US")
    page = context.new_page()
    page.goto(f"{service.url}/")
    for shown in ("msk_000000000000_wrong", key):
        page.wait_for_selector("#ask-key[open]")
        page.fill("#key", shown)
        page.press("#key", "Enter")
    stage = Stage(page, context)
    for condition in (
        "!document.getElementById('begin').disabled",
        "[...document.querySelectorAll('#interviewers img')].every((img) => img.naturalWidth > 0)",
        "document.getElementById('player').state === 'idle'",
    ):
        deadline = time.monotonic() + 30
        while not stage.js(condition):
            assert time.monotonic() < deadline, condition
            page.wait_for_timeout(50)
    assert page.evaluate("Object.values(localStorage).join() + document.documentElement.outerHTML").count(key) == 0
    context.close()
