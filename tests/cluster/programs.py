"""Programs that the tests of `cluster/` run: from the extra `test`, or from the system."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"
ORIGIN = {"prometheus": "Debian's package prometheus", "promtool": "Debian's package prometheus"}


def program(name: str) -> str:
    """Its path; skips the test where it is not installed."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not installed: {ORIGIN.get(name, 'it comes with the extra test on Linux')}")
    return found


def output(name: str, *arguments: object, env: dict[str, str] | None = None) -> str:
    """What it prints, run in `cluster/`; fails with all that it says when its exit status is not 0. env: all of it."""
    command = [program(name), *map(str, arguments)]
    done = subprocess.run(command, cwd=CLUSTER, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
