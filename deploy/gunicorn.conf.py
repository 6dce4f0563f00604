"""
gunicorn -c deploy/gunicorn.conf.py: each number with its reason; the variables are in .env.example.
"""

import datetime
import logging.config
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from gunicorn.glogging import Logger

chdir = str(Path(__file__).resolve().parent.parent)
sys.path.insert(0, chdir)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rentomatic_site.settings")

try:
    from rentomatic_site import settings
except ImproperlyConfigured as error:
    sys.exit(f"gunicorn.conf.py: {error}")


class ApplicationLogger(Logger):
    """gunicorn's messages and access lines, in the application's format and on its stream."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self._access_log_enabled = settings.ACCESS_LOG
        logging.config.dictConfig(settings.LOGGING)
        self.error_log.propagate = self.access_log.propagate = True

    def access(self, resp: Any, req: Any, environ: MutableMapping, request_time: datetime.timedelta) -> None:
        """One line for each request but the probes that succeed: they come every few seconds."""
        # No status where the request failed before one was chosen.
        target, status = environ["RAW_URI"], int((resp.status or "500").split()[0])
        if not self.access_log_enabled or (target in {"/livez", "/readyz"} and status == 200):
            return
        seconds = request_time.total_seconds()
        fields = {
            "method": environ["REQUEST_METHOD"],
            "target": target,
            "status": status,
            "bytes": resp.sent,
            "seconds": seconds,
            "client": environ.get("HTTP_X_FORWARDED_FOR") or environ["REMOTE_ADDR"],
            # The response's header, because the request is over and its context gone.
            "request_id": dict(resp.headers).get("X-Request-ID"),
        }
        self.access_log.info(
            "%s %s %s, %s bytes in %.1f ms",
            fields["method"],
            target,
            status,
            resp.sent,
            seconds * 1000,
            extra=fields,
        )


wsgi_app = "rentomatic_site.wsgi"
bind = settings.WEB_BIND

# Threads keep connections from nginx open, and an export that a slow client reads for minutes holds one of
# them, not a process whose `timeout` would kill it. On one core, sync workers reach 0.83 (2) to 0.87 (5)
# of these requests, one process of 8 threads 0.71 (`python -m benchmarks.edge`). Two processes, so that one
# is there while the other is replaced. Processes × threads = one replica's connections to the database.
worker_class = "deploy.worker.Worker"  # gunicorn's gthread, with bounds
workers = settings.WEB_WORKERS
threads = settings.WEB_THREADS

# The application is loaded once, before the fork: a killed worker is back in milliseconds, memory is shared.
preload_app = True

# Longer than the 60 s after which nginx drops an idle connection, so that it is nginx that closes first
# and no request meets a closing door.
keepalive = 75
# Seconds without a sign of life of a worker's main loop, which computing threads never delay so long. A
# request that hangs is the watchdog's matter.
timeout = 30
# A stop waits for requests in flight: more than REQUEST_TIMEOUT, less than the 40 s that compose and
# systemd wait before they kill.
graceful_timeout = 30

# No max_requests: a worker that leaves takes no new request while it waits for its slowest export, and its
# successor starts only then. There is no leak that it would end: over 12,000 mixed requests a process
# grew from 60 to 65 MB, in the last 3,000 of them by nothing.

# The pure Python parser: the C parser (gunicorn[fast]) saves 5 % of a list's CPU time (33 of 676 µs), but
# comes as source only and would bring a compiler into the build.
http_parser = "python"
# The whole vocabulary with twenty filters fits into 4 kB; longer request lines are 414, longer headers 431
# (deploy/worker.py).
limit_request_line = 4094
limit_request_fields = 100
limit_request_field_size = 8190
# nginx and nobody else sets X-Forwarded-Proto, and Django alone reads it.
secure_scheme_headers: dict[str, str] = {}

# No way in but the listening socket, no file but in memory: the root is read-only in a container.
control_socket_disable = True
worker_tmp_dir = "/dev/shm"  # noqa: S108

logger_class = ApplicationLogger
loglevel = "info"
