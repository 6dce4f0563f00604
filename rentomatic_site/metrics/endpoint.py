"""
`/metrics` on a port of its own, METRICS_BIND, that nginx knows nothing of.

The main process opens the listener before it forks, and a thread of each worker takes connections from it:
whichever accepts a scrape answers for all. It needs none of the threads that serve requests, so that a busy
site can still be measured, and the main process has no threads when it forks.
"""

import fcntl
import logging
import socket
import threading
from http.server import HTTPServer
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, MetricsHandler
from prometheus_client.multiprocess import MultiProcessCollector

from rentomatic_site.metrics.files import lock

logger = logging.getLogger(__name__)


def listen(address: str) -> socket.socket:
    """A listener on HOST:PORT or [HOST]:PORT; OSError where it cannot be had."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, int(port)), family=family, backlog=16)
    listener.setblocking(True)
    return listener


class Handler(MetricsHandler):
    """GET /metrics; everything else is 404."""

    timeout = 5  # seconds for a client to send its request

    def do_GET(self) -> None:
        if self.path.partition("?")[0] == "/metrics":
            super().do_GET()
        else:
            self.send_error(404)


class Files:
    """Collects the files of all processes, while none of them is moved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.collector = MultiProcessCollector(None, str(folder))

    def collect(self) -> Any:
        with lock(self.folder, fcntl.LOCK_SH):
            return list(self.collector.collect())


class Server(HTTPServer):
    """One connection after another, on a listener that is there already."""

    def __init__(self, listener: socket.socket, registry: CollectorRegistry) -> None:
        super().__init__(("", 0), Handler.factory(registry), bind_and_activate=False)
        self.socket.close()
        self.socket = listener

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.warning("A scrape has failed", exc_info=True)


def serve(listener: socket.socket, folder: Path) -> None:
    """Answer in a thread of this process, until it ends."""
    registry = CollectorRegistry()
    registry.register(Files(folder))
    server = Server(listener, registry)

    def run() -> None:
        while True:
            server.handle_request()

    threading.Thread(target=run, name="metrics", daemon=True).start()
