"""A Vue 3 app that installs the packed player: checked and built by its own tools, driven in headless Chromium, against the real service."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import Service
from tests.web.conftest import npm, readme_snippet, served
from tests.web.perception import listen_and_look, spoken

VIDEO = "document.querySelector('avatar-player').shadowRoot.querySelector('video')"


@pytest.fixture(scope="module")
def app(vue_app: Path, service: Service) -> Iterator[str]:
    """The address of the built app, whose `/v1` goes to the service."""
    npm(vue_app, "run", "build")
    with served(
        [vue_app / "node_modules" / ".bin" / "vite", "preview", "--port", "0"], vue_app, vue_app / "log", {"MUSESERVE_URL": service.url}
    ) as url:
        yield url


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Fails when the console complains."""
    context = browser.new_context()
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


def test_its_checker_of_types_knows_the_component_and_the_element(vue_app: Path) -> None:
    """src/Refused.vue has what must be refused; what the README tells must not be."""
    (vue_app / "src" / "FromReadme.vue").write_text(readme_snippet("vue"), encoding="utf-8")
    npm(vue_app, "run", "types")


def test_a_server_renders_it(vue_app: Path) -> None:
    npm(vue_app, "exec", "--", "vite", "build", "--ssr", "src/server.js", "--outDir", "server", "--logLevel", "warn")
    done = subprocess.run(["node", "server/server.js"], cwd=vue_app, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.search(r'<avatar-player [^>]*label="AI-generated interviewer"', done.stdout) and "function token" not in done.stdout


@pytest.mark.serve
@pytest.mark.browser
def test_interview_inside_a_vue_app(page: Page, app: str) -> None:
    page.goto(app)
    happened = page.locator("#happened li")
    expect(happened.first).to_have_text('ready "interviewer_man"', timeout=30_000)
    early = page.evaluate(f"{VIDEO}.currentTime")

    page.get_by_role("button", name="Start").click()
    expect(page.locator("h2")).to_have_text("Question 1 of 2")
    expect(page.locator("h2")).to_be_focused()
    expect(happened.last).to_have_text('listening {"index":0,"question":"Why do you write tests?"}', timeout=30_000)
    assert page.evaluate(f"{VIDEO}.currentTime") > early
    page.get_by_role("button", name="Next question").click()
    expect(happened.last).to_have_text('asked {"index":1,"question":"What do you test first?"}', timeout=30_000)
    page.get_by_role("button", name="Answer now").click()
    page.get_by_role("button", name="Finish").click()
    expect(happened).to_have_text([re.compile(name) for name in ("ready", "asked", "listening", "asked", "listening", "finished 2")])


@pytest.mark.serve
@pytest.mark.browser
def test_the_element_inside_a_vue_app(page: Page, app: str) -> None:
    page.goto(f"{app}/?alone")
    expect(page.locator("#state")).to_have_text("idle", timeout=60_000)
    player = page.locator("avatar-player")
    assert player.evaluate("(player) => [player.speed, player.label, typeof player.token]") == [1, "", "function"]
    listen_and_look(page, by="Speak")
    assert spoken(page).width >= 512
    expect(page.locator("#outcomes")).to_have_text("finished")
