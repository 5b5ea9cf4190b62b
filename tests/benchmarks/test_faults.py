"""The harness of faults: a plan is made by its seed, the line to a store does what its mode says, and growth is seen above the noise."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from pyarrow.fs import LocalFileSystem

from benchmarks.faults.inject import Injector, small_disk
from benchmarks.faults.line import Mode, StoreLine
from benchmarks.faults.observe import memory_mib, trend
from benchmarks.faults.plan import KINDS, QUIET_S, Fault, plan
from benchmarks.load.clients import Service
from museserve.runtime import storage
from tests.conftest import Service as Started
from tests.object_store import ObjectStore

GET, PUT = b"GET /x HTTP/1.1\r\n\r\n", b"PUT /x HTTP/1.1\r\n\r\n"


def test_a_plan_is_made_by_its_seed() -> None:
    first = plan(1, 120, 20)
    assert first == plan(1, 120, 20) != plan(2, 120, 20)
    assert 250 < len(first) < 470 and set(KINDS) == {fault.kind for fault in first}
    assert all(QUIET_S <= fault.at_s <= 120 * 60 - QUIET_S for fault in first)
    killed = [fault.at_s for fault in first if fault.kind.startswith("kill ")]
    assert 70 * 60 < max(killed) < 80 * 60  # what lives on then tells of leaks


def test_a_plan_of_some_kinds_has_only_those() -> None:
    assert set(Counter(fault.kind for fault in plan(3, 60, 20, {"kill Mux": 1, "disk full": 1}))) == {"kill Mux", "disk full"}


async def asked(line: StoreLine, request: bytes, seconds: float = 2.0) -> bytes | None:
    """The first bytes of the answer; empty when it is cut, None when nothing comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(1_000), seconds)
    except (asyncio.TimeoutError, TimeoutError):
        return None
    except OSError:
        return b""
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@pytest.fixture
async def line():
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"got " + await reader.read(1_000))
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    made = StoreLine(server.sockets[0].getsockname()[1])
    await made.start()
    yield made
    await made.close()
    server.close()


@pytest.mark.parametrize(
    ("mode", "get", "put"),
    [
        ("whole", b"got GET", b"got PUT"),
        ("slow", b"got GET", b"got PUT"),
        ("full", b"got GET", b"HTTP/1.1 507"),
        ("failing", b"HTTP/1.1 500", b"HTTP/1.1 500"),
        ("absent", b"", b""),
        ("silent", None, None),
    ],
)
async def test_what_a_line_does(line: StoreLine, mode: Mode, get: bytes | None, put: bytes | None) -> None:
    line.mode = mode
    for request, wanted in ((GET, get), (PUT, put)):
        answer = await asked(line, request)
        assert answer is None if wanted is None else answer is not None and answer.startswith(wanted) and bool(answer) == bool(wanted)
    line.mode = "whole"
    assert (await asked(line, GET) or b"").startswith(b"got")


async def test_what_waits_on_a_silent_line_goes_on(line: StoreLine) -> None:
    line.mode = "silent"
    waiting = asyncio.create_task(asked(line, GET, 10))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    line.mode = "whole"
    assert (await waiting or b"").startswith(b"got")


async def test_a_store_that_is_full_can_be_read_and_not_written(moto: ObjectStore, s3_keys: None) -> None:
    made = StoreLine(moto.port)
    await made.start()
    store, _ = storage.resolve(moto.uri(moto.new_bucket()).replace(str(moto.port), str(made.port)), Path(), "cache.uri")
    bucket = moto.new_bucket()

    def write(text: bytes) -> None:
        with store.open_output_stream(f"{bucket}/a") as out:
            out.write(text)

    def read() -> bytes:
        with store.open_input_stream(f"{bucket}/a") as stream:
            return bytes(stream.read())

    await asyncio.to_thread(write, b"first")
    made.mode = "full"
    with pytest.raises(OSError):
        await asyncio.to_thread(write, b"second")
    assert await asyncio.to_thread(read) == b"first"
    made.mode = "whole"
    await asyncio.to_thread(write, b"third")
    assert await asyncio.to_thread(read) == b"third"
    await made.close()


async def test_entries_of_the_cache_are_damaged_in_place(moto: ObjectStore, s3_keys: None) -> None:
    store, bucket = moto.filesystem(), moto.new_bucket()
    for n in range(8):
        with store.open_output_stream(f"{bucket}/cache/k/{n}") as out:
            out.write(bytes(200))
    injector = Injector(Service(""), Started("", 0, Path(), Path(), Path()), StoreLine(0), store, bucket, None)
    await injector.happen(Fault("corrupt cache", 0.0, 1.0, 7), lambda: 3.0)
    assert injector.done[0]["what"] == "5 of 8 entries"
    found = []
    for n in range(8):
        with store.open_input_stream(f"{bucket}/cache/k/{n}") as stream:
            found.append(bytes(stream.read()))
    assert sum(data != bytes(200) for data in found) == 5


async def test_a_full_disk_is_full_and_then_is_not(tmp_path: Path) -> None:
    with small_disk(tmp_path, 16 * 2**20) as disk:
        if disk is None:
            pytest.skip("no file system may be mounted here")
        injector = Injector(Service(""), Started("", 0, Path(), Path(), Path()), StoreLine(0), LocalFileSystem(), "", disk)
        happening = asyncio.create_task(injector.happen(Fault("disk full", 0.0, 1.0, 7), lambda: 3.0))
        await asyncio.sleep(0.5)
        with pytest.raises(OSError, match="No space left"):
            (disk / "a").write_bytes(bytes(2**20))
        await happening
        (disk / "a").write_bytes(bytes(2**20))
        assert not (disk / "filler").exists()


def samples(growth_mib_h: float, level: float, seed: int, n: int = 240) -> list[tuple[float, float]]:
    """Twenty minutes of a process whose memory goes up and down by itself."""
    dice, value, found = np.random.default_rng(seed), 0.0, []
    for k in range(n):
        value = 0.8 * value + float(dice.normal(0, 2))
        found.append((5.0 * k, level + value + growth_mib_h * 5.0 * k / 3_600))
    return found


def test_growth_is_seen_over_processes_of_different_sizes() -> None:
    grown = trend([samples(120, 300, 1), samples(120, 500, 2)])
    assert grown["low"] > 60 and grown["low"] < 120 < grown["high"]


def test_memory_is_what_a_process_made_and_not_what_it_mapped(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(64 * 2**20))
    before = memory_mib(psutil.Process())
    mapped = np.memmap(tmp_path / "file", mode="r")
    assert int(mapped[::4_096].sum()) == 0 and memory_mib(psutil.Process()) < before + 16
    made = np.ones(64 * 2**20, np.uint8)
    assert memory_mib(psutil.Process()) > before + 48 and made.size


def test_noise_is_not_growth() -> None:
    wrong = sum(not (each["low"] <= 0 <= each["high"]) for each in (trend([samples(0, 300, seed)]) for seed in range(60)))
    assert wrong <= 12  # one in twenty is meant; the correction is a rough one
