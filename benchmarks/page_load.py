"""What the page at `/` costs a first visitor: bytes by kind, and when a face is there. Prints figures and writes JSON.

    python -m benchmarks.page_load [--mbit N] [--latency MS] [--question] [--out FILE]

Headless Chromium with an empty cache against the real service. `until a face`: until the living face plays and the interview can
begin. `in all`: when nothing more is loaded. --mbit, --latency: of a line between the two, as a second visit has it; Chromium's own
slow line does not hold WebSockets. --question: what becomes of a question of twenty seconds.
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import CDPSession, Page, sync_playwright

from benchmarks.player import CHROMIUM, FLAGS
from configs.models import load_config
from museserve.app.local import running

PLAYER = "document.getElementById('player')"
FACE = f"{PLAYER}.state === 'idle' && {PLAYER}.internals.video.currentTime > 0 && !document.getElementById('begin').disabled"
QUIET_S = 3.0
QUESTION = (
    "I would like you to walk me through a system that you designed, from the first sketch to production, and to tell me what you would change. "
    "Please say what the load was, who used it, which part was the hardest, and how you found out that it worked. Take all the time that you need, "
    "and do not leave out what went wrong."
)
CHUNK = 4_096


class SlowLine:
    """Passes TCP connections on to `url`, each way at so many bits a second for all of them together, and so much later."""

    def __init__(self, url: str, mbit: float, latency_s: float) -> None:
        self._to = urlsplit(url).hostname, urlsplit(url).port
        self._rate, self._latency_s = mbit * 1e6 / 8, latency_s
        self._free = {"up": 0.0, "down": 0.0}  # when the line has sent what it was given
        self._lock = threading.Lock()
        self._entry = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._entry.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._entry.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._entry.accept()
                far = socket.create_connection(self._to)
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
                for way in (("up", near, far), ("down", far, near)):
                    threading.Thread(target=self._pass, args=way, daemon=True).start()

    def _pass(self, way: str, here: socket.socket, there: socket.socket) -> None:
        """Half of the round trip each way; pieces wait in the order in which they came."""
        waiting: list[tuple[float, bytes]] = []
        news = threading.Condition()

        def deliver() -> None:
            with suppress(OSError):
                while True:
                    with news:
                        while not waiting:
                            news.wait()
                        at, data = waiting.pop(0)
                    time.sleep(max(0.0, at - time.monotonic()))
                    if not data:
                        there.shutdown(socket.SHUT_WR)
                        return
                    there.sendall(data)

        threading.Thread(target=deliver, daemon=True).start()
        with suppress(OSError):
            while data := here.recv(CHUNK):
                with self._lock:
                    begins = max(time.monotonic(), self._free[way])
                    self._free[way] = sent = begins + len(data) / self._rate
                with news:
                    waiting.append((sent + self._latency_s / 2, data))
                    news.notify()
                time.sleep(max(0.0, sent - time.monotonic()))
        with news:
            waiting.append((0.0, b""))
            news.notify()


class Bytes:
    """What came over the line, by kind."""

    def __init__(self, client: CDPSession) -> None:
        self.kinds: Counter[str] = Counter()
        self.requests = 0
        self.at = time.monotonic()
        self._urls: dict[str, str] = {}
        client.send("Network.enable")
        client.on("Network.requestWillBeSent", lambda sent: self._urls.__setitem__(sent["requestId"], sent["request"]["url"]))
        client.on("Network.loadingFinished", self._finished)
        client.on("Network.webSocketFrameReceived", self._frame)

    def _finished(self, done: dict[str, Any]) -> None:
        self.kinds[kind_of(self._urls.get(done["requestId"], ""))] += int(done["encodedDataLength"])
        self.requests += 1
        self.at = time.monotonic()

    def _frame(self, came: dict[str, Any]) -> None:
        data = came["response"]["payloadData"]
        self.kinds["session"] += len(data) if came["response"]["opcode"] == 1 else len(data) * 3 // 4  # base64
        self.at = time.monotonic()

    def told(self) -> dict[str, Any]:
        return {
            "kB": {kind: round(n / 1e3, 1) for kind, n in self.kinds.most_common()},
            "sum_kB": round(self.kinds.total() / 1e3, 1),
            "n": self.requests,
        }


def kind_of(url: str) -> str:
    path = urlsplit(url).path
    for end, kind in (("/portrait", "portraits"), ("/idle.segments", "idle loop"), (".js", "scripts"), (".css", "styles"), (".svg", "icons")):
        if path.endswith(end):
            return kind
    return "page" if path == "/" else "answers"


def first_visit(page: Page, client: CDPSession, url: str) -> dict[str, Any]:
    got = Bytes(client)
    began = time.monotonic()
    page.goto(f"{url}/", wait_until="commit")
    while not page.evaluate(f"document.getElementById('begin') && {PLAYER}?.internals && {FACE}"):
        page.wait_for_timeout(20)
    face = {"s": round(time.monotonic() - began, 2), **got.told()}
    while time.monotonic() - got.at < QUIET_S:
        page.wait_for_timeout(100)
    return {"until_a_face": face, "in_all": {"s": round(got.at - began, 2), **got.told()}}


def question(page: Page) -> dict[str, Any]:
    """Asked by the page, on a line that is at rest."""
    page.evaluate(
        f"text => {{ const p = {PLAYER}; p.unlock(); window.asked = p.speak({{ text }}).ended; window.t = performance.now(); "
        "p.addEventListener('started', (e) => (window.firstMs = e.detail.first_frame_ms), { once: true }) }",
        QUESTION,
    )
    outcome = page.evaluate("asked")["outcome"]
    counters = page.evaluate(f"{PLAYER}.counters")
    return {
        "outcome": outcome,
        "first_frame_ms": round(page.evaluate("firstMs")),
        "took_s": round(page.evaluate("performance.now() - t") / 1000, 1),
        **{name: round(counters[name]) for name in ("dry_outs", "dry_ms", "late_segments")},
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mbit", type=float)
    options.add_argument("--latency", type=float, default=0.0, help="milliseconds of a round trip")
    options.add_argument("--question", action="store_true")
    options.add_argument("--url", help="of a service that runs; else one is started")
    options.add_argument("--out", type=Path, default=Path("benchmarks/results/page_load.json"))
    asked = options.parse_args()
    with ExitStack() as held:
        url = asked.url or held.enter_context(running(load_config("local", {"server": {"port": 0, "dashboard_port": 0}})))
        playwright = held.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        lines: list[tuple[str, float | None, float]] = [("whole", None, 0.0)]
        if asked.mbit:
            lines.append((f"{asked.mbit:g} Mbit/s, {asked.latency:g} ms", asked.mbit, asked.latency / 1e3))
        told: dict[str, Any] = {}
        for name, mbit, latency_s in lines:
            line = SlowLine(url, mbit, latency_s) if mbit else None
            context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-US")
            page = context.new_page()
            told[name] = first_visit(page, context.new_cdp_session(page), line.url if line else url)
            if asked.question:
                told[name]["question"] = question(page)
            context.close()
            if line:
                line.close()
            print(name, json.dumps(told[name], indent=1), flush=True)
        browser.close()
    asked.out.parent.mkdir(exist_ok=True)
    asked.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
