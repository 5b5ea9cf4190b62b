"""The clients of the cluster's benchmarks see what is wrong with what comes to them."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.cluster.viewers import Load, Talk, Watched, largest_gap, lateness
from benchmarks.viewer import TIMESCALE, Viewing


def fragment(at_s: float) -> bytes:
    """As much of a moof and an mdat as a viewer reads."""
    tfdt = b"tfdt" + bytes(4) + round(at_s * TIMESCALE).to_bytes(4, "big")
    return (8 + len(tfdt)).to_bytes(4, "big") + b"moof" + tfdt + (8).to_bytes(4, "big") + b"mdat"


@contextmanager
def answering(*parts: bytes | int) -> Iterator[str]:
    """A server that sends these as a chunked body; the first number is a status, and a body that ends in one is not ended."""

    class Answer(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(next((part for part in parts if isinstance(part, int) and part), 200))
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Retry-After", "0.05")
            self.end_headers()
            for part in parts:
                if isinstance(part, bytes):
                    self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            if parts[-1] != 0:
                self.wfile.write(b"0\r\n\r\n")
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


FRAGMENTS = (fragment(0.0), fragment(0.08), fragment(0.32), fragment(0.64))
END = (8).to_bytes(4, "big") + b"mfra"


@pytest.mark.parametrize(
    ("parts", "seen"),
    [
        ((*FRAGMENTS, END), {"whole": 1}),
        (FRAGMENTS, {"cut": 1}),
        ((*FRAGMENTS, 0), {"cut": 1}),
        ((500, b"no"), {"refused": 1}),
        ((*FRAGMENTS[:2], FRAGMENTS[3], END), {"jumps": 1}),
        ((*FRAGMENTS, FRAGMENTS[3], END), {"jumps": 1}),
    ],
    ids=["whole", "cut", "the connection is lost", "refused", "a fragment is missing", "a fragment came twice"],
)
def test_a_stream_is_told_by_how_it_ends(parts: tuple[bytes | int, ...], seen: dict[str, int]) -> None:
    with answering(*parts) as url:
        load = Load([url])
        load.streams(1)
        load.wait()
    report = load.report()["streams"]
    kinds = ("whole", "cut", "refused", "no_room", "jumps")
    assert {name: report[name] for name in kinds} == {**dict.fromkeys(kinds, 0), **seen}


def test_who_finds_no_room_comes_back() -> None:
    with answering(503, b"busy") as url:
        load = Load([url])
        load.streams(1)
        asyncio.run(asyncio.sleep(0.4))
        load.finish()
    assert load.report()["streams"]["no_room"] >= 2


def test_frames_are_counted() -> None:
    talk = Talk("t", "", [(0.0, 0, 2), (0.1, 2, 6), (0.2, 8, 8), (0.3, 24, 8)], frames=32)
    assert (talk.got, talk.wrong()) == (16, 8)
    talk.arrivals += [(0.4, 8, 8), (0.5, 16, 8)]
    assert talk.wrong() == 8


def test_lateness_counts_from_the_first_segment() -> None:
    arrivals = [(10.0, 0.0), (10.1, 0.08), (10.2, 0.32), (10.9, 0.64)]
    assert lateness(arrivals, 0.0) == pytest.approx(10.9 - 10.1 - 0.64)
    assert lateness(arrivals, 10.95) == -1.0
    assert largest_gap([at for at, _ in arrivals], 0.0) == pytest.approx(0.7)


def test_a_film_that_nobody_sent_has_no_first_fragment() -> None:
    assert Watched("", 0.0, Viewing()).first_s is None
