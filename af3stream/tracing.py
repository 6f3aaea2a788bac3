"""Trace utterances and questions with OpenTelemetry, if the section `[tracing]` names where traces go.

A trace has one root span: an utterance, from its first audio to its final caption, or a question, from its arrival to
its answer. Its other spans may come from other processes. They find the root by its `traceparent`
(https://www.w3.org/TR/trace-context/), which a job carries. No span holds audio, text or a client's token.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from af3stream import __version__
from af3stream.config import TracingConfig

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

EXPORT_S: Final = 5.0  # how long an export is tried, and so how long a process waits at its end

Attribute = str | bool | int | float


class Trace:
    """A trace that has begun. Times are clock seconds.

    Attributes:
        started: when it began.
        parent: its `traceparent`; empty if the trace is not sampled.
    """

    def __init__(self, tracing: Tracing, span: Span, started: float) -> None:
        self.started = started
        context = span.get_span_context()
        sampled = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        self.parent = sampled if span.is_recording() else ""
        self._tracing = tracing
        self._span = span

    def child(self, name: str, started: float, ended: float) -> None:
        """Add a span."""
        self._tracing.record(self.parent, name, started, ended)

    def event(self, name: str, at: float) -> None:
        """Add a moment."""
        self._span.add_event(name, timestamp=self._tracing.unix_ns(at))

    def end(self, at: float, **attributes: Attribute) -> None:
        """End the trace, and export it."""
        self._span.set_attributes(_named(attributes))
        self._span.end(self._tracing.unix_ns(at))


class Tracing:
    """Makes the spans of one process; its methods may be called from any thread.

    Args:
        provider: samples and exports them.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("af3stream", __version__)
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def start(self, name: str, at: float, **attributes: Attribute) -> Trace:
        """Begin a trace; ``at`` is in clock seconds. One that is never ended is not exported."""
        from opentelemetry.context import Context

        span = self._tracer.start_span(name, Context(), attributes=_named(attributes), start_time=self.unix_ns(at))
        return Trace(self, span, at)

    def record(self, parent: str, name: str, started: float, ended: float, **attributes: Attribute) -> None:
        """Add a span to the trace with this `traceparent`, unless that is empty. Times are clock seconds."""
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        if parent:
            context = TraceContextTextMapPropagator().extract({"traceparent": parent})
            begun = self._tracer.start_span(
                name, context, attributes=_named(attributes), start_time=self.unix_ns(started)
            )
            begun.end(self.unix_ns(ended))

    def close(self) -> None:
        """Export what is left, and stop."""
        self._provider.shutdown()

    def unix_ns(self, at: float) -> int:
        """Return unix nanoseconds for clock seconds."""
        return round(at * 1e9) + self._offset_ns


def open_tracing(config: TracingConfig, role: str) -> Tracing:
    """Return what makes the spans of this process, and exports them.

    The exporter's other settings are OpenTelemetry's own variables, such as ``$OTEL_EXPORTER_OTLP_HEADERS``.

    Args:
        role: the process's name among the service's processes, such as ``gateway``.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    resource = Resource.create({"service.name": f"af3stream-{role}", "service.version": __version__})
    provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(config.ratio)))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=config.endpoint, timeout=EXPORT_S)))
    return Tracing(provider)


def _named(attributes: dict[str, Attribute]) -> dict[str, Attribute]:
    return {f"af3stream.{name}": value for name, value in attributes.items()}
