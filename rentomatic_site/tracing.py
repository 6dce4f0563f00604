"""
Traces by OpenTelemetry: a span for each request, with one for each of its statements, sent over OTLP. Nothing
here is imported while OTEL_EXPORTER_OTLP_ENDPOINT is empty.

A trace begins here: what a client claims to be its trace has no effect. A collector that is away costs no
request anything: spans wait in memory, 2,048 at most, and are dropped then.
"""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import connections
from django.http import HttpRequest, HttpResponseBase
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

TIMEOUT = 5
"""Seconds for the collector; a worker that stops waits as long for its last spans."""
LONGEST_STATEMENT = 2_000

tracer = trace.get_tracer("rentomatic")


def start() -> None:
    """Begin to send, from a thread of this process: to be called in each worker, after the fork."""
    provider = TracerProvider(
        sampler=TraceIdRatioBased(min(settings.TRACED_PER_MILLE / 1000, 1)),
        resource=Resource.create({"service.name": "rentomatic"}),
    )
    exporter = OTLPSpanExporter(endpoint=f"{settings.TRACES_ENDPOINT}/v1/traces", timeout=TIMEOUT)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def middleware(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable:
    """A span around each request; that of a stream ends with its last byte."""

    def respond(request: HttpRequest) -> HttpResponseBase:
        span = tracer.start_span(request.method or "", context.Context(), SpanKind.SERVER)
        token = context.attach(trace.set_span_in_context(span))
        try:
            response = get_response(request)
        finally:
            context.detach(token)
        describe(span, request, response)
        if response.streaming:
            response._resource_closers.append(span.end)  # type: ignore[attr-defined]  # Django's own way
        else:
            span.end()
        return response

    return respond


def describe(span: trace.Span, request: HttpRequest, response: HttpResponseBase) -> None:
    """Name and attributes by OpenTelemetry's conventions; of the URL only its path."""
    if not span.is_recording():
        return
    if request.resolver_match:
        span.update_name(f"{request.method} {request.resolver_match.view_name}")
        span.set_attribute("http.route", request.resolver_match.view_name)
    span.set_attributes(
        {
            "http.request.method": request.method or "",
            "http.response.status_code": response.status_code,
            "url.path": request.path,
            "rentomatic.request_id": getattr(request, "id", ""),
        }
    )
    if response.status_code >= 500:
        span.set_status(StatusCode.ERROR)


def trace_statement(execute: Callable, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Wrapper around each statement of a connection; its values are not in the span."""
    if not trace.get_current_span().is_recording():
        return execute(sql, params, many, context)
    text = str(sql)
    attributes = {"db.system.name": "postgresql", "db.query.text": text[:LONGEST_STATEMENT]}
    name = text.split(None, 1)[0] if text.strip() else "statement"
    with tracer.start_as_current_span(name, kind=SpanKind.CLIENT, attributes=attributes):
        return execute(sql, params, many, context)


def connected(connection: Any, **kwargs: Any) -> None:
    """Receiver of `connection_created`."""
    if connections[connection.alias] is connection and trace_statement not in connection.execute_wrappers:
        # First, as `connection.execute_wrapper()` removes the last one at its end.
        connection.execute_wrappers.insert(0, trace_statement)
