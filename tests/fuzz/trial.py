"""Mutants through a target in a process of its own, under limits of time and memory.

    python -m tests.fuzz.trial TARGET FIRST COUNT [--seconds S] [--memory-mib M]

Each mutant by its number. What raises, takes longer, takes more memory or ends the process is printed as one JSON line
{target, seed, fault}, and the next one is tried.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

SECONDS, MEMORY_MIB = 10.0, 1_024


class TooSlowError(BaseException):
    pass


def faults(target: str, first: int, count: int, seconds: float = SECONDS, memory_mib: int = MEMORY_MIB) -> Iterator[dict[str, Any]]:
    """Those of mutants `first` to `first + count`."""
    at, end = first, first + count
    while at < end:
        command = [
            sys.executable,
            "-m",
            "tests.fuzz.trial",
            target,
            str(at),
            str(end - at),
            "--child",
            f"--seconds={seconds}",
            f"--memory-mib={memory_mib}",
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
            assert child.stdout is not None
            began = at
            for line in child.stdout:
                said = json.loads(line)
                if "began" in said:
                    at = said["began"]
                else:
                    yield said
            if child.wait() == 0:
                return
        if at == began and child.returncode == 1:
            raise RuntimeError(f"{target} cannot be tried; run: {' '.join(command)}")
        yield {"target": target, "seed": at, "fault": f"the process ended with {child.returncode}"}
        at += 1


def _stop(*_: object) -> None:
    raise TooSlowError


def _child(target: str, first: int, count: int, seconds: float, memory_mib: int) -> None:
    from tests.fuzz.mutants import mutant, seeds
    from tests.fuzz.targets import TARGETS

    run = TARGETS[target]
    for seed in seeds(target):  # loads what is loaded once; the corpus itself holds
        run(seed)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 0
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + memory_mib * 2**20,) * 2)
    signal.signal(signal.SIGPROF, _stop)  # processor time: the machine may be busy
    for number in range(first, first + count):
        data = mutant(target, number)
        print(json.dumps({"began": number}), flush=True)
        began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, seconds)
        fault = ""
        try:
            run(data)
        except TooSlowError:
            fault = f"stopped after {seconds:g} s"
        except BaseException as error:
            fault = "".join(traceback.format_exception(error))[-2_000:]
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if not fault and time.process_time() - began > seconds:
            fault = f"took {time.process_time() - began:.1f} s"
        if fault:
            print(json.dumps({"target": target, "seed": number, "fault": fault}), flush=True)
    sys.stdout.flush()
    os._exit(0)  # no clearing up under the limit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--memory-mib", type=int, default=MEMORY_MIB)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        _child(args.target, args.first, args.count, args.seconds, args.memory_mib)
    found = 0
    for fault in faults(args.target, args.first, args.count, args.seconds, args.memory_mib):
        print(json.dumps(fault), flush=True)
        found += 1
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
