"""Bytes of strangers are parsed in processes of their own: what their parsers do to memory, time and themselves stays there.

A reader is such a process. One is kept warm; it is killed, and replaced, when an answer takes too long or too much memory,
and it may die by itself. What it answers is arrays and names, never pickles, so that a parser that was taken over cannot
reach further by its answers. It runs as the same user, and may open what that user may.
"""

from __future__ import annotations

import atexit
import fcntl
import importlib
import json
import logging
import math
import os
import pickle
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from types import GeneratorType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

import museserve.errors
from museserve.errors import MuseserveError, RequestError
from museserve.runtime import cpu

logger = logging.getLogger(__name__)

ANSWER_S = 30.0  # for one array
CPU_S = 180  # for everything that is asked of one source
MEMORY_BYTES = 2 * 2**30  # beside what the process takes before
MOST_BYTES = 2**30  # of one array
MOST_READERS = 2  # at once; one of them stays
DTYPES = ("uint8", "float32")
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "TZ")  # that it is given: no keys
CODE = "from museserve.runtime import foreign; foreign.serve()"

PIPE_BYTES = 2**20  # fewer turns between both processes for an array
HEAD = struct.Struct("!IQ")  # length of the JSON, of the array


class _Broken(Exception):
    """The reader is of no use any more. Says why, for people."""


class Readers:
    """Shared by the threads of a process.

    Args:
        answer_s, memory_bytes: as the constants above.
    """

    def __init__(self, *, answer_s: float = ANSWER_S, memory_bytes: int = MEMORY_BYTES, cpu_s: int = CPU_S) -> None:
        self._answer_s, self._limits = answer_s, (memory_bytes, cpu_s)
        self._idle: list[_Reader] = []
        self._free = threading.Semaphore(MOST_READERS)
        self._lock = threading.Lock()
        self._modules: tuple[str, ...] = ()

    def warm(self, *functions: Callable[..., Any]) -> None:
        """Have a reader ready before the first source comes, with the modules of these functions."""
        with self._lock:
            self._modules = tuple(function.__module__ for function in functions)
            if not self._idle:
                self._idle.append(self._new())

    def array(self, failure: type[RequestError], what: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> NDArray[Any]:
        """The array that `function`, a public one of a module, returns in a reader.

        Raises what `function` raises of `museserve.errors`; `failure` when it breaks down, for whatever reason, or takes too much.
        """
        items = self.items(failure, what, function, *arguments, **named)
        try:
            next(items)
        except StopIteration as end:
            array: NDArray[Any] = end.value
            return array
        finally:
            items.close()
        raise TypeError(f"{function.__qualname__} gives several arrays")

    def items(
        self, failure: type[RequestError], what: str, function: Callable[..., Any], *arguments: Any, **named: Any
    ) -> Generator[NDArray[Any], None, Any]:
        """What `function`, a generator, yields and at last returns: arrays, or the fields of a dataclass as a dict. Raises as `array`."""
        with self._free:
            with self._lock:
                reader = self._idle.pop() if self._idle else None
            reader = reader or self._new()
            whole = False
            try:
                reader.ask(function, arguments, named)
                while True:
                    kind, value = reader.answer(self._answer_s)
                    if kind == "item":
                        yield value
                        continue
                    whole = True
                    if kind == "error":
                        raise _error(value, failure, what)
                    return value
            except _Broken as broken:
                logger.warning("a reader of foreign bytes was lost: %s", broken)
                raise failure(f"{what} could not be read: {broken}") from None
            finally:
                self._put_back(reader if whole else None)
                if not whole:
                    reader.kill()

    def close(self) -> None:
        with self._lock:
            while self._idle:
                self._idle.pop().kill()

    def _new(self) -> _Reader:
        return _Reader(self._limits, self._modules)

    def _put_back(self, reader: _Reader | None) -> None:
        with self._lock:
            if not self._idle:
                self._idle.append(reader or self._new())
            elif reader is not None:
                reader.kill()


class _Reader:
    """The process, as its parent has it."""

    def __init__(self, limits: tuple[int, int], modules: tuple[str, ...]) -> None:
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        known = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-c", CODE, *map(str, limits), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a file could not be written to, see `serve`; and may quote what is read
            env={**known, "PYTHONPATH": path, **cpu.ONE_THREAD_EACH},
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout.fileno()
        os.set_blocking(self._out, False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # more than this user may have
                fcntl.fcntl(self._out, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._ready = select.poll()
        self._ready.register(self._out, select.POLLIN)

    def ask(self, function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        try:
            pickle.dump((function.__module__, function.__qualname__, arguments, named), self._in)
            self._in.flush()
        except OSError:
            raise _Broken("what should read it had ended") from None

    def answer(self, within_s: float) -> tuple[str, Any]:
        until = time.monotonic() + within_s
        words, size = HEAD.unpack(self._read(HEAD.size, until))
        if words > 2**16 or size > MOST_BYTES:
            raise _Broken("what came out of it is too large")
        said = json.loads(bytes(self._read(words, until)))
        data = self._read(size, until)
        if said["kind"] == "error" or not size and "shape" not in said:
            return said["kind"], said["value"]
        dtype, shape = said["dtype"], said["shape"]
        if dtype not in DTYPES or math.prod(shape) * np.dtype(dtype).itemsize != size:
            raise _Broken("what came out of it makes no sense")
        return said["kind"], np.frombuffer(data, dtype).reshape(shape)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        with suppress(OSError):
            self._in.close()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self, n: int, until: float) -> bytearray:
        data, at = bytearray(n), 0
        view = memoryview(data)
        while at < n:
            left = until - time.monotonic()
            if left <= 0 or not self._ready.poll(left * 1e3):
                raise _Broken("it took too long")
            with suppress(BlockingIOError):
                if not (got := os.readv(self._out, [view[at:]])):
                    raise _Broken(self._ended())
                at += got
        return data

    def _ended(self) -> str:
        code = self._process.wait()
        return "it took too much of the processor's time" if code == -signal.SIGXCPU else "what read it broke down"


def _error(said: dict[str, str], failure: type[RequestError], what: str) -> MuseserveError:
    known = getattr(museserve.errors, said["name"], None)
    if isinstance(known, type) and issubclass(known, MuseserveError):
        return known(said["message"])
    logger.warning("foreign bytes could not be read: %s: %s", said["name"], said["message"])
    return failure(f"{what} could not be read" + (": it takes too much memory" if said["name"] == "MemoryError" else ""))


def serve() -> None:
    """What a reader runs, until its parent is gone."""
    memory_bytes, cpu_s = map(int, sys.argv[1:3])
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    for module in sys.argv[3:]:
        importlib.import_module(module)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # writes no file
    with open("/proc/self/statm") if sys.platform == "linux" else open(os.devnull) as statm:
        pages = statm.read().split()
    if pages:
        most = int(pages[0]) * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    while True:
        try:
            module, name, arguments, named = pickle.load(questions)
        except EOFError:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used.ru_utime + used.ru_stime) + cpu_s, resource.RLIM_INFINITY))
        try:
            made = getattr(importlib.import_module(module), name)(*arguments, **named)
            if isinstance(made, GeneratorType):
                made = _all_but_last(made, answers)
            _answer(answers, "last", made)
        except BrokenPipeError:
            return
        except Exception as error:
            _answer(answers, "error", {"name": type(error).__name__, "message": str(error)[:4_096]})
        del arguments, named
        made = None


def _all_but_last(items: Generator[Any, None, Any], answers: BinaryIO) -> Any:
    while True:
        try:
            item = next(items)
        except StopIteration as end:
            return end.value
        _answer(answers, "item", item)


def _answer(answers: BinaryIO, kind: str, value: Any) -> None:
    said: dict[str, Any] = {"kind": kind}
    data: memoryview | bytes = b""
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        said |= {"dtype": str(array.dtype), "shape": array.shape}
        data = array.reshape(-1).view(np.uint8).data
    else:
        said["value"] = value if isinstance(value, dict) else vars(value)
    words = json.dumps(said).encode()
    answers.write(HEAD.pack(len(words), len(data)) + words)
    answers.write(data)
    answers.flush()


READERS = Readers()
atexit.register(READERS.close)
