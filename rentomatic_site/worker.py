"""gunicorn's threaded worker, with what it lacks when strangers are its clients."""

import socket
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from rentomatic_site import settings
from rentomatic_site.watchdog import Watchdog


class Worker(ThreadWorker):
    """
    It watches its requests, and takes a connection only when a thread is free.

    gunicorn's own takes every connection at once: what comes while all threads are busy waits for them,
    although the process beside has nothing to do.
    """

    running = 0
    """Connections that have a thread or wait for one; counted in the main thread only."""

    def run(self) -> None:
        self.watchdog = Watchdog(settings.REQUEST_TIMEOUT, settings.EXPORT_TIMEOUT)
        self.watchdog.start()
        super().run()

    def set_accept_enabled(self, enabled: bool | None) -> None:
        """What the main loop asks for before it waits for events."""
        super().set_accept_enabled(bool(enabled) and self.running < self.cfg.threads)

    def accept(self, listener: socket.socket) -> None:
        if self.running < self.cfg.threads:
            super().accept(listener)
        else:
            self.set_accept_enabled(False)  # until the main loop finds a free thread

    def enqueue_req(self, conn: Any) -> None:
        self.running += 1
        super().enqueue_req(conn)

    def finish_request(self, conn: Any, fs: Any) -> None:
        self.running -= 1
        super().finish_request(conn, fs)

    def handle_request(self, req: Any, conn: Any) -> Any:
        id = dict(req.headers).get("X-REQUEST-ID")
        with self.watchdog.watch(f"{req.method} {req.path}", conn.sock, id):
            return super().handle_request(req, conn)
