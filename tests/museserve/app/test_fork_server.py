"""Forks of the fork server are what processes of their own would have been."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from museserve.app import fork_server
from museserve.runtime import cpu

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")

# In place of Ray's scripts: what each finds.
TELL = """
import json, os, sys
from ray import WorkerID
import random, numpy
found = {
    "pid": os.getpid(), "argv": sys.argv, "path": sys.path[0], "name": __name__, "given": os.environ.get("GIVEN"), "folder": os.getcwd(),
    "imported": "deployments.mux" in sys.modules, "python": sys.executable, "threads": len(os.listdir("/proc/self/task")),
    "random": [WorkerID.from_random().hex(), random.random(), numpy.random.random()],
}
print(json.dumps(found), flush=True)
"""
ASK = """
import sys
print(sys.stdin.readline().strip(), flush=True)
if "--wait" in sys.argv: sys.stdin.read()
sys.exit(3)
"""
WORKER, AGENT = "ray/_private/workers/default_worker.py", "ray/_private/log_monitor.py"


def write_scripts(folder: Path) -> None:
    for path, text in ((WORKER, TELL), (AGENT, ASK)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="fork-", dir="/tmp"))  # short, for its socket
    write_scripts(path)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def python() -> Iterator[str]:
    """What Ray starts Python by."""
    path = Path(tempfile.mkdtemp(prefix="fork-", dir="/tmp"))
    with fork_server.launched(path) as launcher:
        yield launcher
    shutil.rmtree(path)


def told(python: str, folder: Path, *arguments: str, **options: Any) -> dict[str, Any]:
    """What a worker finds; its launcher has ended by then, or ends with it."""
    with subprocess.Popen([python, str(folder / WORKER), *arguments], stdout=subprocess.PIPE, text=True, **options) as process:
        assert process.stdout is not None
        found: dict[str, Any] = json.loads(process.stdout.readline())
        return found | {"started": process.pid}


def test_a_worker_is_a_fork_with_what_it_was_given(python: str, folder: Path) -> None:
    found = told(python, folder, "--one", "two words", env=os.environ | {"GIVEN": "yes"}, cwd="/")
    assert found["imported"]
    assert found["pid"] != found["started"]
    assert found["argv"] == [str(folder / WORKER), "--one", "two words"]
    assert (found["given"], found["folder"], found["name"]) == ("yes", "/", "__main__")
    assert found["path"] == str((folder / WORKER).parent)
    assert found["python"] == sys.executable
    assert found["threads"] == 1


def test_no_two_forks_draw_the_same_numbers(python: str, folder: Path) -> None:
    first, second = told(python, folder), told(python, folder)
    assert all(a != b for a, b in zip(first["random"], second["random"], strict=True))


def test_what_ray_watches_ends_as_its_fork_does(python: str, folder: Path) -> None:
    with subprocess.Popen([python, "-u", str(folder / AGENT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.communicate("heard\n")[0] == "heard\n"
        assert agent.returncode == 3


def test_a_fork_ends_with_what_stands_for_it(python: str, folder: Path) -> None:
    with subprocess.Popen([python, "-u", str(folder / AGENT), "--wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdin is not None and agent.stdout is not None
        agent.stdin.write("heard\n")
        agent.stdin.flush()
        assert agent.stdout.readline() == "heard\n"  # so it runs
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(60) != 0


PREPARED = """
import subprocess, sys
from pathlib import Path
from museserve.app import fork_server
fork_server.prepare()
folder = Path(sys.argv[1])
with fork_server.launched(folder) as python:
    print(subprocess.check_output([python, str(folder / sys.argv[2]), "--one"], text=True), end="", flush=True)
    print(subprocess.run([python, str(folder / sys.argv[3])], input="heard", text=True).returncode, flush=True)
print("left", flush=True)
"""


def test_a_prepared_process_is_what_is_forked(folder: Path) -> None:
    """And nothing of what it does itself goes on in its forks."""
    command = [sys.executable, "-c", PREPARED, str(folder), WORKER, AGENT]
    first, *others = subprocess.check_output(command, text=True).splitlines()
    found = json.loads(first)
    assert found["imported"] and found["threads"] == 1 and found["argv"] == [str(folder / WORKER), "--one"]
    assert others == ["heard", "3", "left"]


def test_everything_else_is_run_by_python_itself(python: str) -> None:
    code = "import sys; print(sys.executable, sys.argv[1:], 'ray' in sys.modules)"
    assert subprocess.check_output([python, "-c", code, "a b"], text=True) == f"{sys.executable} ['a b'] False\n"


def test_without_a_fork_server_python_itself_runs(tmp_path: Path) -> None:
    write_scripts(tmp_path)
    launcher = fork_server.write_launcher(tmp_path, sys.executable, tmp_path / "nobody")
    found = told(str(launcher), tmp_path)
    assert found["pid"] == found["started"]
    assert not found["imported"]


def test_forks_end_with_the_service() -> None:
    path = Path(tempfile.mkdtemp(prefix="fork-", dir="/tmp"))
    write_scripts(path)
    try:
        with fork_server.launched(path) as launcher:
            agent = subprocess.Popen([launcher, str(path / AGENT), "--wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert agent.stdin is not None and agent.stdout is not None
            agent.stdin.write("heard\n")
            agent.stdin.flush()
            agent.stdout.readline()
            servers = [child for child in psutil.Process().children() if "museserve.app.fork_server" in child.cmdline()]
            ((server, fork),) = [(server, fork) for server in servers for fork in server.children()]
        assert not fork.is_running()
        assert not server.is_running()
        agent.communicate()
    finally:
        shutil.rmtree(path)


@pytest.mark.parametrize(
    ("before", "why"),
    [
        ("from ray import WorkerID; WorkerID.from_random()", "two forks draw the same numbers"),
        ("import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()", "2 threads run"),
    ],
)
def test_a_process_whose_forks_would_not_be_whole_forks_nothing(before: str, why: str) -> None:
    code = f"{before}; from museserve.app.fork_server import check; check()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | cpu.ONE_THREAD_EACH, check=False)
    assert ended.returncode == 1
    assert why in ended.stderr
