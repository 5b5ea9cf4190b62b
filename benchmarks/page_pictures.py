"""The pictures of the page that the README shows, and every view of it for whoever judges how it looks.

    python -m benchmarks.page_pictures [--url URL] [--images FOLDER] [--views FOLDER]

Headless Chromium against the real service. --images: page_interview.jpg and page_setup.jpg, in docs/images unless told. --views: instead of those,
set-up, interview and finish on a desktop, a phone and a phone on its side, in both schemes and languages, as PNG.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.player import CHROMIUM, FLAGS
from configs.models import load_config
from museserve.app.local import running
from museserve.messages import ByteArray

PLAYER = "document.getElementById('player')"
ALIVE = f"{PLAYER}.state === 'idle' && {PLAYER}.internals.video.currentTime > 0 && !document.getElementById('begin').disabled"
STATE = "document.getElementById('interview').dataset.state"
SAYING = f"{STATE} === 'asking' && {PLAYER}.shadowRoot.querySelector('[part=caption]')?.innerText"
SCREENS = {"desktop": (1280, 800), "phone": (390, 844), "side": (844, 390)}
GAP = 24
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 88, cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
PATIENCE_S = 300
TRIES = 8


def until(page: Page, condition: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)


@contextmanager
def opened(browser: Browser, url: str, screen: str, scheme: str, locale: str) -> Iterator[Page]:
    """The page, its face alive, after whatever moves into place."""
    width, height = SCREENS[screen]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, locale=locale)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{url}/")
    until(page, ALIVE)
    until(page, "[...document.images].every((image) => image.complete)")
    yield page
    context.close()


def asked(page: Page) -> None:
    page.click("#begin")
    until(page, SAYING)


def shot(page: Page) -> ByteArray:
    picture = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(picture, np.uint8)


def shot_while_asked(page: Page) -> ByteArray:
    """With a caption: the question is asked again where the picture came too late for it."""
    asked(page)
    for _ in range(TRIES):
        page.evaluate("document.getElementById('notice').hidden = true")  # what a busy machine makes the page say is no part of it
        picture = shot(page)
        if page.evaluate(SAYING):
            break
        page.click("#repeat")
        until(page, SAYING)
    return picture


def images(browser: Browser, url: str, folder: Path) -> None:
    with opened(browser, url, "desktop", "light", "en-US") as page:
        cv2.imwrite(str(folder / "page_interview.jpg"), shot_while_asked(page), QUALITY)
    with opened(browser, url, "desktop", "dark", "ko-KR") as page:
        desktop = shot(page)
    with opened(browser, url, "phone", "light", "ko-KR") as page:
        phone = shot_while_asked(page)
    height = len(desktop)
    width = round(phone.shape[1] * height / len(phone))
    small = cv2.resize(phone, (width, height), interpolation=cv2.INTER_AREA)
    gap = np.full((height, GAP, 3), 255, np.uint8)
    cv2.imwrite(str(folder / "page_setup.jpg"), np.hstack((desktop, gap, small)), QUALITY)


def views(browser: Browser, url: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for screen, scheme, locale in (
        ("desktop", "light", "en-US"),
        ("desktop", "dark", "ko-KR"),
        ("phone", "light", "ko-KR"),
        ("phone", "dark", "en-US"),
        ("side", "light", "en-US"),
        ("side", "dark", "ko-KR"),
    ):
        with opened(browser, url, screen, scheme, locale) as page:

            def keep(view: str, name: str = f"{screen}-{scheme}-{locale[:2]}", page: Page = page) -> None:
                page.screenshot(path=folder / f"{name}-{view}.png")
                print(f"{name}-{view}", flush=True)

            keep("1-setup")
            page.evaluate("scrollTo(0, 1e6)")
            keep("2-setup-end")
            page.evaluate("scrollTo(0, 0)")
            page.click("#add-open")
            keep("3-add")
            page.click("#add-close")
            asked(page)
            keep("4-asking")
            page.keyboard.press("Escape")
            until(page, f"{STATE} === 'listening'")
            keep("5-listening")
            page.click("#end")
            keep("6-finish")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--url", help="of a service that runs; else one is started")
    options.add_argument("--images", type=Path, default=Path("docs/images"))
    options.add_argument("--views", type=Path)
    told = options.parse_args()
    with ExitStack() as held:
        url = told.url or held.enter_context(running(load_config("local", {"server": {"port": 0, "dashboard_port": 0}})))
        playwright = held.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        if told.views:
            views(browser, url, told.views)
        else:
            images(browser, url, told.images)
        browser.close()


if __name__ == "__main__":
    main()
