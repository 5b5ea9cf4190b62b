"""What the page is made of, as it is given out: its plain modules, or the bundle that was made of them."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from deployments.ingress import page

WEB = Path(__file__).resolve().parents[3] / "web"
FOREVER = "public, max-age=31536000, immutable"


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of web/ without its bundle, which the service takes for its own."""
    copy = tmp_path / "web"
    shutil.copytree(WEB, copy, ignore=shutil.ignore_patterns("node_modules", "dist"))
    monkeypatch.setattr(page, "folder", lambda: copy)
    return copy


@pytest.fixture
def bundled(web: Path) -> Path:
    tools = WEB / "bundler" / "node_modules"
    if shutil.which("node") is None or not (tools / "esbuild").is_dir():
        pytest.skip("esbuild is not installed: make page brings it")
    (web / "bundler" / "node_modules").symlink_to(tools)
    done = subprocess.run(["node", "bundler/bundle.js"], cwd=web, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return web


def client() -> TestClient:
    return TestClient(Starlette(routes=page.routes()), headers={"accept-encoding": "gzip"})


def test_without_a_bundle_the_modules_are_served_as_they_are(web: Path) -> None:
    assert page.bundle() is None
    asked = client()
    assert 'src="app.js"' in asked.get("/").text
    answer = asked.get("/player/wire.js")
    assert answer.content == (web / "player" / "wire.js").read_bytes() and answer.headers["cache-control"] == "no-cache"
    assert asked.get("/bundler/bundle.js").status_code == 404


def test_a_bundle_takes_the_place_of_the_page_and_the_player(bundled: Path) -> None:
    asked = client()
    first = asked.get("/")
    (script,) = re.findall(r'src="(app-\w{8}\.js)"', first.text)
    (sheet,) = re.findall(r'rel="stylesheet" href="(style-\w{8}\.css)"', first.text)
    assert first.headers["cache-control"] == "no-cache" and "default-src 'none'" in first.headers["content-security-policy"]
    answers = [asked.get(f"/{name}") for name in (script, sheet)]
    for answer in answers:
        assert answer.headers["cache-control"] == FOREVER and answer.headers["content-encoding"] == "gzip"
        assert answer.headers["vary"] == "Accept-Encoding" and answer.headers["x-content-type-options"] == "nosniff"
    assert "avatar-player" in answers[0].text and ".stage" in answers[1].text
    sent = sum(int(answer.headers["content-length"]) for answer in (first, *answers))
    assert sent < 64_000, "bytes over the line for all of the page but its pictures"

    player = asked.get("/avatar-player.js")
    assert player.headers["cache-control"] == "no-cache" and "import" in player.text
    (chunk,) = set(re.findall(r'from"\./(chunk-\w{8}\.js)"', player.text + asked.get("/tts.js").text))
    assert asked.get(f"/{chunk}").headers["cache-control"] == FOREVER
    assert asked.get("/player/wire.js").status_code == 200, "for whoever imports it"
    (icon,) = set(re.findall(r'new URL\("\./([\w.-]+)",import\.meta\.url\)', answers[0].text + player.text))
    assert asked.get(f"/{icon}").content == (bundled / "player" / "tick-worker.js").read_bytes()


def test_each_caller_gets_what_it_can_read(bundled: Path) -> None:
    plain = (bundled / "dist" / "index.html").read_bytes()
    asked = client()
    tags = set()
    for accepted, coding in {"": None, "identity": None, "gzip, deflate": "gzip", "gzip, br;q=0": "gzip", "gzip, deflate, br, zstd": "br"}.items():
        with asked.stream("GET", "/", headers={"accept-encoding": accepted}) as answer:
            raw = b"".join(answer.iter_raw())
        assert answer.headers.get("content-encoding") == coding, accepted
        assert {None: lambda data: data, "gzip": gzip.decompress, "br": lambda data: plain}[coding](raw) == plain
        tags.add(tag := answer.headers["etag"])
        assert asked.get("/", headers={"accept-encoding": accepted, "if-none-match": f'"other", {tag}'}).status_code == 304
    assert len(tags) == 3


def test_a_bundle_of_other_modules_is_not_served(bundled: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert page.bundle() is not None
    with (bundled / "page" / "stage.css").open("a") as file:
        file.write("\n/* changed */\n")
    with caplog.at_level("WARNING", "ray.serve"):
        assert page.bundle() is None
    assert "make page" in caplog.text
    assert 'src="app.js"' in client().get("/").text
