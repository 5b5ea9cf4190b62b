"""A page with the player in it, in headless Chromium, and the few things that its tests do to it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page

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
PROBE = (Path(__file__).parent / "probe.js").read_text()
SHORT = "Say a."
LONG = "I would like you to walk me through a system that you designed, from the first sketch to production."
VIDEO = "player.internals.video"
BODY = (
    "<style>avatar-player { width: 480px }</style>"
    '<avatar-player avatar="woman" label="AI-generated interviewer"></avatar-player><button id="begin">Begin</button>'
)


class Stage:
    """`player` and `log` are the page's globals; `log` has every event of the element."""

    def __init__(self, page: Page, context: BrowserContext) -> None:
        self.page, self.context = page, context

    def js(self, expression: str, argument: object = None) -> Any:
        return self.page.evaluate(expression, argument)

    def until(self, condition: str, seconds: float = 30) -> Any:
        deadline = time.monotonic() + seconds
        while not (value := self.js(condition)):
            assert time.monotonic() < deadline, f"still not so after {seconds} s: {condition}; log: {self.js('log.slice(-12)')}"
            self.page.wait_for_timeout(20)
        return value

    def said(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.js("kind => said(kind)", kind)
        return found

    def connect(self) -> None:
        self.js("player.connect().then(() => {})")

    def unlock(self) -> None:
        self.js("document.getElementById('begin').onclick = () => (window.allowed = player.unlock())")
        self.page.click("#begin")
        assert self.js("allowed") is True

    def speak(self, what: object) -> dict[str, Any]:
        """Spoken to its end; returns the detail of `ended`."""
        self.js("what => { window.outcome = null; player.speak(what).ended.then((detail) => (window.outcome = detail)) }", what)
        ended: dict[str, Any] = self.until(
            "outcome && { id: outcome.id, outcome: outcome.outcome, ...(outcome.error && { code: outcome.error.code }) }"
        )
        return ended

    def ranges(self) -> int:
        return int(self.js("player.internals.video.buffered.length"))

    def close(self) -> None:
        self.context.close()


def opened(
    browser: Browser,
    service_url: str,
    *,
    page_url: str | None = None,
    own_script: bool = False,
    before: str = "",
    attributes: str = "",
    **options: Any,
) -> Stage:
    """A page of `page_url`, the service's own when None, with the service's player, or with a copy of its own; not connected."""
    context = browser.new_context(locale="en-US", viewport={"width": 900, "height": 700}, **options)
    page = context.new_page()
    page.add_init_script(PROBE)
    if before:
        page.add_init_script(before)
    page.goto(page_url or f"{service_url}/v1/voices")
    stage = Stage(page, context)
    stage.js("body => { document.body.innerHTML = body }", BODY.replace("<avatar-player ", f"<avatar-player {attributes} "))
    stage.js("url => import(url).then(() => {})", "/avatar-player.js" if own_script else f"{service_url}/avatar-player.js")
    stage.js("watch(document.querySelector('avatar-player'))")
    return stage


def wait_until_heard(stage: Stage, utterance: str) -> None:
    stage.until(f"said('started').some(({{ id }}) => id === '{utterance}')")
