"""Traces: where spans go, and spans of what Serve does not see. Serve makes those of its calls and carries the context.

Off, which is the default, each of these costs a look at a variable; so do requests that were not sampled.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TextIO

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TraceState
from opentelemetry.util.types import Attributes

from configs.models import spans_dir
from deployments import logs

SERVICE = "museserve"
# Where a trace may begin, by the beginning of a span's name: Serve's for a request from outside, ours in a session.
UTTERANCE = "utterance"
EDGES = ("replica_handle_request Ingress", UTTERANCE)

_tracer: trace.Tracer | None = None  # None = off


# --- where spans go: named in the Serve document, called once in each process ------------------------------------------


def otlp() -> list[SpanProcessor]:
    """To a collector, by OTLP over HTTP. Its address and keys come from OpenTelemetry's own variables, OTEL_EXPORTER_OTLP_..."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return _named_after_us(BatchSpanProcessor(OTLPSpanExporter()))


def file() -> list[SpanProcessor]:
    """To a file of each process in `spans_dir()`, a JSON object a line."""
    folder = spans_dir()
    folder.mkdir(parents=True, exist_ok=True)
    return _named_after_us(SimpleSpanProcessor(JsonLines((folder / f"{os.getpid()}.jsonl").open("a", encoding="utf-8"))))


def _named_after_us(processor: SpanProcessor) -> list[SpanProcessor]:
    os.environ.setdefault("OTEL_SERVICE_NAME", SERVICE)  # Serve makes the provider right after this
    return [processor]


def join_serve() -> None:
    """Called once in each replica, after Serve has made its provider or, with tracing off, none."""
    global _tracer
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.sampler = WholeTraces(provider.sampler)
        _tracer = provider.get_tracer(SERVICE)


class WholeTraces(Sampler):
    """A trace begins where a request comes in, or nowhere.

    Serve does not tell the next replica that a request was not sampled, so each would throw the dice again and begin
    traces in the middle.
    """

    def __init__(self, inner: Sampler) -> None:
        self._inner = inner

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        if name.startswith(EDGES) or trace.get_current_span(parent_context).get_span_context().is_valid:
            return self._inner.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        return SamplingResult(Decision.DROP)

    def get_description(self) -> str:
        return f"WholeTraces{{{self._inner.get_description()}}}"


class JsonLines(SpanExporter):
    """Spans as OpenTelemetry's SDK writes them in JSON."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._out.writelines(span.to_json(indent=None) + "\n" for span in spans)
        self._out.flush()
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._out.close()


# --- spans ---------------------------------------------------------------------------------------------------------------


@contextmanager
def span(name: str, *, root: bool = False, **attributes: Any) -> Iterator[Span]:
    """A child of the request that is worked on, with its ids. It is not made the current one, so that generators may hold it.

    root: begin a trace where there is none, as for utterances of a session.
    """
    if _tracer is None or not (root or _sampled()):
        yield trace.INVALID_SPAN
        return
    with _ended(_tracer.start_span(name, attributes=_named(attributes))) as made:
        yield made


def within(made: Span) -> AbstractContextManager[Any]:
    """What begins in it is a child of `made`. Enter and leave it in one go, not around a `yield`."""
    if not made.get_span_context().is_valid:
        return nullcontext()
    return trace.use_span(made, record_exception=False, set_status_on_exception=False)


@contextmanager
def batch(name: str, served: Sequence[SpanContext | None], **attributes: Any) -> Iterator[Span]:
    """What is done for several requests at once: a child of the first that is sampled, linked to each."""
    sampled = [context for context in served if context is not None]
    if _tracer is None or not sampled:
        yield trace.INVALID_SPAN
        return
    parent = trace.set_span_in_context(trace.NonRecordingSpan(sampled[0]), Context())
    links = [Link(context) for context in sampled]
    with _ended(_tracer.start_span(name, parent, links=links, attributes=_named(attributes))) as made:
        yield made


def here() -> SpanContext | None:
    """The request that is worked on, for `batch`; None when it is not traced."""
    return trace.get_current_span().get_span_context() if _tracer is not None and _sampled() else None


def done(name: str, began: float, **attributes: Any) -> None:
    """A span of what has just ended. began: by `time.perf_counter`."""
    if _tracer is not None and _sampled():
        start_ns = time.time_ns() - round((time.perf_counter() - began) * 1e9)
        _tracer.start_span(name, attributes=_named(attributes), start_time=start_ns).end()


def event(name: str, **attributes: Any) -> None:
    """A moment of the request that is worked on."""
    if _tracer is not None:
        trace.get_current_span().add_event(name, _prefixed(attributes))


def note(**attributes: Any) -> None:
    """What became known of the request that is worked on."""
    if _tracer is not None:
        trace.get_current_span().set_attributes(_named(attributes))


def note_on(made: Span, **attributes: Any) -> None:
    """The same of a span."""
    if made.is_recording():
        made.set_attributes(_prefixed(attributes))


def _sampled() -> bool:
    return trace.get_current_span().is_recording()


@contextmanager
def _ended(made: Span) -> Iterator[Span]:
    try:
        yield made
    except Exception as error:
        made.set_status(Status(StatusCode.ERROR, type(error).__name__))  # its message may quote what was to be spoken
        raise
    finally:
        made.end()


def _named(attributes: dict[str, Any]) -> dict[str, Any]:
    ids = logs.carried()
    return _prefixed({**attributes, "utterance_id": ids.utterance or None, "session_id": ids.session or None})


def _prefixed(attributes: dict[str, Any]) -> dict[str, Any]:
    return {f"museserve.{name}": value for name, value in attributes.items() if value is not None}
