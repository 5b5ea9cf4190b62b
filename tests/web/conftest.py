"""A Chromium for each module of tests of the web side, and what npm installs for them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.web.player_page import CHROMIUM, FLAGS

FIXTURE = Path(__file__).parent / "vue"
WEB = Path(__file__).resolve().parents[2] / "web"


def npm(folder: Path, *arguments: object, timeout_s: float = 300) -> str:
    """Runs npm, or what `npx` finds, in a folder; its output. Raises AssertionError with that where it fails."""
    env = {**os.environ, "NO_COLOR": "1", "NO_UPDATE_NOTIFIER": "1"}
    done = subprocess.run(["npm", *map(str, arguments)], cwd=folder, env=env, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, f"npm {' '.join(map(str, arguments))}: {(done.stdout + done.stderr)[-3000:]}"
    return done.stdout


def readme_snippet(kind: str) -> str:
    """The only one of its kind in the package's README."""
    (found,) = re.findall(rf"```{kind}\n(.*?)```", (WEB / "README.md").read_text(encoding="utf-8"), re.S)
    return str(found)


@contextmanager
def served(command: list[object], folder: Path, log: Path, env: dict[str, str], *, seconds: float = 60) -> Iterator[str]:
    """Runs a server until the end of the block; the address that it prints."""
    with log.open("wb") as out:
        whole = {**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1", **env}
        process = subprocess.Popen([*map(str, command)], cwd=folder, env=whole, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + seconds
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield found.group()
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="package")
def node_modules() -> Path:
    """What tests/web/vue/package-lock.json names, installed once."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed; it brings Vue, Vite and axe-core for the tests")
    modules, lock = FIXTURE / "node_modules", FIXTURE / "package-lock.json"
    installed = modules / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        npm(FIXTURE, "ci", "--prefer-offline")
    return modules


@pytest.fixture(scope="package")
def axe(node_modules: Path) -> str:
    return (node_modules / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="package")
def tarball(node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `npm publish` would publish."""
    folder = tmp_path_factory.mktemp("tarball")
    return folder / npm(WEB, "pack", "--silent", "--pack-destination", folder).split()[-1]


@pytest.fixture(scope="package")
def vue_app(node_modules: Path, tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An app of its own, with the packed player installed."""
    app = tmp_path_factory.mktemp("vue") / "app"
    shutil.copytree(FIXTURE, app, symlinks=True)
    npm(app, "install", "--offline", "--no-audit", tarball)
    return app
