"""The README's page in Chromium: what it shows and says is what a browser makes of the stream."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from museserve_whep import Gateway

playwright = pytest.importorskip("playwright.async_api", reason="NO PLAYWRIGHT in this environment")
README = Path(__file__).resolve().parents[1] / "README.md"
LOOK = """() => {
  const canvas = new OffscreenCanvas(64, 64);
  const eye = canvas.getContext("2d", { willReadFrequently: true });
  let before = null;
  window.moved = 0;
  setInterval(() => {
    eye.drawImage(face, 128, 256, 256, 256, 0, 0, 64, 64);
    const { data } = eye.getImageData(0, 0, 64, 64);
    const parts = new Float64Array(64);
    for (let i = 0; before && i < data.length; i += 1) {
      const at = i >> 2;
      parts[(at >> 9) * 8 + ((at & 63) >> 3)] += Math.abs(data[i] - before[i]) / 256;
    }
    window.moved = Math.max(window.moved, ...parts);
    before = data;
  }, 40);
}"""
STATS = """async () => {
  const found = {};
  for (const report of (await peer.getStats()).values()) if (report.type === "inbound-rtp") found[report.kind] = report;
  return found;
}"""


@pytest.fixture
async def page(url: str) -> AsyncIterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("NO CHROMIUM here")
    text = re.search(r"```html\n(.*?)```", README.read_text(), re.DOTALL)
    assert text is not None
    site, html = web.Application(), ""

    async def show(request: web.Request) -> web.Response:
        return web.Response(text=f"<!doctype html><link rel=icon href=data:,>{html}", content_type="text/html")

    site.router.add_get("/", show)
    async with TestServer(site) as pages, TestServer(Gateway(url, origins=[str(pages.make_url("")).rstrip("/")], patience_s=60.0).app) as server:
        html = (
            text.group(1).replace("http://127.0.0.1:8010", str(server.make_url("")).rstrip("/")).replace("const peer =", "const peer = window.peer =")
        )
        async with playwright.async_playwright() as tools:
            browser = await tools.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"])
            page = await browser.new_page()
            page.complaints = []
            page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: page.complaints.append(str(error)))
            await page.goto(str(pages.make_url("/")))
            yield page
            await browser.close()
    assert page.complaints == []


async def test_the_page_of_the_readme(page: Any) -> None:
    await page.wait_for_function("face.videoWidth === 512 && !face.paused && face.currentTime > 1", timeout=60_000)
    await page.evaluate(LOOK)
    await page.evaluate("void (window.said = new Promise((done) => (console.log = done)))")
    before = await page.evaluate(STATS)
    await page.click("#ask")
    said = await asyncio.wait_for(page.evaluate("said"), 60)
    await asyncio.sleep(0.5)
    after = await page.evaluate(STATS)
    assert said["interrupted"] is False and said["heard_ms"] > 2_000
    seconds = after["video"]["timestamp"] / 1_000 - before["video"]["timestamp"] / 1_000
    assert after["video"]["framesDecoded"] - before["video"]["framesDecoded"] > 10 * seconds
    assert after["audio"]["totalAudioEnergy"] > before["audio"]["totalAudioEnergy"] + 1e-4
    assert await page.evaluate("moved") > 8
