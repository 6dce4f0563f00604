"""Traces of a real gunicorn, as a collector gets them over OTLP."""

import gzip
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from rentomatic_site.testing import rig

REQUEST = "0123456789abcdef0123456789abcdef"


class Collector:
    """An HTTP server in the place of a collector; `spans` has what it was sent."""

    def __init__(self) -> None:
        self.spans: queue.Queue = queue.Queue()
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        for span in scope.spans:
                            spans.put(span)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = HTTPServer(("127.0.0.1", rig.free_port()), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def attributes(span):
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.server.shutdown()
    one.server.server_close()


def trace_of(collector):
    """The spans of the request REQUEST: its own, and those of its statements."""
    spans = []
    while not any(attributes(span).get("rentomatic.request_id") == REQUEST for span in spans):
        spans.append(collector.spans.get(timeout=30))
    (own,) = [span for span in spans if attributes(span).get("rentomatic.request_id") == REQUEST]
    return own, [span for span in spans if span.parent_span_id == own.span_id]


def test_a_request_is_a_span_with_its_statements(live_site, tmp_path, collector):
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "WEB_WORKERS": "1"}
    with rig.Gunicorn(tmp_path, **live_site.variables, **variables) as server:
        claimed = f"00-{'a' * 32}-{'b' * 16}-01"
        headers = {"X_Request_ID": REQUEST, "traceparent": claimed}
        assert server.get("/rooms?filter_price__lt=66", **headers).status == 200
        # A stop sends what waits.
        server.process.terminate()
        own, statements = trace_of(collector)
        assert own.name == "GET rooms"
        assert own.trace_id.hex() != "a" * 32
        assert own.parent_span_id == b""
        found = attributes(own)
        assert (found["http.route"], found["http.response.status_code"]) == ("rooms", 200)
        assert found["url.path"] == "/rooms"
        assert statements
        assert {attributes(span)["db.system.name"] for span in statements} == {"postgresql"}
        texts = " ".join(attributes(span)["db.query.text"] for span in statements)
        assert "room" in texts
        assert "66" not in texts


def test_a_collector_that_is_away_costs_no_request_anything(live_site, tmp_path):
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{rig.free_port()}"}
    with rig.Gunicorn(tmp_path, **live_site.variables, **variables) as server:
        assert [server.get("/rooms?limit=1").status for _ in range(20)] == [200] * 20


def test_no_request_is_traced_where_the_share_is_none(live_site, tmp_path, collector):
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "TRACED_PER_MILLE": "0"}
    with rig.Gunicorn(tmp_path, **live_site.variables, **variables) as server:
        assert server.get("/rooms?limit=1").status == 200
    assert collector.spans.empty()
