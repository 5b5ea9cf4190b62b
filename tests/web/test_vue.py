"""`MockInterview.vue` in an app of its own: compiled by Vite, driven in headless Chromium, against the real service."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.web.conftest import FIXTURE

pytestmark = [pytest.mark.serve, pytest.mark.browser]


@pytest.fixture(scope="module")
def app(node_modules: Path, service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the built app, whose `/v1` goes to the service."""
    built = tmp_path_factory.mktemp("vue")
    env = {**os.environ, "OUT_DIR": str(built / "dist"), "MUSESERVE_URL": service.url, "NO_COLOR": "1"}
    vite = node_modules / ".bin" / "vite"
    done = subprocess.run([vite, "build"], cwd=FIXTURE, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    log = built / "preview.log"
    with log.open("wb") as out:
        process = subprocess.Popen([vite, "preview", "--port", "0"], cwd=FIXTURE, env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 30
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield found.group()
    finally:
        process.terminate()
        process.wait(10)


def test_interview_inside_a_vue_app(browser, app: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(app)
    happened = page.locator("#happened li")
    expect(happened.first).to_have_text('ready "interviewer_man"', timeout=30_000)
    video = "document.querySelector('avatar-player').shadowRoot.querySelector('video')"
    early = page.evaluate(f"{video}.currentTime")

    page.get_by_role("button", name="Start").click()
    expect(page.locator("h2")).to_have_text("Question 1 of 2")
    expect(page.locator("h2")).to_be_focused()
    expect(happened.last).to_have_text('listening {"index":0,"question":"Why do you write tests?"}', timeout=30_000)
    assert page.evaluate(f"{video}.currentTime") > early
    page.get_by_role("button", name="Next question").click()
    expect(happened.last).to_have_text('asked {"index":1,"question":"What do you test first?"}', timeout=30_000)
    page.get_by_role("button", name="Answer now").click()
    page.get_by_role("button", name="Finish").click()
    expect(happened).to_have_text([re.compile(name) for name in ("ready", "asked", "listening", "asked", "listening", "finished 2")])
    assert complaints == []
    context.close()
