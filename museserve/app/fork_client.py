"""Asks the fork server for a process, in place of starting a Python: `python -I -S fork_client.py SOCKET MODE PYTHON SCRIPT ARGUMENTS...`

Modes: go, for a parent that learns by itself which process serves it, as Ray does of its workers. stay: this process stands for the fork
while it lives, hands signals on, and ends as it did. announce: a fork says where the dashboard will be; it is then started here, behind
everything else. Where nothing forks, this becomes the Python that was wanted.

This file runs by itself, once for each process, so it imports only what starts fast and stays small.
"""

import _socket
import marshal
import os
import signal
import sys

HEAD = 4  # bytes of a length, big-endian
SCM_RIGHTS = 1
# Of the dashboard: whoever reads there can wait, who listens cannot; and each module is a process, so those of libraries that are not used here,
# Ray Data and Ray Train, are left out.
NICENESS = 10
MODULES = "UsageStatsHead,EventHead,JobHead,MetricsHead,NodeHead,ReportHead,ServeHead,StateHead"


def main(path: str, mode: str, python: str, arguments: list[str]) -> None:
    fork = asked(path, mode, arguments)
    if fork is not None and mode == "announce":
        fork[0].recv(1)  # until it is done, or has failed
        os.nice(NICENESS)
        arguments = [*arguments, f"--modules-to-load={MODULES}"]
    if fork is None or mode == "announce":
        os.execv(python, [python, *arguments])
    if mode == "stay":
        stay(*fork)


def asked(path: str, mode: str, arguments: list[str]) -> "tuple[_socket.socket, int] | None":
    """The connection, which lasts as long as the fork, and its process; None where nothing forks."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    wanted = marshal.dumps((mode, arguments, dict(os.environ), os.getcwd()))
    files = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (0, 1, 2))
    try:
        connection.connect(path)
        connection.sendmsg([len(wanted).to_bytes(HEAD, "big")], [(_socket.SOL_SOCKET, SCM_RIGHTS, files)])
        connection.sendall(wanted)
        answer = connection.recv(HEAD)
    except OSError:
        return None
    return (connection, int.from_bytes(answer, "big")) if answer else None


def stay(connection: _socket.socket, process: int) -> None:
    """Until the fork has ended."""

    def hand_on(number: int, frame: object) -> None:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            pass

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, hand_on)
    for fd in (0, 1, 2):  # the fork has them: whoever reads there shall see it end
        os.close(fd)
    status = connection.recv(1)  # nothing where it was killed
    os._exit(status[0] if status else 1)


if __name__ == "__main__":
    place, how, interpreter, *rest = sys.argv[1:]
    main(place, how, interpreter, rest)
