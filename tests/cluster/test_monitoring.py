"""Rules, scrape configuration and dashboard: by promtool, and by a real Prometheus that scrapes the running service."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from museserve.app import top
from museserve.app.top import report
from museserve.errors import RequestError
from tests.cluster.programs import CLUSTER, output, program
from tests.conftest import Service, free_port
from tests.live import Live
from tests.metrics import ports

MONITORING = CLUSTER / "monitoring"
RULES = [rule for group in yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
PANELS = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
TARGETS = [(panel["title"], target["expr"]) for panel in PANELS for target in panel.get("targets", ())]
QUERIES = [(title, expr.replace("$__rate_interval", "1m")) for title, expr in TARGETS]
EXPRESSIONS = [*(expr for _, expr in QUERIES), *(rule["expr"] for rule in RULES)]
ADDED_LABELS = {"le", "application", "deployment", "replica", "instance", "job"}  # by Ray, Prometheus and histograms
NEEDS_A_CARD = {"ray_node_gpus_utilization", "ray_node_gram_used", "ray_node_gram_available"}


def names(prefix: str) -> set[str]:
    """Of all metrics in queries and rules."""
    return {name for expr in EXPRESSIONS for name in re.findall(rf"\b{prefix}[\w:]*", expr)}


class Metric:
    def _record(self, value: float, tags: dict[str, str]) -> None:
        """Nothing is counted."""


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, ...]]:
    """Every sample's name that the project's metrics can have, with its labels."""
    from ray.serve import metrics

    samples: dict[str, tuple[str, ...]] = {}

    def kind(*suffixes: str) -> Any:
        def declare(name: str, *_: object, tag_keys: tuple[str, ...] = ()) -> Metric:
            samples.update({f"ray_{name}{suffix}": tag_keys for suffix in suffixes})
            return Metric()

        return declare

    monkeypatch.setattr(metrics, "Counter", kind("_total"))
    monkeypatch.setattr(metrics, "Gauge", kind(""))
    monkeypatch.setattr(metrics, "Histogram", kind("_bucket", "_count", "_sum"))
    from deployments.ingress.sessions.metrics import SessionMetrics
    from deployments.metrics import LipSyncMetrics, MuxMetrics, TTSMetrics

    for made in (MuxMetrics, LipSyncMetrics, TTSMetrics, SessionMetrics):
        made()
    return samples


def test_queries_name_metrics_and_labels_that_are_declared(declared: dict[str, tuple[str, ...]]) -> None:
    assert names("ray_museserve_") <= declared.keys()
    for expr in EXPRESSIONS:
        for name, matchers in re.findall(r"(ray_museserve_\w+)\{([^}]*)\}", expr):
            assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= {*declared[name], *ADDED_LABELS}, expr
        for labels, name in re.findall(r"by \(([^)]*)\) \((?:rate\()?(ray_museserve_\w+)", expr):
            assert set(re.findall(r"\w+", labels)) <= {*declared[name], *ADDED_LABELS}, expr


def test_no_query_takes_a_mean() -> None:
    """The sums of Ray's histograms are those of their buckets' middles."""
    assert not [name for name in names("ray_") if name.endswith("_sum")]


def test_everything_declared_is_on_the_dashboard(declared: dict[str, tuple[str, ...]]) -> None:
    """Directly or by a rule; of a histogram its buckets."""
    assert {name for name in declared if not name.endswith(("_sum", "_count"))} == names("ray_museserve_")


def test_recorded_names_are_those_of_rules() -> None:
    assert names("museserve:") <= {rule.get("record") for rule in RULES}


def test_each_alert_says_what_is_wrong_and_where_to_read_on() -> None:
    _, alerts = (CLUSTER.parent / "docs/operations.md").read_text().split("\n## Alerts\n")
    headings = re.findall(r"^### (\w+)$", alerts, re.M)
    assert sorted(headings) == sorted(rule["alert"] for rule in ALERTS)
    for rule in ALERTS:
        assert rule["for"] and rule["labels"]["severity"] in {"warning", "critical"} and rule["annotations"]["summary"]
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_panels_do_not_overlap() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


def test_promtool_accepts_rules_and_configuration() -> None:
    output("promtool", "check", "config", MONITORING / "prometheus.yml")
    output("promtool", "test", "rules", MONITORING / "rules_test.yaml")


class Prometheus:
    """The API of a running one."""

    def __init__(self, url: str) -> None:
        self.url, self._api = url, f"{url}/api/v1"
        self.missing: list[str] = []

    def read(self, path: str, **query: str) -> Any:
        """Raises AssertionError with Prometheus' own words when it refuses."""
        answer = httpx.get(f"{self._api}/{path}", params=query, timeout=10).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def is_ready(self) -> bool:
        """Every target answered, what `_speak` spoke is counted, and rules were evaluated over it."""
        wanted = (
            'sum(ray_museserve_utterances_total{outcome="finished"}) >= 2',
            'sum(ray_museserve_session_utterances_total{outcome="finished"}) >= 1',
            "ray_museserve_sessions",
            "museserve:live_utterances:per_replica",
        )
        try:
            targets = self.read("targets")["activeTargets"]
            self.missing = [target["scrapeUrl"] for target in targets if target["health"] != "up"]
            self.missing += [name for name in wanted if not self.read("query", query=name)["result"]]
        except httpx.HTTPError as error:
            self.missing = [str(error)]
        return not self.missing


@pytest.fixture(scope="module")
def prometheus(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """By the project's configuration, with this service's ports and no pauses."""
    folder = tmp_path_factory.mktemp("prometheus")
    there = ports(service)
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "2s", "evaluation_interval": "2s"}
    config["rule_files"] = [str(MONITORING / "rules.yaml")]
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in there[job["job_name"]]]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    options = ("--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={address}")
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([program("prometheus"), *options], cwd=folder, stdout=out, stderr=subprocess.STDOUT)
    try:
        asyncio.run(_speak(service))
        running = Prometheus(f"http://{address}")
        deadline = time.monotonic() + 60
        while not running.is_ready():
            assert process.poll() is None and time.monotonic() < deadline, (running.missing, log.read_text()[-4000:])
            time.sleep(1)
        yield running
    finally:
        process.terminate()
        process.wait(20)


async def _speak(service: Service) -> None:
    """One film and one utterance of a session, so that there is something to count."""
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        (await client.post("/v1/videos", json={"text": "What is counted?", "stream": False})).raise_for_status()
    async with Live(service.url) as live:
        await live.answer("ready")
        await live.send(type="speak", id="u1", text="This, too.")
        await live.answer("finished", "u1")


@pytest.mark.serve
def test_prometheus_answers_every_query_of_the_dashboard(prometheus: Prometheus) -> None:
    answers = {title: prometheus.read("query", query=expr)["result"] for title, expr in QUERIES}
    assert answers["Live utterances"] and answers["Replicas, healthy"] and answers["HAProxy: connections"]


@pytest.mark.serve
def test_counters_are_there_before_anything_is_counted(prometheus: Prometheus, declared: dict[str, tuple[str, ...]]) -> None:
    counters = {name for name in declared if name.endswith("_total")}
    assert counters <= set(prometheus.read("label/__name__/values"))
    for query, label, expected in (
        ("ray_museserve_utterances_total", "outcome", {"finished", "cancelled", "refused", "busy", "failed"}),
        ("ray_museserve_tts_errors_total", "code", {"speech_engine_failed", "bad_text"}),
    ):
        series = prometheus.read("query", query=query)["result"]
        assert {one["metric"][label] for one in series} == expected
    assert prometheus.read("query", query="ray_museserve_underruns_total")["result"]


@pytest.mark.serve
def test_top_reads_a_prometheus(prometheus: Prometheus) -> None:
    deadline = time.monotonic() + 30
    while True:  # Ray tells of a replica some time after it answers
        told = report(top.Prometheus(prometheus.url).read())
        if told["deployments"]["LipSync"]["replicas"] == 2 or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert told["utterances"]["finished"] >= 2 and told["session_utterances"]["finished"] >= 1
    assert told["first_fragment_ms"]["p95"] > 0 and told["deployments"]["LipSync"]["replicas"] == 2
    with pytest.raises(RequestError, match="nowhere/api/v1/query answered 404"):
        top.Prometheus(f"{prometheus.url}/nowhere").read()


@pytest.mark.serve
def test_prometheus_evaluates_every_rule(prometheus: Prometheus) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        rules = [rule for group in prometheus.read("rules")["groups"] for rule in group["rules"]]
        if all(rule["health"] != "unknown" for rule in rules):
            break
        time.sleep(1)
    assert {rule["name"] for rule in rules} == {rule.get("alert") or rule["record"] for rule in RULES}
    assert not [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok"]


@pytest.mark.serve
def test_rays_names_are_those_that_ray_serves(prometheus: Prometheus) -> None:
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    assert {name.removeprefix("ray_") for name in NEEDS_A_CARD} <= METRICS_GAUGES.keys()
    foreign = {name for name in names("ray_") | names("haproxy_") if not name.startswith("ray_museserve_")}
    assert foreign - NEEDS_A_CARD <= set(prometheus.read("label/__name__/values"))
