"""
What measurements cost a request, in µs of CPU time, the least of several rounds: the middleware of the
metrics around a view that does nothing, without and with a statement; the comment of a statement; and traces,
which a process beside this one takes. It needs no database.

    python -m benchmarks.metrics
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

ROUNDS = 15
TRACED = 500
"""Requests of a round with traces: 1,000 spans, half of what waits in memory before any is dropped."""

COLLECTOR = """
import http.server
class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
print(server.server_port, flush=True)
server.serve_forever()
"""


def least(call: Callable[[], object], calls: int) -> float:
    """µs of CPU time for one call."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(calls):
            call()
        rounds.append(time.process_time() - began)
    return min(rounds) / calls * 1e6


def main(calls: int) -> None:
    import django

    django.setup()

    from django.http import HttpRequest, HttpResponse
    from django.test import RequestFactory
    from django.urls import resolve

    from rentomatic_site import sqlcommenter
    from rentomatic_site.metrics import requests

    request = RequestFactory().get("/rooms")
    request.resolver_match = resolve("/rooms")
    response = HttpResponse()

    def execute(*statement: object) -> None:
        """In the place of the database's cursor."""

    def view(request: HttpRequest) -> HttpResponse:
        return response

    def with_statement(request: HttpRequest) -> HttpResponse:
        requests.measure_statement(execute, "EXECUTE room_0", (), False, {})
        return response

    lines = ["| a request | µs |", "|---|--:|"]
    for name, inner in (("without a statement", view), ("with one statement", with_statement)):
        measured = requests.middleware(inner)
        cost = least(lambda measured=measured: measured(request), calls)  # type: ignore[misc]  # a default
        lines.append(f"| metrics, {name} | {cost - least(lambda: view(request), calls):.1f} |")
    request.id = "0123456789abcdef0123456789abcdef"  # type: ignore[attr-defined]  # as request_ids sets it

    def commented() -> None:
        sqlcommenter.handles(request)
        sqlcommenter.comment(execute, "EXECUTE room_0", (), False, {})

    lines.append(f"| the comment of one statement | {least(commented, calls):.1f} |")

    from opentelemetry import trace

    from rentomatic_site import tracing

    def with_traced_statement(request: HttpRequest) -> HttpResponse:
        tracing.trace_statement(execute, "EXECUTE room_0", (), False, {})
        return response

    tracing.start()
    provider = trace.get_tracer_provider()
    traced = tracing.middleware(with_traced_statement)

    def traces() -> None:
        """Of many requests, to the end of what is sent."""
        for _ in range(TRACED):
            traced(request)
        provider.force_flush()  # type: ignore[attr-defined]  # of the SDK's provider

    cost = least(traces, 1) / TRACED - least(lambda: view(request), calls)
    lines.append(f"| traces, with one statement | {cost:.1f} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer calls")
    options = parser.parse_args()
    command = [sys.executable, "-c", COLLECTOR]
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as folder,  # as gunicorn's METRICS_DIR
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as collector,
    ):
        assert collector.stdout
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{collector.stdout.readline().strip()}"
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rentomatic_site.settings")
        try:
            main(1_000 if options.quick else 10_000)
        finally:
            collector.terminate()
