"""Firefox and WebKitGTK for tests, by the protocols that they speak themselves: WebDriver BiDi, and WebDriver."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

START_S = 30
PREFERENCES = {
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "devtools.jsonview.enabled": False,  # its own page, with a policy that refuses scripts
    "media.autoplay.default": 1,  # a gesture is wanted before sound, as for everybody
}
COLLECT = """
window.complaints = [];
addEventListener("error", ({ message }) => complaints.push(message));
addEventListener("unhandledrejection", ({ reason }) => complaints.push(String(reason)));
addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => complaints.push(`${violatedDirective} ${blockedURI}`));
const { error } = console;
console.error = (...told) => { complaints.push(told.join(" ")); error.apply(console, told); };
"""
FIREFOX = next(filter(None, map(shutil.which, ("firefox", "firefox-esr"))), None)
WEBKIT_DRIVER, XVFB, PULSEAUDIO = (shutil.which(name) for name in ("WebKitWebDriver", "Xvfb", "pulseaudio"))
MINI_BROWSER = next(Path("/usr").glob("lib*/**/webkit2gtk-4.1/MiniBrowser"), None) if WEBKIT_DRIVER else None


class Window(ABC):
    """One window of a browser. `js` gives an expression's value, awaited, as JSON carries it."""

    @abstractmethod
    def goto(self, url: str) -> None: ...

    @abstractmethod
    def _evaluate(self, body: str) -> dict[str, Any]:
        """What a promise of `body` resolves to: {"value": JSON} or {"error": text}."""

    @abstractmethod
    def click(self, selector: str) -> None:
        """As a person would: it counts as a gesture."""

    @abstractmethod
    def complaints(self) -> list[str]:
        """What the console was told as an error since the last `goto`."""

    @abstractmethod
    def close(self) -> None: ...

    def js(self, expression: str) -> Any:
        found = self._evaluate(
            f"(async () => JSON.stringify(await ({expression})))()"
            ".then((value) => ({ value }), (error) => ({ error: `${error} ${error.stack}` }))"
        )
        assert "error" not in found, found["error"]
        return None if found.get("value") is None else json.loads(found["value"])

    def run(self, statements: str) -> None:
        self.js(f"(() => {{ {statements} }})()")

    def until(self, condition: str, seconds: float = 30) -> Any:
        deadline = time.monotonic() + seconds
        while not (value := self.js(condition)):
            assert time.monotonic() < deadline, f"still not so after {seconds} s: {condition}; {self.js('window.log?.slice(-12)')}"
            time.sleep(0.03)
        return value


class Firefox(Window):
    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        profile = folder / "profile"
        profile.mkdir()
        (profile / "user.js").write_text("".join(f'user_pref("{name}", {json.dumps(value)});\n' for name, value in PREFERENCES.items()))
        port = _free_port()
        self._open = ExitStack()
        assert FIREFOX is not None
        self._process = subprocess.Popen(
            [FIREFOX, "--headless", "--no-remote", "--profile", str(profile), f"--remote-debugging-port={port}"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _until_open(port)
            self._socket = self._open.enter_context(connect(f"ws://127.0.0.1:{port}/session", max_size=None))
            self._numbers = itertools.count(1)
            self._errors: list[str] = []
            self._command("session.new", capabilities={})
            self._command("session.subscribe", events=["log.entryAdded"])
            self._context = self._command("browsingContext.getTree")["contexts"][0]["context"]
        except BaseException:
            self._end()
            raise

    def goto(self, url: str) -> None:
        self._command("browsingContext.getTree")  # what the page before said is read
        self._errors.clear()
        self._command("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def complaints(self) -> list[str]:
        self._command("browsingContext.getTree")
        return list(self._errors)

    def _evaluate(self, body: str) -> dict[str, Any]:
        target = {"context": self._context}
        made = self._command("script.evaluate", expression=f"({body}).then(JSON.stringify)", target=target, awaitPromise=True)
        assert made["type"] == "success", made["exceptionDetails"]["text"]
        found: dict[str, Any] = json.loads(made["result"]["value"])
        return found

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector('{selector}').scrollIntoView({{ block: 'nearest' }})")
        middle = f"(({{ x, y, width, height }}) => [x + width / 2, y + height / 2])(document.querySelector('{selector}').getBoundingClientRect())"
        x, y = map(round, self.js(middle))
        steps = [{"type": "pointerMove", "x": x, "y": y}, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        self._command("input.performActions", context=self._context, actions=[{"type": "pointer", "id": "mouse", "actions": steps}])

    def close(self) -> None:
        with suppress(WebSocketException, OSError, TimeoutError):
            self._command("browser.close")
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._end()

    def _end(self) -> None:
        self._open.close()
        self._process.kill()
        self._process.wait()

    def _command(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (said := json.loads(self._socket.recv(START_S * 4))).get("id") != number:
            if said.get("method") == "log.entryAdded" and said["params"]["level"] == "error":
                self._errors.append(str(said["params"]["text"]))
        assert said["type"] == "success", said
        return said["result"]


class WebKit(Window):
    """Needs a display, and brings its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        assert WEBKIT_DRIVER is not None and XVFB is not None
        display, self._display = _own_display(XVFB)
        port = _free_port()
        environment = {
            **environment,
            "DISPLAY": display,
            "HOME": str(folder),
            "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1",
            "LIBGL_ALWAYS_SOFTWARE": "1",
        }
        self._driver = subprocess.Popen([WEBKIT_DRIVER, f"--port={port}"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._url = f"http://127.0.0.1:{port}/session"
        try:
            options = {"binary": str(MINI_BROWSER), "args": ["--automation"]}
            wanted = {"capabilities": {"alwaysMatch": {"webkitgtk:browserOptions": options}}}
            _until_open(port)
            self._url += f"/{self._request('POST', '', wanted)['sessionId']}"
            self._request("POST", "/timeouts", {"script": 60_000})
        except BaseException:
            self._end()
            raise

    def goto(self, url: str) -> None:
        self._request("POST", "/url", {"url": url})
        self.run(COLLECT)  # its protocol tells nothing of what a page said before

    def complaints(self) -> list[str]:
        found: list[str] = self.js("complaints")
        return found

    def _evaluate(self, body: str) -> dict[str, Any]:
        found: dict[str, Any] = self._request("POST", "/execute/async", {"script": f"({body}).then(arguments[0])", "args": []})
        return found

    def click(self, selector: str) -> None:
        (element,) = self._request("POST", "/element", {"using": "css selector", "value": selector}).values()
        self._request("POST", f"/element/{element}/click", {})

    def close(self) -> None:
        with suppress(OSError, AssertionError):
            self._request("DELETE", "")
        self._end()

    def _end(self) -> None:
        for process in (self._driver, self._display):
            process.terminate()
            process.wait(10)

    def _request(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}{path}", data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()[:1_000]) from None


def quiet_loudspeaker(folder: Path) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
    """A sound server whose only device is heard by nobody, and how programs find it. Without a device Firefox allows no sound."""
    assert PULSEAUDIO is not None
    at = folder / "sound.socket"
    loaded = ["module-null-sink", f"module-native-protocol-unix socket={at} auth-anonymous=1"]
    environment = {**os.environ, "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    process = subprocess.Popen(
        [PULSEAUDIO, "-n", "--daemonize=no", "--exit-idle-time=-1", *(f"--load={module}" for module in loaded)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + START_S
    while not at.exists():
        assert process.poll() is None and time.monotonic() < deadline, "pulseaudio does not start"
        time.sleep(0.05)
    return process, {**os.environ, "PULSE_SERVER": f"unix:{at}"}


def _own_display(xvfb: str) -> tuple[str, subprocess.Popen[bytes]]:
    read, write = os.pipe()
    process = subprocess.Popen(
        [xvfb, "-displayfd", str(write), "-screen", "0", "1280x900x24", "-nolisten", "tcp"], pass_fds=[write], stderr=subprocess.DEVNULL
    )
    os.close(write)
    with os.fdopen(read) as number:
        return f":{number.readline().strip()}", process


def _until_open(port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the browser does not answer"
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
