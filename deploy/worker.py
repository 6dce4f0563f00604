"""gunicorn's threaded worker with time limits, backpressure and error responses in the API's format."""

import json
import socket
from http import HTTPStatus
from typing import Any

from gunicorn import util
from gunicorn.http import errors, wsgi
from gunicorn.workers.gthread import ThreadWorker

from deploy.watchdog import Watchdog
from rentomatic_site import settings
from rooms.api.errors import MEDIA_TYPE, problem_body

INTERNAL_ERROR = (500, "Something went wrong on our side. It has been logged.")
PARSER_ERRORS = {
    errors.ConfigurationProblem: INTERNAL_ERROR,
    errors.InvalidResponseHeader: INTERNAL_ERROR,  # type: ignore[attr-defined]  # not in the stubs
    errors.InvalidResponseHeaderName: INTERNAL_ERROR,  # type: ignore[attr-defined]  # nor this
    errors.LimitRequestLine: (414, "The request line (method, address, version) is longer than 4094 bytes."),
    errors.LimitRequestHeaders: (431, "A header is longer than 8 kB, or there are more than 100."),
    errors.UnsupportedTransferCoding: (501, "Of the transfer codings only `chunked` is understood."),
    errors.ExpectationFailed: (417, "Of the expectations only `100-continue` is understood."),
    errors.ParseException: (400, "The request is no valid HTTP."),
}
"""Status and message for each exception of gunicorn's parser, subclasses first."""


class Response(wsgi.Response):
    """
    gunicorn's response, of which a body that comes in one piece is sent together with the headers.

    gunicorn sends the headers first: another system call, packet, and wake-up of the client, some 3 % of a
    request's CPU time.
    """

    def write(self, arg: bytes) -> None:
        whole = self.response_length == len(arg) and not (self.headers_sent or self.chunked)
        if not whole or self._omits_body:  # type: ignore[attr-defined]  # not in the stubs
            super().write(arg)
            return
        lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers)]
        self.sock.sendall("".join([*lines, "\r\n"]).encode("latin-1") + arg)
        self.headers_sent = True
        self.sent = len(arg)


wsgi.Response = Response  # type: ignore[misc]  # a class of another module
"""gunicorn has no setting for it."""


class Worker(ThreadWorker):
    """
    Limits the time of requests, accepts a connection only when a thread is free, and sends problem documents
    for invalid requests.

    gunicorn's own worker accepts every connection at once, so that connections wait for its busy threads
    while another process is idle.
    """

    running = 0
    """Connections that occupy a thread or wait for one; changed in the main thread only."""

    def run(self) -> None:
        limits = settings.REQUEST_TIMEOUT, settings.EXPORT_TIMEOUT
        if settings.METRICS_BIND:
            from rentomatic_site.metrics.requests import count_cut, set_in_flight

            self.watchdog = Watchdog(*limits, on_cut=count_cut, on_check=set_in_flight)
        else:
            self.watchdog = Watchdog(*limits)
        self.watchdog.start()
        if settings.REPLICAS:
            from rentomatic_site.replication.replicas import replicas

            replicas.start()
        super().run()

    def set_accept_enabled(self, enabled: bool | None) -> None:
        """Called by the main loop before it waits for events."""
        super().set_accept_enabled(bool(enabled) and self.running < self.cfg.threads)

    def accept(self, listener: socket.socket) -> None:
        if self.running < self.cfg.threads:
            super().accept(listener)
        else:
            self.set_accept_enabled(False)  # the main loop enables it again

    def enqueue_req(self, conn: Any) -> None:
        self.running += 1
        super().enqueue_req(conn)

    def finish_request(self, conn: Any, fs: Any) -> None:
        self.running -= 1
        super().finish_request(conn, fs)

    def handle_request(self, req: Any, conn: Any) -> Any:
        request_id = dict(req.headers).get("X-REQUEST-ID")
        with self.watchdog.watch(f"{req.method} {req.path}", conn.sock, request_id):
            return super().handle_request(req, conn)

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        """Whether the connection can be reused, after the rest of the request body has been read."""
        try:
            return super()._keepalive_after(conn, keepalive)  # type: ignore[misc, no-any-return]  # not in the stubs
        except errors.ParseException:
            # The request has its response; the client would take a second one for the response to its next
            # request.
            return False

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer a request that cannot be parsed with a problem document instead of an HTML page."""
        status, message = next(
            (known for error, known in PARSER_ERRORS.items() if isinstance(exc, error)), INTERNAL_ERROR
        )
        if status == 500:
            self.log.error("A request has failed", exc_info=exc)
        else:
            self.log.warning("A request is refused with %s: %s", status, exc)
        title = HTTPStatus(status).phrase
        problem_type = "SystemError" if status >= 500 else "ParametersError"
        body = json.dumps(problem_body(problem_type, message, title, status))
        head = (
            f"HTTP/1.1 {status} {title}\r\nConnection: close\r\nContent-Type: {MEDIA_TYPE}\r\n"
            f"Cache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            util.write_nonblock(client, f"{head}{body}".encode("latin-1"))
        except OSError:
            self.log.debug("the client has disconnected")
