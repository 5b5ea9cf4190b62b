"""A file comes whole and checked or not at all, whatever the server, the line and the disk do."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from museserve.errors import WeightsError
from museserve.runtime.storage import locked
from museserve.weights.transfer import MAX_ATTEMPTS, PART, RemoteFile, fetch
from tests.museserve.weights.file_server import FileServer, Served, file_server

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SUM = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


@pytest.fixture(scope="module")
def running() -> Iterator[FileServer]:
    with file_server() as started:
        yield started


@pytest.fixture
def server(running: FileServer) -> FileServer:
    running.files = {"/f": Served(CONTENT)}
    running.asked, running.tokens, running.sent = [], [], 0
    return running


def remote(server: FileServer, path: str = "/f", **changed: object) -> RemoteFile:
    known = {"bytes": len(CONTENT), "sha256": SUM, "version": SUM, **changed}
    return RemoteFile(server.url + path, **known)  # type: ignore[arg-type]


def bring(source: RemoteFile, target: Path, **options: object) -> str:
    return fetch(source, target, backoff_s=0.0, **options)  # type: ignore[arg-type]


def parts(target: Path) -> list[Path]:
    return sorted(target.parent.glob(f"*{PART}"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "f.pth"


def test_a_file_comes_with_its_progress_and_leaves_nothing_else(server: FileServer, target: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    assert bring(remote(server), target, on_progress=lambda have, total: seen.append((have, total))) == SUM
    assert target.read_bytes() == CONTENT and os.listdir(target.parent) == ["f.pth"]
    assert seen[0] == (0, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT)) and seen == sorted(seen)


def test_without_known_size_or_sum_the_servers_length_counts(server: FileServer, target: Path) -> None:
    server.files["/f"].cuts = [HALF]
    assert bring(remote(server, bytes=None, sha256=None), target) == SUM
    assert server.gets("/f") == ["", f"bytes={HALF}-"]


def test_a_cut_connection_goes_on_where_it_broke_off(server: FileServer, target: Path) -> None:
    server.files["/f"].cuts = [HALF, 1_000, 0, 0]
    bring(remote(server), target)
    assert target.read_bytes() == CONTENT and server.sent == len(CONTENT)
    assert server.gets("/f") == ["", f"bytes={HALF}-", *[f"bytes={HALF + 1_000}-"] * 3]


def test_busy_servers_are_asked_again(server: FileServer, target: Path) -> None:
    server.files["/f"].statuses = [503, 429]
    bring(remote(server), target)
    assert target.read_bytes() == CONTENT


def test_a_line_that_brings_nothing_more_is_given_up_and_the_rest_comes_next_time(server: FileServer, target: Path) -> None:
    server.files["/f"].cuts = [HALF] + [0] * MAX_ATTEMPTS
    with pytest.raises(WeightsError, match=f"closed connection.*{MAX_ATTEMPTS} times in a row; {HALF:,} bytes are kept") as raised:
        bring(remote(server), target)
    assert server.url in str(raised.value)
    assert not target.exists() and [part.stat().st_size for part in parts(target)] == [HALF]
    server.files["/f"].cuts = []
    assert bring(remote(server), target) == SUM
    assert server.sent == len(CONTENT) and parts(target) == []


def test_a_killed_download_goes_on(server: FileServer, target: Path) -> None:
    server.files["/f"].cuts = [HALF, 0]
    server.files["/f"].lag_s = 0.0
    code = (
        "import sys, time, pathlib; from museserve.weights import transfer as t\n"
        f"t.fetch(t.RemoteFile(sys.argv[1], {len(CONTENT)}, {SUM!r}, {SUM!r}), pathlib.Path(sys.argv[2]), backoff_s=60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, f"{server.url}/f", str(target)])
    deadline = time.monotonic() + 60
    while not (parts(target) and parts(target)[0].stat().st_size == HALF) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    server.files["/f"].cuts = []
    assert bring(remote(server), target) == SUM and server.gets("/f")[-1] == f"bytes={HALF}-"


def test_a_server_that_cannot_resume_starts_again(server: FileServer, target: Path) -> None:
    server.files["/f"].cuts, server.files["/f"].ranges = [HALF], False
    bring(remote(server), target)
    assert target.read_bytes() == CONTENT and server.sent == HALF + len(CONTENT)


def test_a_rest_that_is_longer_than_the_file_is_dropped(server: FileServer, target: Path) -> None:
    source = remote(server, bytes=None)
    server.files["/f"].cuts = [HALF] + [0] * MAX_ATTEMPTS
    with pytest.raises(WeightsError):
        bring(source, target)
    with parts(target)[0].open("ab") as part:
        part.write(CONTENT)
    server.files["/f"].cuts = []
    bring(source, target)
    assert target.read_bytes() == CONTENT


def test_a_damaged_rest_is_fetched_once_more_from_the_start(server: FileServer, target: Path) -> None:
    server.files["/f"].cuts = [HALF] + [0] * MAX_ATTEMPTS
    with pytest.raises(WeightsError):
        bring(remote(server), target)
    parts(target)[0].write_bytes(bytes(HALF))
    server.files["/f"].cuts = []
    assert bring(remote(server), target) == SUM
    assert server.gets("/f")[-2:] == [f"bytes={HALF}-", ""] and target.read_bytes() == CONTENT


def test_the_rest_of_one_version_is_not_continued_with_another(server: FileServer, target: Path) -> None:
    server.files["/f"].cuts = [HALF] + [0] * MAX_ATTEMPTS
    with pytest.raises(WeightsError):
        bring(remote(server, bytes=None, sha256=None, version="old"), target)
    server.files["/f"] = Served(CONTENT[::-1])
    bring(remote(server, bytes=None, sha256=None, version="new"), target)
    assert target.read_bytes() == CONTENT[::-1] and parts(target) == []


def test_a_wrong_sum_is_an_error_and_leaves_what_was_there(server: FileServer, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    server.files["/f"] = Served(CONTENT[::-1])
    with pytest.raises(WeightsError, match=f"SHA-256 .* where {SUM} is expected"):
        bring(remote(server), target)
    assert target.read_bytes() == b"old" and parts(target) == []


@pytest.mark.parametrize(
    ("served", "says"),
    [
        (Served(CONTENT, statuses=[403]), "answered 403 Forbidden"),
        (Served(CONTENT[:-1]), "2,999,999 bytes where 3,000,000 are expected: it is another version"),
        (Served(b"<html>quota</html>", content_type="text/html; charset=utf-8"), "a web page where a file is expected"),
        (Served(CONTENT, redirect="/f"), "redirects"),
        (Served(CONTENT, redirect="/elsewhere"), "404 Not Found"),
    ],
)
def test_what_the_server_does_wrong_is_told_before_anything_is_kept(server: FileServer, target: Path, served: Served, says: str) -> None:
    server.files["/f"] = served
    with pytest.raises(WeightsError, match=says):
        bring(remote(server), target)
    assert not target.exists() and parts(target) == []


def test_a_missing_file_and_a_missing_server(server: FileServer, target: Path) -> None:
    with pytest.raises(WeightsError, match="/g answered 404 Not Found"):
        bring(remote(server, "/g"), target)
    with pytest.raises(WeightsError, match="http://127.0.0.1:1/f cannot be read: .*refused.*5 times in a row"):
        bring(RemoteFile("http://127.0.0.1:1/f", version="x"), target)


def test_redirects_to_another_host_keep_the_token_back(server: FileServer, target: Path) -> None:
    with file_server() as store:
        store.files["/blob"] = Served(CONTENT)
        server.files["/f"].redirect = f"{store.url}/blob"
        bring(remote(server, headers={"Authorization": "Bearer hf_x"}), target)
        assert target.read_bytes() == CONTENT
        assert server.tokens == ["Bearer hf_x"] and store.tokens == [""]


def test_two_downloaders_fetch_once(server: FileServer, target: Path) -> None:
    server.files["/f"].lag_s = 0.5
    sums: list[str] = []
    waited = threading.Event()
    first = threading.Thread(target=lambda: sums.append(bring(remote(server), target)))
    first.start()
    while not server.asked:
        time.sleep(0.01)
    sums.append(bring(remote(server), target, on_wait=waited.set))
    first.join()
    assert sums == [SUM, SUM] and len(server.asked) == 1 and waited.is_set()


def test_the_lock_is_held_by_one_at_a_time_and_leaves_no_file(tmp_path: Path) -> None:
    order: list[tuple[str, bool]] = []

    def second() -> None:
        with locked(tmp_path / "x") as waited:
            order.append(("second", waited))

    with locked(tmp_path / "x") as waited:
        order.append(("first", waited))
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append(("first", waited))
    thread.join()
    assert order == [("first", False), ("first", False), ("second", True)] and os.listdir(tmp_path) == []


def test_a_full_disk_says_so_before_and_while_writing(server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1_000})
    with monkeypatch.context() as patched:
        patched.setattr("shutil.disk_usage", lambda path: usage)
        with pytest.raises(WeightsError, match="disk is full: 3,000,000 bytes are still to come and 1,000 are free") as raised:
            bring(remote(server), target)
    assert str(target) in str(raised.value) and parts(target) == []
    # A limit on the size of files stops writing in the middle, as a disk that fills up does.
    code = (
        "import resource, sys, pathlib; from museserve.errors import WeightsError; from museserve.weights import transfer as t\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        f"try: t.fetch(t.RemoteFile(sys.argv[1], {len(CONTENT)}, {SUM!r}, {SUM!r}), pathlib.Path(sys.argv[2]))\n"
        "except WeightsError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, f"{server.url}/f", str(target)], capture_output=True, text=True, timeout=60)
    assert "cannot be written, the disk is full" in done.stdout and not target.exists(), done
    assert bring(remote(server), target) == SUM and server.gets("/f")[-1] == "bytes=1000000-"


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="there is no folder here that even root cannot write to")
def test_a_read_only_folder_says_so(server: FileServer) -> None:
    with pytest.raises(WeightsError, match="/sys/kernel/models/f.pth cannot be written: .*Choose a folder that is writable"):
        bring(remote(server), Path("/sys/kernel/models/f.pth"))
    assert server.asked == []
