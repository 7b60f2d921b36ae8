"""Spans through OpenTelemetry's SDK, to a collector or into a file."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sage_dask.errors import RunError, counted
from sage_dask.extras import require
from sage_dask.spans.fold import Span
from sage_dask.version import __version__

# Spans that are sent at once: as many as the SDK's own processor takes.
_CHUNK = 512

_TRACES = "/v1/traces"

_IDS = ("traceId", "spanId", "parentSpanId")


def send(spans: Iterable[Span], exporter: Any, *, service: str) -> int:
    """Pass spans to an exporter, and return how many there were.

    Args:
        spans: In any order.
        exporter: A ``SpanExporter`` of the SDK; shut down at the end.
        service: What the service is called whose spans they are.

    Raises:
        MissingDependencyError: The extra is not installed.
        RunError: The exporter did not get rid of some.
    """
    sdk = _require("opentelemetry.sdk.trace")
    resource = _require("opentelemetry.sdk.resources").Resource(
        {"service.name": service, "service.namespace": "sage_dask"}
    )
    ids, ended = _GivenIds(), _Ended()
    provider = sdk.TracerProvider(
        resource=resource,
        id_generator=ids,
        sampler=_require("opentelemetry.sdk.trace.sampling").ALWAYS_ON,
        shutdown_on_exit=False,
    )
    provider.add_span_processor(ended)
    tracer = provider.get_tracer("sage_dask", __version__)
    number = 0
    try:
        for span in spans:
            number += 1
            ids.trace_id, ids.span_id = span.trace_id, span.span_id
            _make(tracer, span)
            if len(ended.spans) >= _CHUNK:
                _export(exporter, ended.take())
        if ended.spans:
            _export(exporter, ended.take())
    finally:
        exporter.shutdown()
    return number


def collector(endpoint: str) -> Any:
    """Return the exporter to a collector that takes OTLP over HTTP.

    Args:
        endpoint: Such as ``http://collector:4318``; the path for traces is added where it
            is missing.

    Raises:
        MissingDependencyError: The extra is not installed.
    """
    exporters = _require("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    url = endpoint.rstrip("/")
    return exporters.OTLPSpanExporter(url if url.endswith(_TRACES) else url + _TRACES)


@contextmanager
def otlp_file(path: Path) -> Iterator[Any]:
    """Lend an exporter into a file of OTLP/JSON: one line per chunk, each a whole request.

    The file is there once all is in it.

    Raises:
        MissingDependencyError: The extra is not installed.
        RunError: The file can not be written.
    """
    partial = path.parent / f"{path.name}.partial"
    try:
        with partial.open("w", encoding="utf-8") as file:
            yield _ToFile(file)
        partial.replace(path)
    except OSError as error:
        raise RunError(
            f"spans can not be written to {str(path)!r} ({error.strerror}); free space or give "
            "another --out"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


class _ToFile:
    """An exporter that writes requests as lines."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._encode = _require("opentelemetry.exporter.otlp.proto.common.trace_encoder")
        self._json = _require("google.protobuf.json_format")
        self._results = _require("opentelemetry.sdk.trace.export").SpanExportResult

    def export(self, spans: Sequence[Any]) -> Any:
        """Write some spans."""
        request = self._encode.encode_spans(spans)
        row = self._json.MessageToDict(request, use_integers_for_enums=True)
        for span in (s for r in row["resourceSpans"] for c in r["scopeSpans"] for s in c["spans"]):
            # OTLP/JSON has identities in hexadecimal, where Protobuf's own JSON has base64.
            span.update({name: b64decode(span[name]).hex() for name in _IDS if name in span})
        self._file.write(json.dumps(row, separators=(",", ":")) + "\n")
        return self._results.SUCCESS

    def shutdown(self) -> None:
        """Leave the file to whoever opened it."""


class _GivenIds:
    """Gives the SDK the identities that the next span is to have."""

    trace_id = 0
    span_id = 0

    def generate_trace_id(self) -> int:
        """Return the trace's."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """Return the span's."""
        return self.span_id

    def is_trace_id_random(self) -> bool:
        """Return False: it follows from the job."""
        return False


class _Ended:
    """Collects the spans that have ended; the SDK's own processor would drop what is too much."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    def take(self) -> list[Any]:
        """Return what was collected since the last call."""
        spans, self.spans = self.spans, []
        return spans

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Wait until it has ended."""

    def _on_ending(self, span: Any) -> None:
        """Wait until it has ended."""

    def on_end(self, span: Any) -> None:
        """Keep it."""
        self.spans.append(span)

    def shutdown(self) -> None:
        """Hold nothing that needs to be let go."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Return True: nothing waits here."""
        return True


def _make(tracer: Any, span: Span) -> None:
    """Begin and end a span."""
    trace = _require("opentelemetry.trace")
    # One without a parent must not become a child of what this process may be tracing.
    context = _require("opentelemetry.context").Context()
    if span.parent_id is not None:
        parent = trace.SpanContext(
            span.trace_id,
            span.parent_id,
            is_remote=False,
            trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
        )
        context = trace.set_span_in_context(trace.NonRecordingSpan(parent), context)
    made = tracer.start_span(
        span.name, context=context, attributes=dict(span.attributes), start_time=span.start_ns
    )
    if span.error is not None:
        made.set_status(trace.Status(trace.StatusCode.ERROR, span.error))
    made.end(span.end_ns)


def _export(exporter: Any, spans: Sequence[Any]) -> None:
    results = _require("opentelemetry.sdk.trace.export").SpanExportResult
    if exporter.export(spans) is not results.SUCCESS:
        raise RunError(
            f"the collector did not take {counted(len(spans), 'span')}, and later ones were not "
            "sent; see that it runs, and takes OTLP over HTTP at that address, then export again: "
            "spans have the same identities then"
        )


def _require(module: str) -> Any:
    return require(module, extra="otel", needed_by="sage-dask spans")
