"""gunicorn's threaded worker, with what it lacks when strangers are its clients."""

from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from rentomatic_site import settings
from rentomatic_site.watchdog import Watchdog


class Worker(ThreadWorker):
    """It watches its requests."""

    def run(self) -> None:
        self.watchdog = Watchdog(settings.REQUEST_TIMEOUT, settings.EXPORT_TIMEOUT)
        self.watchdog.start()
        super().run()

    def handle_request(self, req: Any, conn: Any) -> Any:
        id = dict(req.headers).get("X-REQUEST-ID")
        with self.watchdog.watch(f"{req.method} {req.path}", conn.sock, id):
            return super().handle_request(req, conn)
