"""
gunicorn's settings, each with its reason; the environment variables are in .env.example.
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

# A reload (HUP) reads this file again in the same process, whose workers are counting.
if settings.METRICS_BIND and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    # For prometheus_client, which reads it when it is imported.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(settings.METRICS_DIR)
    from rentomatic_site.metrics import files

    try:
        files.prepare(settings.METRICS_DIR)
    except OSError as error:
        sys.exit(
            f"gunicorn.conf.py: the folder METRICS_DIR cannot be used ({error}). Next: name another one."
        )


class ApplicationLogger(Logger):
    """gunicorn's messages and access log, in the application's format and on its stream."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self._access_log_enabled = settings.ACCESS_LOG
        logging.config.dictConfig(settings.LOGGING)
        self.error_log.propagate = self.access_log.propagate = True

    def access(self, resp: Any, req: Any, environ: MutableMapping, request_time: datetime.timedelta) -> None:
        """One record for each request except successful probes, which come every few seconds."""
        # resp.status is None where the request failed before a status was set.
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
            # From the response, because the context variable is reset at the end of the request.
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

# Threads keep connections from nginx open, and an export that a slow client reads for minutes occupies a
# thread and not a process, which `timeout` would kill. On one core, sync workers reach 0.83 (2) to 0.87 (5)
# of these requests, one process of 8 threads 0.71 (`python -m benchmarks.edge`). Two processes, so that one
# serves while the other is replaced. Processes × threads = one replica's connections to the database.
worker_class = "deploy.worker.Worker"  # gunicorn's gthread, with bounds
workers = settings.WEB_WORKERS
threads = settings.WEB_THREADS

# The application is loaded once, before the fork: a killed worker is replaced in milliseconds, and workers
# share memory.
preload_app = True


def on_starting(server: Any) -> None:
    """Open the port of the metrics, which the workers inherit."""
    if settings.METRICS_BIND:
        from rentomatic_site.metrics import endpoint

        try:
            server.metrics = endpoint.listen(settings.METRICS_BIND)
        except OSError as error:
            sys.exit(f"gunicorn.conf.py: cannot listen on METRICS_BIND={settings.METRICS_BIND} ({error}).")


def post_fork(server: Any, worker: Any) -> None:
    if settings.METRICS_BIND:
        from rentomatic_site.metrics import endpoint

        endpoint.serve(server.metrics, settings.METRICS_DIR)
    if settings.TRACES_ENDPOINT:
        from rentomatic_site import tracing

        tracing.start()


def child_exit(server: Any, worker: Any) -> None:
    """Take in what an ended worker has counted. An exception here would end gunicorn."""
    if settings.METRICS_BIND:
        from rentomatic_site.metrics import files

        try:
            files.forget(settings.METRICS_DIR, {os.getpid(), *server.WORKERS} - {worker.pid})
        except Exception:
            server.log.exception("The counts of worker %s are not taken in", worker.pid)


def when_ready(server: Any) -> None:
    """Read the gazetteer before the fork: no first request waits for it, and workers share its 40 MB."""
    from rooms.places.gazetteer import gazetteer

    gazetteer()


# Longer than the 60 s after which nginx closes an idle connection: if gunicorn closed first, nginx could send
# a request on a connection that is being closed.
keepalive = 75
# Seconds without a heartbeat of a worker's main loop, which computing threads never delay for so long. The
# watchdog handles a request that hangs.
timeout = 30
# A stop waits for requests in flight: more than REQUEST_TIMEOUT, less than the 40 s that compose and
# systemd wait before they kill.
graceful_timeout = 30

# No max_requests: a worker that stops accepts no request while it waits for its slowest export, and its
# successor starts only then. There is no memory leak to limit: over 12,000 mixed requests a process grew from
# 60 to 65 MB, in the last 3,000 of them not at all.

# The pure Python parser: the C parser (gunicorn[fast]) saves 5 % of a list's CPU time (33 of 676 µs), but
# comes as source only and would bring a compiler into the build.
http_parser = "python"
# A query with every parameter and twenty filters fits into 4 kB; longer request lines are 414, longer headers
# 431 (deploy/worker.py).
limit_request_line = 4094
limit_request_fields = 100
limit_request_field_size = 8190
# Only nginx sets X-Forwarded-Proto, and only Django reads it.
secure_scheme_headers: dict[str, str] = {}

# No control socket, and temporary files in memory: the root file system of the container is read-only.
control_socket_disable = True
worker_tmp_dir = "/dev/shm"  # noqa: S108 - gunicorn makes a file that only it can open

logger_class = ApplicationLogger
loglevel = "info"
