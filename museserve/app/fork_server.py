"""The Python processes that Ray starts, as forks of one that has imported everything already: they start at once, and share its memory.

By default each of them is a Python of its own, which takes seconds and 100 MB to import Ray, Serve and the project before it does
anything. The fork server imports them once, while Ray's other processes start. What Ray runs in place of Python (`write_launcher`) has it
fork those that `FORKED` names, and runs everything else, and whatever cannot be forked, by Python itself.

Linux alone: elsewhere system libraries do not survive a fork. What is imported before a fork may not start a thread, which the fork
would not have, nor draw a random number of Ray's, which every fork would draw again: `check` looks at both before the first one.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import logging
import marshal
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import psutil

from museserve.app import fork_client
from museserve.app.haproxy import PR_SET_PDEATHSIG
from museserve.runtime import cpu

logger = logging.getLogger(__name__)

# Ray's own, as its workers do, and every module of ours that a replica imports. What these leave to later is what starts threads, such as
# onnxruntime, and what one replica alone wants.
IMPORTS = (
    *("ray", "ray._private.workers.default_worker", "ray.serve", "ray.serve._private.controller", "ray.serve._private.replica"),
    *("ray.serve._private.proxy", "ray.serve._private.haproxy", "graph", "deployments.tracing", "pyarrow.ipc", "av", "cv2"),
    "ray.dashboard.agent",
)
PACKAGES = ("ray.dashboard.modules",)  # every module of which Ray's agent imports
# Scripts of Ray, below its folder, and the client's mode. Ray watches the processes that it has started, but for workers, which say which they
# are. It starts nothing else before it knows where the dashboard is, which takes that seconds to say.
AGENT = "dashboard/agent.py"
FORKED = {
    "_private/workers/default_worker.py": "go",
    "_private/runtime_env/agent/main.py": "stay",
    "_private/log_monitor.py": "stay",
    "autoscaler/_private/monitor.py": "stay",
    AGENT: "stay",
    "dashboard/dashboard.py": "announce",
}
ROOM = "." * 256  # in the command line, where a process writes its name: Ray's are long
SOCKET, LOG = "fork-server.sock", "fork-server.log"
# Of the fork server. Arrow's second allocator, which it does not use here, would start a thread as soon as it is loaded; and Ray's library
# reads once whose job a worker is for, which is nobody's yet as of those that Ray starts before there is one, and with which process it ends.
# There is no raylet yet, whose loss it notices by its connection, so that is the launcher.
ENVIRONMENT = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "RAY_JOB_ID": "ffffffff", "RAY_RAYLET_PID": str(os.getpid())}


@contextmanager
def launched(folder: Path | None) -> Iterator[str]:
    """A fork server for as long as this lasts; what Ray shall start Python by. Just Python where there is no folder, or no Linux.

    It is a fork of this process, and shares with it what both import, where this one has a single thread as `museserve serve` has; else it
    is a process of its own, and imports everything once more.

    folder: private, with a short path.
    """
    if folder is None or sys.platform != "linux":
        yield sys.executable
        return
    path = folder / SOCKET
    lives, ends = os.pipe()  # what the server reads ends with this process
    with socket.socket(socket.AF_UNIX) as listener, (folder / LOG).open("wb") as log:
        listener.bind(str(path))
        listener.listen(128)  # from now on who asks waits until everything is imported
        files = lives, log.fileno(), log.fileno()
        pid, wait = _forked_here(listener, files, ends, folder) if _is_prepared() else _spawned(listener, files)
    os.close(lives)
    try:
        yield str(write_launcher(folder, sys.executable, path))
    finally:
        with suppress(psutil.NoSuchProcess):
            server = psutil.Process(pid)
            _kill([*server.children(recursive=True), server])  # what Ray has not ended
        wait()
        os.close(ends)


def prepare() -> None:
    """Have forks of this process possible, before it imports anything: libraries start their threads as they are loaded."""
    if sys.platform == "linux":
        os.environ.update(cpu.ONE_THREAD_EACH | ENVIRONMENT)


def _is_prepared() -> bool:
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        return False
    import_all()
    for name in ENVIRONMENT:
        del os.environ[name]
    try:
        check()
    except RuntimeError as error:
        logger.warning("the fork server becomes a process of its own: %s", error)
        return False
    _freeze()
    return True


def _forked_here(listener: socket.socket, files: Sequence[int], ends: int, folder: Path) -> tuple[int, Callable[[], object]]:
    """Its process, and what waits for its end."""
    if pid := os.fork():
        return pid, lambda: None  # who kills it has waited
    os.close(ends)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    for fd, file in enumerate(files):
        os.dup2(file, fd)
    for fd in map(int, os.listdir("/proc/self/fd")):  # such as the lock that says this process lives: forks may outlive it by a moment
        with suppress(OSError):  # the listing's own
            if fd > 2 and os.readlink(f"/proc/self/fd/{fd}").startswith(f"{folder}/"):
                os.close(fd)
    _work(listener)


def _spawned(listener: socket.socket, files: Sequence[int]) -> tuple[int, Callable[[], object]]:
    stdin, stdout, stderr = files
    server = subprocess.Popen(
        [sys.executable, "-m", "museserve.app.fork_server", str(listener.fileno()), ROOM],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=os.environ | cpu.ONE_THREAD_EACH | ENVIRONMENT,
        pass_fds=[listener.fileno()],
        start_new_session=True,
    )
    return server.pid, server.wait


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=2)


@contextmanager
def as_python(launcher: str) -> Iterator[None]:
    """Meanwhile, Ray takes it for Python: all that its commands know is `sys.executable`."""
    python, sys.executable = sys.executable, launcher
    try:
        yield
    finally:
        sys.executable = python


def write_launcher(folder: Path, python: str, path: Path) -> Path:
    """An executable in `folder` with the command line of Python. path: of the fork server's socket."""
    launcher = folder / "python"
    client = f'exec "{python}" -I -S "{fork_client.__file__}" "{path}"'
    asks = "".join(f'*/ray/{script}) [ "$1" = -u ] && shift; {client} {mode} "{python}" "$@";;\n' for script, mode in FORKED.items())
    launcher.write_text(f'#!/bin/sh\nscript=$1\n[ "$1" = -u ] && script=$2\ncase "$script" in\n{asks}esac\nexec "{python}" "$@"\n')
    launcher.chmod(0o700)
    return launcher


def serve(listener: socket.socket) -> tuple[str, list[str], socket.socket]:
    """Answer with a fork each, until stdin ends with whoever started this.

    Returns in each fork: the client's mode, what it is to run, a script first, and what is told how it ended.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks that end leave nothing behind
    while True:
        ready, _, _ = select.select([listener.fileno(), 0], [], [])
        if 0 in ready:
            os._exit(0)
        asking, _ = listener.accept()
        with suppress(OSError):
            head, files, _, _ = socket.recv_fds(asking, fork_client.HEAD, 3)
            mode, arguments, environment, folder = marshal.loads(_received(asking, int.from_bytes(head, "big")))
            if not (fork := os.fork()):
                listener.close()
                _become(mode, files, environment, folder)
                if mode == "go":
                    asking.close()
                return mode, list(arguments), asking
            asking.sendall(fork.to_bytes(fork_client.HEAD, "big"))
        for file in files:
            os.close(file)
        asking.close()


def _freeze() -> None:
    """A collection in a fork would write to all pages that it shares."""
    gc.collect()
    gc.freeze()


def import_all() -> None:
    """Everything that a worker imports before it is told what it shall be."""
    import ray.actor
    from ray import ActorClassID

    class FromSystem(ActorClassID):
        """Serve's actors take a random name as they are imported, which would start Ray's generator."""

        @classmethod
        def from_random(cls) -> ActorClassID:  # type: ignore[override]
            return ActorClassID(os.urandom(ActorClassID.size()))

    setattr(ray.actor, "ActorClassID", FromSystem)  # noqa: B010  # it exports no such name
    try:
        for name in (*IMPORTS, *PACKAGES):
            importlib.import_module(name)
        for name in PACKAGES:
            for module in pkgutil.walk_packages(sys.modules[name].__path__, f"{name}."):
                importlib.import_module(module.name)
    finally:
        setattr(ray.actor, "ActorClassID", ActorClassID)  # noqa: B010


def check() -> None:
    """Raises RuntimeError where forks of this process would not be as good as processes of their own."""
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        raise RuntimeError(f"{threads} threads run before the first fork; one was expected")
    if _random_of_fork() == _random_of_fork():
        raise RuntimeError("two forks draw the same numbers: something has drawn one before")


def _random_of_fork() -> bytes:
    from ray import WorkerID

    read, write = os.pipe()
    if not (fork := os.fork()):
        os.write(write, WorkerID.from_random().binary())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as drawn:
        number = drawn.read()
    os.waitpid(fork, 0)
    return number


def _become(mode: str, files: list[int], environment: dict[str, str], folder: str) -> None:
    """What a process that was started, rather than forked, would have. files: stdin, stdout and stderr."""
    import numpy as np

    os.setpgid(0, 0)  # Ray ends the whole group of a worker that it has lost
    if mode == "stay":  # ends with the launcher, as Ray would have it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for fd, file in enumerate(files):
        os.dup2(file, fd)
        os.close(file)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    np.random.seed()  # Python's own does it by itself


def _run(script: str, arguments: list[str]) -> None:
    """As `python script arguments...` does."""
    sys.argv[:] = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    module = sys.modules["__main__"] = ModuleType("__main__")
    module.__file__ = script
    if script.endswith(AGENT):
        _show_raylet()
    exec(compile(Path(script).read_bytes(), script, "exec"), module.__dict__)


def _show_raylet() -> None:
    """Ray's agent, which measures the raylet, looks for it among its parents."""
    from ray.dashboard.modules.reporter.reporter_agent import ReporterAgent

    raylet = psutil.Process(int(os.environ["RAY_RAYLET_PID"]))
    ReporterAgent._get_raylet_proc = lambda self: raylet if raylet.is_running() else None  # type: ignore[method-assign]


def _announce(options: dict[str, str]) -> None:
    """Say where the dashboard of this command line will be, as it says itself once it is there."""
    from ray._private import ray_constants
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    gcs = GcsClient(address=options["gcs-address"], cluster_id=options["cluster-id-hex"])
    place = f"{options['host']}:{options['port']}".encode()
    gcs.internal_kv_put(ray_constants.DASHBOARD_ADDRESS.encode(), place, True, namespace=ray_constants.KV_NAMESPACE_DASHBOARD)


def _received(connection: socket.socket, length: int) -> bytes:
    """Raises OSError: it was closed before."""
    data = b""
    while len(data) < length:
        if not (more := connection.recv(length - len(data))):
            raise ConnectionResetError("closed before all of it came")
        data += more
    return data


def _work(listener: socket.socket) -> NoReturn:
    """Serve, and in each fork do what it is for. Nothing of whoever called this goes on in a fork, not even its `finally`."""
    mode, (script, *arguments), told = serve(listener)
    status = 1
    try:
        if mode == "announce":
            _announce(dict(word.lstrip("-").split("=", 1) for word in arguments if "=" in word))
        else:
            _run(script, arguments)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    try:  # as Python ends
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
    finally:
        with suppress(OSError):
            told.sendall(bytes([status & 255]))
        os._exit(status & 255)


def main() -> None:
    import_all()
    check()
    _freeze()
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        _work(listener)


if __name__ == "__main__":
    main()
