"""The examples as their README runs them, against the real service: films, tokens, a live face in headless Chromium."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

import tests.conftest as common
from configs.models import load_config
from museserve.access.keys import create_key
from tests.conftest import CONFIG, Service, free_port, start, stop
from tests.web.conftest import WEB, npm, readme_snippet, served
from tests.web.perception import listen_and_look, spoken

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BACKENDS = ["fastapi", "django"]
ENDED = bytes.fromhex("000000186d667261000000106d66726f0000000000000018")  # of a complete stream

# A directive that expects an error and finds none is one.
REFUSED = """import type {} from "@museserve/avatar-player/react";

export const captions = <avatar-player captions="off" />;
// @ts-expect-error: on or off
export const words = <avatar-player captions="maybe" />;
// @ts-expect-error: an attribute that it has not
export const face = <avatar-player face="woman" />;
export const ended = <avatar-player onended={({ detail }) => detail.outcome === "finished"} />;
// @ts-expect-error: an outcome that there is not
export const other = <avatar-player onended={({ detail }) => detail.outcome === "done"} />;
"""


@contextmanager
def example(name: str, log: Path, *, service_url: str, key: str = "") -> Iterator[str]:
    """Runs it at the origin that the tests' services list; that origin."""
    for needed in re.findall(r'"(\w+)[^"]*"', re.findall(r"^# dependencies = (.*)", (EXAMPLES / name).read_text(), re.M)[0]):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed, so examples/{name} is not tested: pip install -e '.[examples]'")
    env = {"PORT": str(urlsplit(common.OTHER_ORIGIN).port), "MUSETALK_SERVICE_URL": service_url, "MUSESERVE_KEY": key, "OPENAI_BASE_URL": ""}
    with served([sys.executable, EXAMPLES / name], EXAMPLES.parent, log, env) as url:
        assert url == common.OTHER_ORIGIN
        yield url


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    """A service that asks for keys, and one of them."""
    tmp = tmp_path_factory.mktemp("keyed")
    key, _ = create_key(tmp / "keys.json", "acme", ["speak"])
    process, started = start(tmp, {**CONFIG, "access": {"auth": "keys", "keys_file": str(tmp / "keys.json")}})
    yield started, key
    stop(process)


def test_the_readme_has_them_all() -> None:
    named = set(re.findall(r"\]\(([\w/.]+)\)", (EXAMPLES / "README.md").read_text()))
    assert all((EXAMPLES / path).exists() for path in named)
    assert {path.name for path in EXAMPLES.glob("*.py")} <= named


def test_their_service_lists_their_origins() -> None:
    origins = load_config(str(EXAMPLES / "service.yaml")).server.cors_origins
    ports = [re.search(r'"PORT", "(\d+)"', path.read_text()) for path in EXAMPLES.glob("*.py")]
    assert {f"http://127.0.0.1:{found.group(1)}" for found in ports if found} <= set(origins)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_says_that_the_service_is_not_there(backend: str, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with example(f"{backend}_interview.py", tmp_path / "log", service_url=nobody) as url:
        answer = httpx.get(f"{url}/questions/0/film", timeout=30)
        assert answer.status_code == 502 and nobody in answer.json()["detail"]
        assert httpx.get(f"{url}/questions/7/film", timeout=30).status_code == 404


@pytest.mark.serve
@pytest.mark.browser
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_gives_films_and_tokens(backend: str, page: Page, keyed: tuple[Service, str], tmp_path: Path) -> None:
    service, key = keyed
    with example(f"{backend}_interview.py", tmp_path / "log", service_url=service.url, key=key) as url:
        film = httpx.get(f"{url}/questions/0/film", timeout=120)
        assert film.headers["content-type"] == "video/mp4" and film.content.endswith(ENDED)

        page.goto(url)
        page.get_by_role("button", name="Play the question").click()
        page.wait_for_function("film.videoWidth >= 512 && film.currentTime > 0.5", timeout=60_000)
        page.evaluate("film.pause()")

        page.wait_for_function("Boolean(customElements.get('avatar-player'))")
        listen_and_look(page, by="Ask the question")
        spoken(page)
        assert page.locator("#problem").text_content() == "" and key not in page.content()


@pytest.mark.serve
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_gives_no_token_where_none_is_asked_for(backend: str, service: Service, tmp_path: Path) -> None:
    with example(f"{backend}_interview.py", tmp_path / "log", service_url=service.url) as url, httpx.Client(base_url=url, timeout=60) as client:
        csrf = re.search(r'"X-CSRFToken": "(\w+)"', client.get("/").text)
        answer = client.post("/interviews/1/token", headers={"X-CSRFToken": csrf.group(1)} if csrf else {})
        assert (answer.status_code, answer.json()) == (200, {"token": None})


@pytest.mark.serve
@pytest.mark.browser
def test_a_language_model_answers_aloud(page: Page, service: Service, tmp_path: Path) -> None:
    with example("llm_reply.py", tmp_path / "log", service_url=service.url) as url:
        page.goto(url)
        expect(page.locator("avatar-player")).to_have_attribute("data-state", "idle", timeout=60_000)
        listen_and_look(page, by="Answer")
        spoken(page)
        reply = page.locator("#reply").text_content() or ""
        assert reply.startswith("That is a lot of work.")
        assert page.evaluate("document.querySelector('avatar-player').transcript.map(({ text }) => text)") == [reply]
        expect(page.locator("avatar-player")).to_have_attribute("data-state", "listening")


@pytest.fixture(scope="module")
def react(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example beside a copy of the package, as a checkout has them, installed from its lock."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, so examples/react is not tested")
    top = tmp_path_factory.mktemp("react")
    for folder, target in ((WEB, top / "web"), (EXAMPLES / "react", top / "examples" / "react")):
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("node_modules", "dist"))
    npm(top / "examples" / "react", "ci", "--prefer-offline", "--no-audit")
    return top / "examples" / "react"


def test_react_knows_the_types_of_the_element(react: Path) -> None:
    """REFUSED has what must be refused; what the package's README tells must not be."""
    (react / "src" / "Refused.tsx").write_text(REFUSED, encoding="utf-8")
    (react / "src" / "FromReadme.tsx").write_text(readme_snippet("tsx"), encoding="utf-8")
    npm(react, "run", "build")


@pytest.mark.serve
@pytest.mark.browser
def test_react_holds_an_interview(react: Path, page: Page, service: Service, tmp_path: Path) -> None:
    """On the server of `npm start`, where modules are not bundled and React mounts twice."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    command = [react / "node_modules" / ".bin" / "vite", "--port", "0"]
    with served(command, react, tmp_path / "log", {"MUSETALK_SERVICE_URL": service.url}) as url:
        page.goto(url)
        expect(page.locator("avatar-player")).to_have_attribute("data-state", "idle", timeout=60_000)
        listen_and_look(page, by="Begin")
        spoken(page)
        page.get_by_role("button", name="I have answered").click()
        page.get_by_text("What would you do differently?").wait_for()
        page.get_by_label("Captions").uncheck()
        assert page.locator("avatar-player").get_attribute("captions") == "off"
        page.get_by_role("button", name="Answer now").click()
        page.get_by_role("button", name="I have answered").click()
        page.get_by_text("2 questions were asked.").wait_for()
        assert page.get_by_role("alert").text_content() == "" and complaints == []
