"""The npm package: what is in it, what it weighs, and that it plays from a plain page and loads where there is no browser."""

from __future__ import annotations

import functools
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

import museserve
import tests.conftest as common
from tests.conftest import Service
from tests.web.conftest import WEB
from tests.web.perception import listen_and_look, spoken

PAGE = """<!doctype html>
<html lang="en">
<avatar-player src="{service}" avatar="woman" style="width: 480px"></avatar-player>
<button id="speak">Speak</button>
<script type="importmap">{{ "imports": {{ "@museserve/avatar-player": "/package/avatar-player.js" }} }}</script>
<script type="module">
  const player = document.querySelector("avatar-player");
  player.token = () => null; // before the element is defined
  await import("@museserve/avatar-player");
  window.taken = [Object.hasOwn(player, "token"), typeof player.token];
  document.getElementById("speak").onclick = async () => {{
    await player.unlock();
    player.speak("Say a.");
  }};
  await player.connect();
</script>
"""
IMPORTED = """
const modules = ["@museserve/avatar-player", "@museserve/avatar-player/tts.js", "@museserve/avatar-player/interview.js"];
for (const name of modules) console.log(Object.keys(await import(name)).join());
"""


@pytest.fixture(scope="module")
def unpacked(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(tarball) as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_it_has_the_player_and_nothing_of_the_page(unpacked: Path) -> None:
    package = unpacked / "package"
    names = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    modules = {f"player/{path.name}" for path in (WEB / "player").glob("*.js")}
    types = {"avatar-player.d.ts", "interview.d.ts", "tts.d.ts", "mock-interview.d.ts", "react.d.ts", "vue.d.ts"}
    assert names == {"LICENSE", "README.md", "package.json", "avatar-player.js", "interview.js", "tts.js", "MockInterview.vue", *types, *modules}
    described = json.loads((package / "package.json").read_text())
    assert described["version"] == museserve.__version__ and "dependencies" not in described
    targets = {path for kinds in described["exports"].values() for path in ([kinds] if isinstance(kinds, str) else kinds.values())}
    assert {path.removeprefix("./") for path in targets} <= names
    assert (package / "LICENSE").read_bytes() == (WEB.parent / "LICENSE").read_bytes()


def test_its_readme_names_cors_before_the_first_snippet(unpacked: Path) -> None:
    readme = (unpacked / "package" / "README.md").read_text()
    assert "server:\n  cors_origins:" in readme[: readme.index("npm install")]


def test_where_there_is_no_browser_it_loads_and_does_nothing(vue_app: Path) -> None:
    done = subprocess.run(["node", "--input-type=module", "--eval", IMPORTED], cwd=vue_app, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["AvatarPlayer,PlayerError", "TTSManager,default", "Interview,PACES"] and done.stderr == ""


@pytest.fixture
def plain_page(unpacked: Path, service: Service) -> Iterator[str]:
    """A page at an origin that the service lists, with the package's folder beside it."""
    (unpacked / "index.html").write_text(PAGE.format(service=service.url))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", urlsplit(common.OTHER_ORIGIN).port or 0), functools.partial(Quiet, directory=unpacked))
    threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.05), daemon=True).start()
    yield f"{common.OTHER_ORIGIN}/index.html"
    server.shutdown()
    server.server_close()


@pytest.mark.serve
@pytest.mark.browser
def test_a_plain_page_of_another_origin_plays_it(browser: Browser, plain_page: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(plain_page)
    expect(page.locator("avatar-player")).to_have_attribute("data-state", "idle", timeout=60_000)
    assert page.evaluate("taken") == [False, "function"], "a property that was set before the element was defined"
    given = "(player) => { player.label = null; player.speed = 2; player.speed = undefined; return [player.hasAttribute('label'), player.speed]; }"
    assert page.locator("avatar-player").evaluate(given) == [False, 1.1], "what frameworks give for what is absent"
    listen_and_look(page, by="Speak")
    spoken(page)
    context.close()
