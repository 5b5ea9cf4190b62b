"""Waiting for what a page says."""

from __future__ import annotations

import time

from playwright.sync_api import Page


def until(page: Page, condition: str, timeout_s: float = 30) -> None:
    """`page.wait_for_function` evaluates inside the page, which its content security policy forbids."""
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"still not so after {timeout_s} s: {condition}"
        page.wait_for_timeout(20)
