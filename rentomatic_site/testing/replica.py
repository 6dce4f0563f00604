"""An upstream for nginx that shows what reaches it."""

import email.message
import http.server
import socket
import threading
import time

from rentomatic_site.testing import rig


class Replica:
    """An upstream that responds with its name, records its requests, and can be slow or hang up."""

    def __init__(
        self, name: str, seconds: float = 0, hang_up: bool = False, rest: threading.Event | None = None
    ) -> None:
        """With `rest`, the lines after the first are sent when it is set."""
        self.requests: list[str] = []
        self.status = 200
        self.responses_sent = 0
        """Responses that were written, at least into the buffers of the connection."""
        self.headers: list[email.message.Message] = []
        replica = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                replica.requests.append(f"{self.command} {self.path}")
                replica.headers.append(self.headers)
                time.sleep(seconds)
                if hang_up:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                self.send_response(replica.status)
                self.send_header("Content-Length", str(len(name)))
                self.send_header("Vary", "Accept")
                self.end_headers()
                first, newline, others = name.partition("\n")
                self.wfile.write(f"{first}{newline}".encode())
                if rest is not None:
                    rest.wait(60)
                self.wfile.write(others.encode())
                replica.responses_sent += 1

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                """Quiet: the tests look at `requests`."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", rig.free_port()), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]

    def __enter__(self) -> "Replica":
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
