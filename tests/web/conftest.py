"""A Chromium for each module of tests of the web side, and what npm installs for them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.web.player_page import CHROMIUM, FLAGS

FIXTURE = Path(__file__).parent / "vue"


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
        done = subprocess.run(["npm", "ci", "--prefer-offline"], cwd=FIXTURE, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr[-2000:]
    return modules


@pytest.fixture(scope="package")
def axe(node_modules: Path) -> str:
    return (node_modules / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
