"""`museserve top` against a running service, in a terminal and for scripts."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from museserve.app.cli import app
from museserve.app.top import STAGES, Labels, Reading, quantile, report, source_of
from museserve.errors import MuseserveError, RequestError
from tests.conftest import Service, free_port
from tests.live import Live
from tests.metrics import ports

TOP = (sys.executable, "-m", "museserve.app.cli", "top")


def read(*options: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["top", "--once", "--json", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def obey() -> None:
    """Ctrl-C, which a shell lets what it runs in the background ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def of(service: Service) -> tuple[str, str]:
    return "--port", service.url.rpartition(":")[2]


def until(found: Callable[[dict[str, Any]], bool], *options: str, seconds: float = 40) -> dict[str, Any]:
    """Replicas tell their metrics every ten seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            told = read(*options)
            if found(told):
                return told
            missing: object = told
        except MuseserveError as error:
            missing = error
        assert time.monotonic() < deadline, missing
        time.sleep(1)


def added(after: dict[str, Any], before: dict[str, Any], key: str, name: str) -> int:
    return int(after[key].get(name, 0) - before[key].get(name, 0))


@pytest.mark.serve
def test_its_figures_are_what_was_sent(service: Service) -> None:
    time.sleep(11)  # what others sent must have been told
    before = until(lambda told: told["deployments"]["Mux"]["replicas"] == 1, *of(service))
    with httpx.Client(base_url=service.url, timeout=60) as client:
        frames = 0
        for text in ("One is counted.", "So is another, which is longer."):
            answer = client.post("/v1/videos", json={"text": text, "captions": "link"})
            frames += pictures(answer.content)
        assert client.post("/v1/videos", json={"text": ""}).status_code == 400

    async def converse() -> dict[str, Any]:
        async with Live(service.url) as live:
            await live.answer("ready")
            await live.send(type="speak", id="u1", text="And this.")
            frames = (await live.answer("finished", "u1"))["frames"]
            sent = await asyncio.to_thread(until, lambda told: added(told, before, "session_utterances", "finished") == 1, *of(service))
            return {"frames": frames, "sessions": sent["sessions"]["connected"] - before["sessions"]["connected"]}

    spoken = asyncio.run(converse())
    assert spoken["sessions"] == 1

    def spoke(told: dict[str, Any]) -> int:
        return int(told["deployments"]["TTS"]["calls"] - before["deployments"]["TTS"]["calls"])

    def whole(told: dict[str, Any]) -> bool:
        """Each process tells its own in its own time."""
        spoken = added(told, before, "utterances", "finished") == spoke(told) == 3 and not told["live_utterances"]
        known = all(one["wanted"] == one["replicas"] and one["memory_bytes"] > 2e7 for one in told["deployments"].values())
        return spoken and known and added(told, before, "answers", "400") == 1

    after = until(whole, *of(service))
    assert sum(added(after, before, "frames", kind) for kind in ("speaking", "idle")) == frames + spoken["frames"]
    assert (added(after, before, "answers", "200"), added(after, before, "answers", "400")) == (2, 1)
    assert after["first_fragment_ms"]["count"] - before["first_fragment_ms"]["count"] == 3
    assert after["session_first_fragment_ms"]["count"] - before["session_first_fragment_ms"]["count"] == 1
    assert 0 < after["first_fragment_ms"]["p50"] <= after["first_fragment_ms"]["p95"] < 10_000
    assert after["live_utterances"] == 0 and after["window_s"] is None and after["frames_per_s"] is None
    assert {name: one["replicas"] for name, one in after["deployments"].items()} == {"Ingress": 1, "Mux": 1, "TTS": 1, "LipSync": 2, "FacePrep": 1}
    # What others asked for may have come from the cache, which has fewer stages.
    assert {stage: told["count"] - before["stages_ms"][stage]["count"] for stage, told in after["stages_ms"].items()} == dict.fromkeys(STAGES, 3)
    (node,) = after["nodes"].values()
    assert 0 < node["memory_used_bytes"] < node["memory_bytes"]


def pictures(data: bytes) -> int:
    with av.open(io.BytesIO(data), "r") as film:
        return len(list(film.decode(video=0)))


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, *options: str) -> None:
        self._ours, theirs = pty.openpty()
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "50"}
        self.process = subprocess.Popen([*TOP, *options], stdin=theirs, stdout=theirs, stderr=theirs, env=env, preexec_fn=obey)
        self.shown = ""

    def until(self, wanted: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while wanted not in self.shown:
            assert time.monotonic() < deadline and self.process.poll() is None, self.shown[-2000:]
            self._take()

    def press(self, key: str) -> None:
        os.write(self._ours, key.encode())

    def ended(self) -> int:
        status = self.process.wait(20)
        self._take()
        return status

    def settings(self) -> list[Any]:
        return termios.tcgetattr(self._theirs)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def _take(self) -> None:
        while select.select([self._ours], [], [], 0.2)[0]:
            self.shown += os.read(self._ours, 65_536).decode(errors="replace")


@pytest.mark.serve
@pytest.mark.parametrize("how", ["q", "Ctrl-C"])
def test_it_leaves_the_terminal_as_it_was(service: Service, how: str) -> None:
    until(lambda told: True, *of(service))
    terminal = Terminal(*of(service))
    try:
        terminal.until("over the last")
        assert all(name in terminal.shown for name in ("LipSync", "first fragment", "q ends it"))
        assert terminal.settings() != terminal.before
        terminal.press("x")  # means nothing
        terminal.press("q") if how == "q" else terminal.process.send_signal(signal.SIGINT)
        assert terminal.ended() == 0
        assert terminal.settings() == terminal.before
        assert terminal.shown.rindex("\x1b[?1049l") > terminal.shown.rindex("\x1b[?1049h")  # the screen of before
        assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rindex("\x1b[?25l")  # the cursor
    finally:
        terminal.close()


@pytest.mark.serve
def test_lines_for_scripts_come_with_a_window(service: Service) -> None:
    until(lambda told: True, *of(service))
    with subprocess.Popen([*TOP, "--json", "--every", "0.5", *of(service)], stdout=subprocess.PIPE, text=True, preexec_fn=obey) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert 0 < lines[0]["window_s"] < lines[1]["window_s"] and lines[1]["frames_per_s"] == 0


@pytest.mark.serve
def test_one_node_is_read_by_its_address(service: Service) -> None:
    (port,) = ports(service)["ray"]
    told = until(lambda told: True, "--url", f"http://127.0.0.1:{port}/metrics")
    assert told["deployments"]["Mux"]["replicas"] == 1 and told["silent"] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--port", "{free}"), "runs here: .*nodes.json"),
        (("--url", "http://127.0.0.1:{free}"), "http://127.0.0.1:{free}/api/prometheus/sd cannot be read: .*refused"),
        (("--url", "http://127.0.0.1:{free}/metrics"), "none of 1 nodes answers"),
        (("--prometheus", "http://127.0.0.1:{free}"), "cannot be read: .*refused"),
    ],
)
def test_what_is_away_is_told_in_one_line(options: tuple[str, str], said: str) -> None:
    free = str(free_port())
    command = [*TOP, "--once", *(option.replace("{free}", free) for option in options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert re.match(f"museserve: .*{said.replace('{free}', free)}", done.stderr)


def test_a_service_that_has_just_started_is_waited_for_and_one_that_is_gone_is_not(tmp_path: Path) -> None:
    listed, link, dead = tmp_path / "ray" / "list.json", tmp_path / "nodes.json", tmp_path / "dead.json"
    listed.parent.mkdir()
    link.symlink_to(listed)
    dead.symlink_to(tmp_path / "gone" / "list.json")
    writing = threading.Timer(0.5, listed.write_text, ("[]",))
    writing.start()
    assert source_of([], "", [dead, link]).name == str(link)
    writing.join()
    with pytest.raises(RequestError, match="are not there"):
        source_of([], "", [dead])


def test_a_service_without_viewers_has_a_report_and_no_service_has_none() -> None:
    assert report(reading(ray_serve_deployment_status={(): 3.0}))["live_utterances"] == 0
    with pytest.raises(RequestError, match="no metrics of museserve"):
        report(Reading(0.0))


def reading(at: float = 0.0, **samples: dict[tuple[tuple[str, str], ...], float]) -> Reading:
    return Reading(at, samples)


def test_counters_that_begin_anew_count_from_zero() -> None:
    one, other = (("replica", "a"),), (("replica", "b"),)
    before = reading(0.0, x_total={one: 10.0, other: 5.0}, gauge={one: 7.0})
    after = reading(4.0, x_total={one: 12.0, other: 1.0}, gauge={one: 3.0})
    new = after.since(before)
    assert new.by("replica", "x_total") == {"a": 2.0, "b": 1.0} and new.sum("gauge") == 3.0


def test_gauges_of_replicas_that_are_gone_do_not_count() -> None:
    here, gone = (("deployment", "Mux"), ("replica", "a")), (("deployment", "Mux"), ("replica", "b"))
    told = report(reading(ray_serve_deployment_replica_healthy={here: 1.0, gone: 0.0}, ray_museserve_live_utterances={here: 2.0, gone: 9.0}))
    assert told["live_utterances"] == 2 and told["deployments"]["Mux"]["replicas"] == 1


def test_whoever_hangs_up_is_no_error() -> None:
    kinds: dict[Labels, float] = {
        (("deployment", "Mux"), ("exception_type", kind)): count for kind, count in (("CancelledError", 5.0), ("RenderError", 2.0))
    }
    assert report(reading(ray_serve_deployment_error_counter_total=kinds))["deployments"]["Mux"]["errors"] == 2


def test_quantiles_are_promqls() -> None:
    bounds = [(10.0, 0.0), (20.0, 10.0), (50.0, 10.0), (float("inf"), 20.0)]
    assert [quantile(q, bounds) for q in (0.25, 0.5, 0.95)] == [15.0, 20.0, 50.0]


@given(st.lists(st.floats(0.1, 99), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_value(values: list[float], q: float) -> None:
    steps = [1.0, 5.0, 20.0, 50.0, 100.0, float("inf")]
    bounds = [(step, float(sum(value <= step for value in values))) for step in steps]
    exact = sorted(values)[max(0, -(-round(q * len(values) * 1e6) // 1_000_000) - 1)]
    upper = next(step for step in steps if exact <= step)
    lower = max([0.0, *(step for step in steps if step < upper)])
    assert lower <= quantile(q, bounds) <= upper
