"""One utterance followed through all deployments, by what they log and by its trace, on a real service."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from configs.models import SPANS_DIR
from tests.conftest import CONFIG, Service, start, stop
from tests.live import Live

pytestmark = pytest.mark.serve

DEPLOYMENTS = {"Ingress", "Mux", "TTS", "LipSync"}
OVER_HTTP, IN_A_SESSION = "Marmalade follows the zebra.", "Pumpernickel for everybody."
SPOKEN = re.compile("|".join(re.findall(r"\w{5,}", f"{OVER_HTTP} {IN_A_SESSION}")), re.I)
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE[::-1]}-{PARENT}-00"


def config(log_format: str, **tracing: object) -> dict[str, Any]:
    server = {**CONFIG["server"], "log_format": log_format, "log_level": "DEBUG"}
    return {**CONFIG, "server": server, "tracing": tracing}


@dataclass
class Watched:
    """A service that has spoken twice, and what it left behind."""

    logs: Path
    utterance: str = ""
    unsampled: str = ""
    session: str = ""
    spans: list[dict[str, Any]] = field(default_factory=list)

    def lines(self) -> dict[str, list[str]]:
        """By deployment."""
        found: dict[str, list[str]] = {}
        for path in self.logs.glob("replica_museserve_*.log"):
            found.setdefault(path.name.split("_")[2], []).extend(path.read_text(encoding="utf-8").splitlines())
        return found

    def records(self) -> dict[str, list[dict[str, Any]]]:
        return {deployment: [json.loads(line) for line in lines] for deployment, lines in self.lines().items()}


def speak(service: Service, watched: Watched) -> None:
    def film(text: str, traceparent: str) -> str:
        headers = {"traceparent": traceparent, "X-Request-Id": f"asked-{traceparent[-2:]}"}
        answer = httpx.post(f"{service.url}/v1/videos", json={"text": text}, headers=headers, timeout=60).raise_for_status()
        return answer.headers["X-Utterance-Id"]

    async def converse() -> None:
        async with Live(service.url) as live:
            watched.session = (await live.answer("ready"))["session"]
            await live.send(type="speak", id="u1", text=IN_A_SESSION)
            await live.answer("finished", "u1")

    watched.unsampled = film(f"Again: {OVER_HTTP}", NOT_SAMPLED)
    watched.utterance = film(OVER_HTTP, SAMPLED)
    asyncio.run(converse())


def until(found: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not found() and time.monotonic() < deadline:
        time.sleep(0.2)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """JSON logs from DEBUG on, every request traced into files."""
    tmp = tmp_path_factory.mktemp("watched")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MUSESERVE_HOME", str(tmp / "cache"))
        environment.setenv(SPANS_DIR, str(tmp / "spans"))
        process, service = start(tmp, config("json", enabled=True, exporter="file", sampling_ratio=1.0))
    try:
        (logs,) = (tmp / "cache" / "logs").iterdir()
        result = Watched(logs)
        speak(service, result)

        def read() -> list[dict[str, Any]]:
            return [json.loads(line) for path in (tmp / "spans").glob("*.jsonl") for line in path.read_text().splitlines(True) if line.endswith("\n")]

        until(lambda: any(span["name"] == "utterance" and span["attributes"].get("museserve.session_id") for span in read()))
        result.spans = read()
        yield result
    finally:
        stop(process)


def of_utterance(records: dict[str, list[dict[str, Any]]], utterance: str) -> dict[str, list[dict[str, Any]]]:
    return {deployment: kept for deployment, all_ in records.items() if (kept := [r for r in all_ if r.get("utterance_id") == utterance])}


def test_one_utterance_is_followed_by_its_id(watched: Watched) -> None:
    found = of_utterance(watched.records(), watched.utterance)
    assert found.keys() == DEPLOYMENTS
    for records in found.values():
        assert {record["request_id"] for record in records} == {"asked-01"}
        assert not any("session_id" in record for record in records)


def test_an_utterance_of_a_session_has_both_ids(watched: Watched) -> None:
    records = watched.records()
    (utterance,) = {r["utterance_id"] for r in records["Mux"] if r.get("session_id") == watched.session}
    found = of_utterance(records, utterance)
    assert found.keys() == DEPLOYMENTS
    assert {r["session_id"] for all_ in found.values() for r in all_} == {watched.session}
    assert len({r["request_id"] for name in DEPLOYMENTS - {"Ingress"} for r in found[name]}) == 1


def test_nothing_that_is_spoken_is_logged_or_traced(watched: Watched) -> None:
    lines = [line for path in watched.logs.glob("*.log") for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) > 50 and not [line for line in lines if SPOKEN.search(line)]
    assert watched.spans and not SPOKEN.search(json.dumps(watched.spans))


def tree(watched: Watched, utterance: str) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Spans of the trace of an utterance by their id, and those of them that are ours."""
    ours = [span for span in watched.spans if span["attributes"].get("museserve.utterance_id") == utterance]
    (trace,) = {span["context"]["trace_id"] for span in ours}
    return {span["context"]["span_id"]: span for span in watched.spans if span["context"]["trace_id"] == trace}, ours


def above(span: dict[str, Any], spans: dict[str, dict[str, Any]]) -> list[str]:
    """Names of the spans above, from the next to the root."""
    names = []
    while (parent := spans.get(span["parent_id"])) is not None:
        names.append(parent["name"])
        span = parent
    return names


UP_TO_MUX = ["replica_handle_request Mux stream", "route_to_replica Mux stream", "utterance"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("synthesize", ["replica_handle_request TTS stream", "route_to_replica TTS stream", *UP_TO_MUX]),
        ("listen", ["replica_handle_request LipSync listen", "route_to_replica LipSync listen", *UP_TO_MUX]),
        ("render", ["replica_handle_request LipSync render", "route_to_replica LipSync render", *UP_TO_MUX]),
        ("encode", UP_TO_MUX),
    ],
)
def test_a_trace_has_every_stage_below_its_request(watched: Watched, name: str, expected: list[str]) -> None:
    spans, ours = tree(watched, watched.utterance)
    stages = [span for span in ours if span["name"] == name]
    assert stages
    for span in stages:
        assert above(span, spans) == [*expected, "replica_handle_request Ingress __call__"]
        assert span["end_time"] >= span["start_time"]


def test_who_asks_with_a_traceparent_is_the_parent(watched: Watched) -> None:
    spans, _ = tree(watched, watched.utterance)
    (root,) = [span for span in spans.values() if span["parent_id"] not in spans]
    assert (root["context"]["trace_id"], root["parent_id"]) == (f"0x{TRACE}", f"0x{PARENT}")
    assert root["resource"]["attributes"]["service.name"] == "museserve"
    assert {span["attributes"]["deployment"] for span in spans.values() if "deployment" in span["attributes"]} == DEPLOYMENTS


def test_an_utterance_of_a_session_is_a_trace_of_its_own(watched: Watched) -> None:
    (utterance,) = {s["attributes"]["museserve.utterance_id"] for s in watched.spans if s["attributes"].get("museserve.session_id")}
    spans, ours = tree(watched, utterance)
    (root,) = [span for span in spans.values() if span["parent_id"] not in spans]
    assert root["name"] == "utterance" and root["attributes"]["museserve.session_id"] == watched.session
    assert {"synthesize", "listen", "render", "encode"} <= {span["name"] for span in ours}


def test_a_request_that_is_not_sampled_leaves_no_piece_of_a_trace(watched: Watched) -> None:
    """Serve alone would begin one in each deployment."""
    assert of_utterance(watched.records(), watched.unsampled).keys() == DEPLOYMENTS
    assert watched.unsampled not in json.dumps(watched.spans)
    ends = {span["name"] for span in watched.spans if span["parent_id"] is None}
    assert ends <= {"replica_handle_request Ingress __call__", "utterance"}


def test_spans_tell_frames_engine_and_the_first_fragment(watched: Watched) -> None:
    spans, ours = tree(watched, watched.utterance)
    (mux,) = [span for span in spans.values() if span["name"] == "replica_handle_request Mux stream"]
    (event,) = [event for event in mux["events"] if event["name"] == "first fragment"]
    assert {"museserve.tts_ms", "museserve.render_ms", "museserve.first_fragment_ms"} <= event["attributes"].keys()
    frames = mux["attributes"]["museserve.frames"]
    assert sum(span["attributes"]["museserve.frames"] for span in ours if span["name"] == "encode") == frames
    rendered = [span["attributes"] for span in ours if span["name"] == "render"]
    assert sum(one["museserve.frames"] for one in rendered) == mux["attributes"]["museserve.speaking_frames"] <= frames
    assert all(one["museserve.engine"] == "animator" and one["museserve.queue_ms"] >= 0 and one["museserve.batch_frames"] for one in rendered)
    (spoken,) = [span for span in ours if span["name"] == "synthesize"]
    assert spoken["attributes"]["museserve.engine"] != "none" and [event["name"] for event in spoken["events"]] == ["first chunk"]
