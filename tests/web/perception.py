"""What a person would see and hear of a player in a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page

SCRIPT = (Path(__file__).parent / "perceived.js").read_text()
PLAYER = "document.querySelector('avatar-player')"
LOUD, SILENT = 0.05, 0.001  # samples, of 1: speech, and what comes of no sound
MOVED = 4.0  # levels of a part of the face: lips that speak come to 25, a head that is still to 1


@dataclass
class Perceived:
    """loudest: sample, of 1. pictures: how many differed from the one before. changes: of a part of the lower half of the face,
    levels, the largest from one picture to the next. width: of the video, pixels."""

    loudest: float
    pictures: int
    changes: float
    width: int


def listen_and_look(page: Page, *, by: str) -> None:
    """Clicks the button `by`, which unlocks the sound and lets the player speak."""
    page.evaluate(f"{PLAYER}.addEventListener('ended', ({{ detail }}) => (window.outcome = detail.outcome), {{ once: true }})")
    page.get_by_role("button", name=by, exact=True).click()
    page.wait_for_function(f"{PLAYER}.internals.graph && {PLAYER}.internals.timeline")
    page.evaluate(f"() => {{ {SCRIPT} }}")
    page.evaluate(f"perceive({PLAYER})")


def spoken(page: Page) -> Perceived:
    """Waits until it was spoken to its end. Raises AssertionError where it was not, or nothing was heard, or no lips were seen to move."""
    page.wait_for_function("window.outcome", timeout=60_000)
    perceived = Perceived(**page.evaluate("perceived()"))
    assert page.evaluate("window.outcome") == "finished"
    assert perceived.loudest > LOUD and perceived.pictures > 5 and perceived.changes > MOVED, perceived
    page.wait_for_function(f"{PLAYER}.state !== 'speaking'")
    page.wait_for_timeout(300)
    page.evaluate(f"perceive({PLAYER})")
    page.wait_for_timeout(500)
    silent = page.evaluate("perceived()")
    assert silent["loudest"] < SILENT and silent["changes"] < perceived.changes, (silent, perceived)
    return perceived
