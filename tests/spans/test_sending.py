"""Spans through OpenTelemetry's SDK."""

from __future__ import annotations

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sage_dask.errors import RunError
from sage_dask.spans.fold import Span
from sage_dask.spans.sending import collector, otlp_file, send

ROOT = Span(7, 1, None, "job", 10, 90, {"sage_dask.nodes": ["a", "b"]}, error="disk full")
CHILD = Span(7, 2, 1, "batch", 20, 30, {"sage_dask.batch": 3, "sage_dask.cost": 0.5})


class Kept(InMemorySpanExporter):
    """Keeps what it was given also after its end, and counts how often that was."""

    def __init__(self):
        super().__init__()
        self.sizes = []
        self.is_over = False

    def export(self, spans):
        self.sizes.append(len(spans))
        return super().export(spans)

    def shutdown(self):
        self.is_over = True


@pytest.fixture
def endpoint():
    """Lend a collector on this machine: its address and the requests that it took."""
    taken = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            taken.append((self.path, ExportTraceServiceRequest.FromString(body)))
            is_wanted = self.path == "/v1/traces"
            self.send_response(200 if is_wanted else 400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", taken
        server.shutdown()
        thread.join()


def test_a_span_arrives_as_it_was_made():
    """Identities, times, attributes and status are ours; the service is named."""
    exporter = Kept()

    assert send([CHILD, ROOT], exporter, service="rag") == 2

    child, root = exporter.get_finished_spans()
    assert (child.name, child.context.trace_id, child.context.span_id) == ("batch", 7, 2)
    assert (child.parent.span_id, root.parent) == (1, None)
    assert (child.start_time, child.end_time) == (20, 30)
    assert dict(child.attributes) == {"sage_dask.batch": 3, "sage_dask.cost": 0.5}
    assert (root.status.is_ok, root.status.description) == (False, "disk full")
    assert child.status.is_ok
    assert root.resource.attributes["service.name"] == "rag"
    assert exporter.is_over


def test_many_spans_go_in_chunks():
    """None is dropped, and no more are held than one chunk."""
    spans = (Span(7, n, 1, "batch", 0, 1) for n in range(2, 1202))
    exporter = Kept()

    assert send(spans, exporter, service="rag") == 1200
    assert exporter.sizes == [512, 512, 176]


def test_no_span_is_no_request():
    """A collector is not asked for nothing."""
    exporter = Kept()

    assert send([], exporter, service="rag") == 0
    assert exporter.sizes == []


def test_a_collector_gets_them_over_http(endpoint):
    """As Protobuf, at the path for traces, whether the address has that or not."""
    address, taken = endpoint

    send([CHILD], collector(address), service="rag")
    send([CHILD], collector(f"{address}/v1/traces/"), service="rag")

    for path, request in taken:
        (span,) = request.resource_spans[0].scope_spans[0].spans
        assert path == "/v1/traces"
        assert (span.name, span.span_id, span.parent_span_id) == ("batch", _id(2), _id(1))
        assert (span.start_time_unix_nano, span.end_time_unix_nano) == (20, 30)
    assert len(taken) == 2


def test_a_collector_that_refuses_is_told(endpoint):
    """What is not taken is an error, with what to do."""
    address, _ = endpoint

    with pytest.raises(RunError, match="did not take 1 span, and later"):
        send([CHILD], collector(f"{address}/other"), service="rag")


def test_a_file_holds_otlp_json(tmp_path):
    """A request per line, with identities in hexadecimal and enums as numbers."""
    path = tmp_path / "spans.jsonl"

    with otlp_file(path) as exporter:
        send([CHILD, ROOT], exporter, service="rag")

    (request,) = map(json.loads, path.read_text().splitlines())
    (resource,) = request["resourceSpans"]
    child, root = resource["scopeSpans"][0]["spans"]
    assert child["traceId"] == f"{7:032x}"
    assert (child["spanId"], child["parentSpanId"]) == (f"{2:016x}", f"{1:016x}")
    assert (child["startTimeUnixNano"], child["kind"]) == ("20", 1)
    assert root["status"] == {"message": "disk full", "code": 2}
    assert "parentSpanId" not in root
    assert [each.name for each in tmp_path.iterdir()] == ["spans.jsonl"]


def test_a_file_that_was_not_finished_is_not_there(tmp_path):
    """What breaks off leaves neither half a file nor harms one of before."""
    path = tmp_path / "spans.jsonl"
    path.write_text("before")

    with pytest.raises(ZeroDivisionError), otlp_file(path) as exporter:
        send((Span(7, 1 // 0, None, "", 0, 1) for _ in "a"), exporter, service="rag")

    assert path.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["spans.jsonl"]


def test_a_folder_that_is_not_there_is_told(tmp_path):
    """The error names the file that was asked for."""
    path = tmp_path / "nowhere" / "spans.jsonl"

    with pytest.raises(RunError, match=r"can not be written to .*nowhere"), otlp_file(path):
        raise AssertionError("there is no file to lend")


def _id(number):
    return number.to_bytes(8)
