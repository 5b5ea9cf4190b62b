"""Spans by OpenTelemetry's own SDK, as Serve sets it up; `test_watching.py` follows them through a real service."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

import graph
from configs.models import BatchConfig, TracingConfig
from deployments import logs, tracing
from deployments.lipsync import Asked, BatchingEngine
from museserve.errors import ConfigError, EngineError
from museserve.messages import CallIds, RenderRequest
from musetalk.speech_cues.controls import N_CONTROLS
from tests.musetalk.animator.test_engine import MAN, WOMAN, animator

INGRESS = "replica_handle_request Ingress __call__"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Everything is sampled."""
    yield join(monkeypatch, 1.0)
    logs.carry(CallIds())


def join(monkeypatch: pytest.MonkeyPatch, ratio: float) -> InMemorySpanExporter:
    """As Serve does in a replica, but for the one process-wide place where it puts the provider."""
    provider, kept = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio)), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(tracing, "_tracer", None)
    tracing.join_serve()
    return kept


def tracer() -> trace.Tracer:
    return trace.get_tracer_provider().get_tracer("serve")


async def test_a_batch_is_linked_to_each_of_its_requests(spans: InMemorySpanExporter) -> None:
    engine = BatchingEngine(animator(), BatchConfig(), lambda took_ms, frames: None)
    asked = []
    for avatar, frames, name in ((WOMAN, 2, "u-1"), (MAN, 3, "u-2")):
        with tracer().start_as_current_span(INGRESS):
            logs.carry(CallIds(name, "s_1"))
            asked.append(Asked.by_this(RenderRequest(avatar, tuple(range(frames)), np.zeros((frames, N_CONTROLS), np.float32))))
    first, second = spans.get_finished_spans()
    rendered = await engine.render_batch(asked)
    assert [len(one.crops) for one in rendered] == [2, 3] and {one.batch_frames for one in rendered} == {5}
    batch = spans.get_finished_spans()[-1]
    assert batch.name == "batch" and batch.parent == first.get_span_context()
    assert [link.context for link in batch.links] == [first.get_span_context(), second.get_span_context()]
    found = dict(batch.attributes or {})
    assert (found["museserve.frames"], found["museserve.utterance_id"], found["museserve.session_id"]) == (5, "u-1,u-2", "s_1")
    waits: Any = found["museserve.queue_ms"]
    assert len(waits) == 2 and min(waits) >= 0


def test_a_trace_begins_where_requests_come_in_and_nowhere_else(spans: InMemorySpanExporter) -> None:
    for name in ("replica_handle_request Mux stream", "route_to_replica LipSync render"):
        with tracer().start_as_current_span(name), tracing.span("render"):
            pass
    assert spans.get_finished_spans() == ()
    with tracer().start_as_current_span(INGRESS), tracing.span("render"):
        pass
    assert [span.name for span in spans.get_finished_spans()] == ["render", INGRESS]


def test_what_is_not_sampled_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = join(monkeypatch, 0.0)
    with tracer().start_as_current_span(INGRESS), tracing.span("listen") as made:
        tracing.event("first fragment")
        tracing.done("encode", 0.0)
        assert tracing.here() is None and not made.is_recording()
    with tracing.span("utterance", root=True) as root, trace.use_span(root), tracer().start_as_current_span("route_to_replica Mux stream"):
        pass
    assert spans.get_finished_spans() == ()


def test_an_error_is_marked_without_its_words(spans: InMemorySpanExporter) -> None:
    with pytest.raises(EngineError), tracer().start_as_current_span(INGRESS, record_exception=False, set_status_on_exception=False):
        with tracing.span("synthesize"):
            raise EngineError("what was to be spoken")
    span = spans.get_finished_spans()[0]
    assert not span.status.is_ok and span.status.description == "EngineError" and not span.events


def test_a_collector_receives_spans_by_otlp(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[tuple[str, ExportTraceServiceRequest]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            received.append((self.path, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "")  # so that what is set now is put back
        monkeypatch.delenv("OTEL_SERVICE_NAME")
        (processor,) = tracing.otlp()
        provider = TracerProvider()
        provider.add_span_processor(processor)
        with provider.get_tracer("serve").start_as_current_span(INGRESS):
            pass
        assert provider.force_flush()
        provider.shutdown()
        server.shutdown()
    ((path, request),) = received
    (resource,) = request.resource_spans
    assert path == "/v1/traces" and resource.scope_spans[0].spans[0].name == INGRESS
    assert {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"] == "museserve"


def test_an_exporter_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert graph.tracing(TracingConfig(enabled=True, exporter="file", sampling_ratio=0.5)) == {
        "enabled": True,
        "exporter_import_path": "deployments.tracing:file",
        "sampling_ratio": 0.5,
    }
    monkeypatch.setattr(graph, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"museserve\[tracing\]"):
        graph.tracing(TracingConfig(enabled=True))
    assert not graph.tracing(TracingConfig())["enabled"]
