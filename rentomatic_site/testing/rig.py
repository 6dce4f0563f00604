"""
The rig: real gunicorn, real nginx and a real database, started and stopped by tests, without containers.

Everything listens on loopback below port 32768, so that no outgoing connection can have taken the port.
Nothing here waits by sleeping: a server is ready when it responds.
"""

import http.client
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from django.conf import settings

from rentomatic_site.testing.database import migrated

PROJECT = Path(__file__).resolve().parents[2]
PATH = f"{os.environ['PATH']}:/usr/sbin"  # where Debian has nginx
UNVERIFIED = ssl._create_unverified_context()  # noqa: S323 - the certificate is our own, from a moment ago
SECRET_KEY = "only-for-trials-on-loopback-0123456789-abcdefghijklmnopqrstuvwxyz"


def ends_with_pytest(stop: str = "TERM") -> list[str]:
    """The words before a command that let the kernel send it this signal when pytest ends, also killed."""
    return ["setpriv", "--pdeathsig", stop, "--"]


PORTS = range(12_000, 32_000)
"""What `free_port` chooses from. Each pytest-xdist worker has its own share (plugin.py)."""

_used_ports: set[int] = set()


def free_port() -> int:
    """A port that no process listens on, below the range of outgoing connections; each one is given once."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _used_ports:
            _used_ports.add(port)
            return port


def exchange(wire: socket.socket, request: bytes) -> bytes:
    """Send bytes that no client library would, and read until the server closes the connection."""
    wire.settimeout(10)
    wire.sendall(request)
    received = b""
    while piece := wire.recv(100_000):
        received += piece
    return received


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 20) -> None:
    """Look every 20 ms until `condition()` is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} within {seconds} s")
        time.sleep(0.02)


@dataclass
class Response:
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float


def get(
    port: int,
    path: str,
    method: str = "GET",
    timeout: float = 30,
    tls: bool = False,
    address: str = "127.0.0.1",
    **headers: Any,
) -> Response:
    """One request on a connection of its own; `X_Request_ID="…"` sends X-Request-ID, `body=…` a body."""
    began = time.monotonic()
    body = headers.pop("body", None)
    connection = (
        http.client.HTTPSConnection("localhost", port, timeout=timeout, context=UNVERIFIED)
        if tls
        else http.client.HTTPConnection(address, port, timeout=timeout)
    )
    try:
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    return Response(response.status, response.msg, body, time.monotonic() - began)


def server_variables() -> dict[str, str]:
    """The variables that name the tests' server."""
    server = settings.POSTGRES
    return {
        "POSTGRES_HOSTNAME": str(server["host"]),
        "POSTGRES_PORT": str(server["port"]),
        "POSTGRES_USER": str(server["user"]),
        "POSTGRES_PASSWORD": str(server["password"]),
    }


@contextmanager
def database(name: str) -> Iterator[dict[str, str]]:
    """A migrated database on the tests' server for the time of the block; yields its variables."""
    with migrated(name):
        yield {**server_variables(), "APPLICATION_DB": name}


def environment(**variables: str) -> dict[str, str]:
    """A production environment for loopback; of our own process only the path is in it."""
    return {
        "PATH": os.environ["PATH"],
        "ENV_FILE": os.devnull,
        "SECRET_KEY": SECRET_KEY,
        "ALLOWED_HOSTS": "localhost,127.0.0.1",
        "HTTPS": "off",
        **variables,
    }


def manage(*arguments: str, **variables: str) -> str:
    """Run manage.py; returns its stdout, raises where it failed."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=PROJECT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Server:
    """A started process with a log, stopped at the end of a `with` block."""

    def __init__(
        self, command: list[str], env: dict[str, str], log: Path, stdout: Path | None = None
    ) -> None:
        self.log = log
        with log.open("ab") as stream, (stdout or log).open("ab") as out:
            self.process = subprocess.Popen(
                [*ends_with_pytest(), *command], cwd=PROJECT, env=env, stdout=out, stderr=stream
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        """Stop it in good order; returns the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def workers(self) -> list[int]:
        """The process ids of its children."""
        return children(self.process.pid)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_for(self, condition: Callable[[], Any], seconds: float = 20) -> None:
        def ready() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"ended with status {self.process.returncode}:\n{self.log.read_text()}")
            try:
                return bool(condition())
            except (OSError, http.client.HTTPException):
                return False

        try:
            wait_until(ready, "a response", seconds)
        except TimeoutError as error:
            self.stop()
            raise TimeoutError(f"{error}:\n{self.log.read_text()[-4000:]}") from None


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Gunicorn(Server):
    """gunicorn with deploy/gunicorn.conf.py on a port of its own."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self.port = free_port()
        self.variables = variables
        self.drain_file = folder / f"draining-{self.port}"
        variables = {
            "WEB_BIND": f"127.0.0.1:{self.port}",
            "DRAIN_FILE": str(self.drain_file),
            **variables,
        }
        command = [sys.executable, "-m", "gunicorn", "-c", "deploy/gunicorn.conf.py", *arguments]
        super().__init__(command, environment(**variables), folder / f"gunicorn-{self.port}.log")
        self.expected = int(variables.get("WEB_WORKERS", 2))
        self.threaded = "sync" not in arguments
        self.wait_for(lambda: self.booted() and get(self.port, "/livez", timeout=2).status == 200)

    def booted(self) -> bool:
        """Whether each worker has come so far that it starts threads; before, a signal may pass it by."""
        threads = [len(os.listdir(f"/proc/{pid}/task")) for pid in self.workers()]
        return len(threads) == self.expected and min(threads) > self.threaded

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **options: Any) -> Response:
        return get(self.port, path, **options)


def access_record(server: Gunicorn, request_id: str) -> dict:
    """gunicorn's access line of one request, once it is written."""

    def found() -> list[dict]:
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
        return [line for line in lines if line.get("request_id") == request_id and "target" in line]

    wait_until(found, f"an access line of {request_id}")
    return found()[0]


@dataclass
class Load:
    """Clients that send requests one by one for the time of a `with` block, and record the responses."""

    request: Callable[[], int]
    clients: int = 4
    responses: list[tuple[float, float, int | str]] = field(default_factory=list)
    """When (seconds since the start), how long it took, and the status or the failure's name."""

    def __enter__(self) -> "Load":
        self.began = time.monotonic()
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(self.clients)]
        for thread in self.threads:
            thread.start()
        return self

    def run(self) -> None:
        while not self.over.is_set():
            began = time.monotonic()
            outcome: int | str
            try:
                outcome = self.request()
            except (OSError, http.client.HTTPException) as error:
                outcome = type(error).__name__
            now = time.monotonic()
            self.responses.append((began - self.began, now - began, outcome))

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(60)

    def wait_for(self, responses: int, seconds: float = 30) -> None:
        """Wait for that many further responses."""
        goal = len(self.responses) + responses
        wait_until(lambda: len(self.responses) >= goal, f"{responses} responses", seconds)

    def statuses(self) -> Counter:
        return Counter(outcome for _, _, outcome in self.responses)
