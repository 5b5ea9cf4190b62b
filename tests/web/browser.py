"""Headless Chromium for tests, and waiting for what a page says."""

from __future__ import annotations

import shutil
import time

from playwright.sync_api import Page

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


def until(page: Page, condition: str, timeout_s: float = 30) -> None:
    """`page.wait_for_function` evaluates inside the page, which its content security policy forbids."""
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"still not so after {timeout_s} s: {condition}"
        page.wait_for_timeout(20)
