"""`museserve top`: what the service does now, out of the metrics of its nodes or of a Prometheus.

Counters and histograms are told as what came to them between two readings, or since the service started.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from museserve.errors import RequestError

APPLICATION = "museserve"
TIMEOUT_S = 3.0
PIPED_COLUMNS = 120  # where there is no terminal that has a width
LISTED_S, LOOK_S = 30.0, 0.2  # longest wait for a starting service to list its nodes, and between two looks
WINDOW_S = 60.0  # replicas tell their metrics every ten seconds, so a few seconds show nothing
DEPLOYMENTS = ("Ingress", "Mux", "TTS", "LipSync", "FacePrep")
STAGES = ("avatar", "tts", "listen", "render", "encode", "first_fragment")
DISTRIBUTIONS = ("segment_wait_ms", "listen_ms", "batch_frames", "render_frame_ms", "encode_frame_ms", "tts_first_chunk_ms")
WANTED = (
    "ray_museserve_",
    *("ray_serve_deployment_", "ray_serve_replica_processing_queries", "ray_serve_autoscaling_target_replicas", "ray_serve_num_http_requests_total"),
    *("ray_node_cpu_utilization", "ray_node_mem_", "ray_node_gpus_utilization", "ray_node_gram_", "ray_component_uss_bytes"),
)

Labels = tuple[tuple[str, str], ...]
Report = dict[str, Any]


@dataclass
class Reading:
    """Every sample that was wanted, by name and labels. silent: addresses of nodes that did not answer."""

    at: float
    samples: dict[str, dict[Labels, float]] = field(default_factory=dict)
    answered: int = 0
    silent: list[str] = field(default_factory=list)

    def add(self, name: str, labels: dict[str, str], value: float) -> None:
        if labels.get("application", APPLICATION) == APPLICATION:
            series = self.samples.setdefault(name, {})
            series[tuple(sorted(labels.items()))] = value

    def since(self, before: Reading | None) -> Reading:
        """The same with what came to each counter after `before`; one that began anew counts from zero."""
        if before is None:
            return self
        later = Reading(self.at, {}, self.answered, self.silent)
        for name, series in self.samples.items():
            if name.endswith(("_total", "_bucket", "_sum", "_count")):
                old = before.samples.get(name, {})
                series = {labels: value - old.get(labels, 0.0) if value >= old.get(labels, 0.0) else value for labels, value in series.items()}
            later.samples[name] = series
        return later

    def by(self, label: str, name: str, **having: str) -> dict[str, float]:
        """Sums by the value of a label."""
        sums: dict[str, float] = {}
        for labels, value in self.samples.get(name, {}).items():
            known = dict(labels)
            if all(known.get(key) == wanted for key, wanted in having.items()):
                sums[known.get(label, "")] = sums.get(known.get(label, ""), 0.0) + value
        return sums

    def sum(self, name: str, **having: str) -> float:
        return sum(self.by("", name, **having).values())

    def quantiles(self, name: str, scale: float = 1.0, **having: str) -> Report:
        """{count, p50, p95} of a histogram; all but the count are None when nothing came. scale: multiplies."""
        count = self.sum(f"{name}_count", **having)
        if not count:
            return {"count": 0, "p50": None, "p95": None}
        bounds = sorted((float(le), n) for le, n in self.by("le", f"{name}_bucket", **having).items())
        return {"count": round(count), **{f"p{q}": scale * quantile(q / 100, bounds) for q in (50, 95)}}


def quantile(q: float, bounds: Sequence[tuple[float, float]]) -> float:
    """As PromQL's histogram_quantile: linear inside a bucket, the last finite bound beyond it. bounds: (le, count up to it), ascending."""
    wanted = q * bounds[-1][1]
    below, seen = 0.0, 0.0
    for bound, count in bounds:
        if count >= wanted and count > seen:
            return below if bound == float("inf") else below + (bound - below) * (wanted - seen) / (count - seen)
        below, seen = (below if bound == float("inf") else bound), count
    return below


# --- where readings come from --------------------------------------------------------------------------------------------


class Source(Protocol):
    name: str

    def read(self) -> Reading:
        """Raises RequestError when nothing answers."""
        ...


class Nodes:
    """The metrics of every node. targets: asked for anew each time, as nodes come and go. Raises RequestError."""

    def __init__(self, name: str, targets: Callable[[], Iterable[str]]) -> None:
        self.name, self._targets = name, targets
        self._client, self._pool = httpx2.Client(timeout=TIMEOUT_S), ThreadPoolExecutor(8)

    def read(self) -> Reading:
        reading = Reading(time.time())
        urls = list(self._targets())
        for url, text in zip(urls, self._pool.map(self._text, urls), strict=True):
            if text is None:
                reading.silent.append(url)
                continue
            reading.answered += 1
            lines = "\n".join(line for line in text.splitlines() if line.startswith(WANTED))
            for family in text_string_to_metric_families(f"{lines}\n"):
                for sample in family.samples:
                    reading.add(sample.name, sample.labels, sample.value)
        if not reading.answered:
            raise RequestError(f"{self.name}: none of {len(urls)} nodes answers; is the service running?")
        return reading

    def _text(self, url: str) -> str | None:
        try:
            return self._client.get(url).raise_for_status().text
        except httpx2.HTTPError:
            return None


class Prometheus:
    """The newest of what a Prometheus has scraped."""

    def __init__(self, url: str) -> None:
        self.name, self._api = url, f"{url.rstrip('/')}/api/v1/query"
        self._query = f'{{__name__=~"({"|".join(WANTED)}).*"}}'

    def read(self) -> Reading:
        data = _asked(self._api, query=self._query)
        reading = Reading(time.time(), answered=1)
        try:
            for series in data["data"]["result"]:
                labels = {key: value for key, value in series["metric"].items() if key not in ("__name__", "job")}
                reading.add(series["metric"]["__name__"], labels, float(series["value"][1]))
        except (KeyError, TypeError):
            raise RequestError(f"{self.name} is no Prometheus: its answer is of another form") from None
        return reading


def source_of(urls: Sequence[str], prometheus: str, files: Sequence[Path]) -> Source:
    """urls: nodes' metrics (.../metrics) or the dashboard of a head; files: Ray's lists of nodes, the first that is there.

    Raises RequestError: nothing is named, and none of the files is there.
    """
    if prometheus:
        return Prometheus(prometheus)
    if urls:
        return Nodes(", ".join(urls), lambda: dict.fromkeys(target for url in urls for target in _of_url(url)))
    over = time.monotonic() + LISTED_S
    while any(_is_coming(file) for file in files) and time.monotonic() < over:
        time.sleep(LOOK_S)
    there = next((file for file in files if file.exists()), None)
    if there is None:
        raise RequestError(
            f"neither a service of one machine nor a cluster's head runs here: {' and '.join(map(str, files))} are not there; "
            "name one with --port, --url (a worker's own http://127.0.0.1:8080/metrics, the head's dashboard) or --prometheus"
        )
    return Nodes(str(there), lambda: _of_file(there))


def _is_coming(file: Path) -> bool:
    """Whether it is the list of a service whose dashboard, which writes it, is still starting."""
    return file.is_symlink() and not file.exists() and file.readlink().parent.is_dir()


def _of_file(path: Path) -> list[str]:
    try:
        return _metrics_urls(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise RequestError(f"the service has ended: {path}: {error.strerror}") from None


def _of_url(url: str) -> list[str]:
    if not url.startswith(("http://", "https://")):
        raise RequestError(f"--url {url}: it must begin with http:// or https://")
    if url.endswith("/metrics"):
        return [url]
    data = _asked(f"{url.rstrip('/')}/api/prometheus/sd")
    try:
        return _metrics_urls(data)
    except (KeyError, TypeError):
        raise RequestError(f"{url} is no dashboard of Ray; name it (http://HEAD:8265), or a node's metrics (http://NODE:8080/metrics)") from None


def _metrics_urls(discovery: Any) -> list[str]:
    return [f"http://{target}/metrics" for group in discovery for target in group["targets"]]


def _asked(url: str, **query: str) -> Any:
    """JSON. Raises RequestError in one line."""
    token = os.environ.get("RAY_AUTH_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token and "query" not in query else {}
    try:
        return httpx2.get(url, params=query, headers=headers, timeout=TIMEOUT_S).raise_for_status().json()
    except httpx2.HTTPStatusError as error:
        hint = "; its token comes from RAY_AUTH_TOKEN (`ray get-auth-token`)" if error.response.status_code in (401, 403) else ""
        raise RequestError(f"{url} answered {error.response.status_code}{hint}") from None
    except (httpx2.HTTPError, ValueError) as error:
        raise RequestError(f"{url} cannot be read: {error or type(error).__name__}") from None


# --- what is told --------------------------------------------------------------------------------------------------------


def report(now: Reading, before: Reading | None = None) -> Report:
    """Everything that `--json` has. Without `before`, counts are since the start, and rates are None.

    Raises RequestError: there are no metrics of the service.
    """
    if not any(name.startswith("ray_serve_deployment_") for name in now.samples):
        raise RequestError("what answers has no metrics of museserve; a service tells its first some ten seconds after its start")
    new = now.since(before)
    seconds = None if before is None else max(now.at - before.at, 1e-3)
    healthy = _healthy(now)
    frames = new.by("kind", "ray_museserve_frames_total")
    return {
        "window_s": seconds and round(seconds, 1),
        "nodes": _nodes(now),
        "silent": now.silent,
        "live_utterances": _gauge(now, "ray_museserve_live_utterances", healthy),
        "sessions": {
            "connected": _gauge(now, "ray_museserve_sessions", healthy, connected="yes"),
            "lost": _gauge(now, "ray_museserve_sessions", healthy, connected="no"),
            "queued_utterances": _gauge(now, "ray_museserve_session_queue", healthy),
        },
        "utterances": _counts(new.by("outcome", "ray_museserve_utterances_total")),
        "session_utterances": _counts(new.by("outcome", "ray_museserve_session_utterances_total")),
        "answers": _counts(new.by("status_code", "ray_serve_num_http_requests_total")),
        "frames": _counts(frames),
        "frames_per_s": seconds and sum(frames.values()) / seconds,
        "underruns": round(new.sum("ray_museserve_underruns_total")),
        "segment_retries": round(new.sum("ray_museserve_segment_retries_total")),
        "hedged_calls": _counts(new.by("method", "ray_museserve_hedged_calls_total")),
        "takeovers": _counts(new.by("lost", "ray_museserve_takeovers_total")),
        "session_changes": {
            said: round(new.sum(f"ray_museserve_session_{counted}_total"))
            for said, counted in (("interrupted", "interrupts"), ("resumed", "resumes"), ("told to move", "moving"), ("taken over", "taken_over"))
        },
        "speech_errors": _counts(new.by("code", "ray_museserve_tts_errors_total")),
        "cache": _counts(new.by("found", "ray_museserve_cache_total")),
        "first_fragment_ms": new.quantiles("ray_museserve_first_fragment_seconds", 1e3),
        "session_first_fragment_ms": new.quantiles("ray_museserve_session_first_fragment_seconds", 1e3),
        "stages_ms": {stage: new.quantiles("ray_museserve_stage_ms", stage=stage) for stage in STAGES},
        **{name: new.quantiles(f"ray_museserve_{name}") for name in DISTRIBUTIONS},
        "deployments": {name: _deployment(now, new, name, healthy, seconds) for name in DEPLOYMENTS},
    }


def _healthy(now: Reading) -> set[str]:
    """Replicas that run; others leave their last gauges for some minutes."""
    return {replica for replica, well in now.by("replica", "ray_serve_deployment_replica_healthy").items() if well == 1}


def _gauge(now: Reading, name: str, healthy: set[str], **having: str) -> int:
    return round(sum(value for replica, value in now.by("replica", name, **having).items() if replica in healthy))


def _deployment(now: Reading, new: Reading, name: str, healthy: set[str], seconds: float | None) -> Report:
    mine = now.by("replica", "ray_serve_deployment_replica_healthy", deployment=name)
    calls = new.sum("ray_serve_deployment_request_counter_total", deployment=name)
    errors = new.by("exception_type", "ray_serve_deployment_error_counter_total", deployment=name)
    wanted = now.samples.get("ray_serve_autoscaling_target_replicas", {})
    return {
        "replicas": len(mine.keys() & healthy),
        "wanted": round(max((value for labels, value in wanted.items() if ("deployment", name) in labels), default=0.0)),
        "working": _gauge(now, "ray_serve_replica_processing_queries", healthy, deployment=name),
        "waiting": round(now.sum("ray_serve_deployment_queued_queries", deployment=name)),
        "calls": round(calls),
        "calls_per_s": seconds and calls / seconds,
        "latency_ms": new.quantiles("ray_serve_deployment_processing_latency_ms", deployment=name),
        "errors": round(sum(errors.values()) - errors.get("CancelledError", 0)),  # whoever hangs up is no fault
        "memory_bytes": round(now.sum("ray_component_uss_bytes", Component=f"ray::ServeReplica:{APPLICATION}:{name}")),
    }


def _nodes(now: Reading) -> dict[str, Report]:
    used, total, busy = (now.by("ip", f"ray_node_{name}") for name in ("mem_used", "mem_total", "cpu_utilization"))
    return {
        ip: {
            "cpu_percent": busy.get(ip),
            "memory_used_bytes": round(used.get(ip, 0.0)),
            "memory_bytes": round(total.get(ip, 0.0)),
            "gpus": [
                {
                    "index": index,
                    "busy_percent": percent,
                    "memory_used_mb": now.sum("ray_node_gram_used", ip=ip, GpuIndex=index),
                    "memory_free_mb": now.sum("ray_node_gram_available", ip=ip, GpuIndex=index),
                }
                for index, percent in sorted(now.by("GpuIndex", "ray_node_gpus_utilization", ip=ip).items())
            ],
        }
        for ip in sorted(busy)
    }


def _counts(sums: dict[str, float]) -> dict[str, int]:
    return {key: round(value) for key, value in sorted(sums.items())}


# --- showing it ----------------------------------------------------------------------------------------------------------


def run(source: Source, *, once: bool, as_json: bool, every_s: float) -> None:
    """Until q or Ctrl-C; with `once` a single time. Raises RequestError: nothing answers at the start, or there is no terminal."""
    from rich.console import Console

    console, readings = Console(), deque([source.read()])
    if not console.is_terminal:
        console = Console(width=PIPED_COLUMNS)
    first = report(readings[-1])
    if once:
        _print(first, source, console, as_json)
    elif as_json:
        with suppress(KeyboardInterrupt, BrokenPipeError):
            while True:
                time.sleep(every_s)
                print(json.dumps(_next(source, readings)), flush=True)
    elif not console.is_terminal:
        raise RequestError("there is no terminal to draw on; use --once or --json")
    else:
        _watch(source, readings, first, console, every_s)


def _next(source: Source, readings: deque[Reading]) -> Report:
    """A new reading against the oldest of the window."""
    readings.append(source.read())
    while readings[-1].at - readings[0].at > WINDOW_S and len(readings) > 2:
        readings.popleft()
    return report(readings[-1], readings[0])


def _print(told: Report, source: Source, console: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(told, indent=2))
    else:
        from museserve.app.top_screen import screen

        console.print(screen(told, source.name))


def _watch(source: Source, readings: deque[Reading], told: Report, console: Any, every_s: float) -> None:
    from rich.live import Live

    from museserve.app.top_screen import screen

    def shown(trouble: str = "") -> Any:
        return screen(told, source.name, trouble or "q ends it")

    with suppress(KeyboardInterrupt), _keys() as pressed, Live(shown(), console=console, screen=True, auto_refresh=False) as live:
        while not pressed(every_s):
            trouble = ""
            try:
                told = _next(source, readings)
            except RequestError as error:
                trouble = str(error)
            live.update(shown(trouble), refresh=True)


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """`pressed(seconds)` waits for so long, or until a key is pressed, and tells whether it was q."""
    if not sys.stdin.isatty():

        def slept(seconds: float) -> bool:
            time.sleep(seconds)
            return False

        yield slept
        return
    import termios
    import tty

    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)

    def pressed(seconds: float) -> bool:
        return bool(select.select([keyboard], [], [], seconds)[0]) and os.read(keyboard, 1) in (b"q", b"Q", b"")

    try:
        yield pressed
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
