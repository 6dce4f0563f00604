"""A target as a process on the server's core, stopped at the end of the run."""

import os
import secrets
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from benchmarks import machine

START_LIMIT = 30  # seconds


class ServerError(Exception):
    """The server did not start; the message ends with the last lines of its log."""


class Server(NamedTuple):
    """A running program."""

    name: str
    pid: int
    url: str

    def processes(self) -> list[int]:
        return machine.with_descendants(self.pid)


@contextmanager
def running(
    name: str, command: list[str], folder: Path, environment: Mapping[str, str], core: set[int]
) -> Iterator[Server]:
    """
    Start `command`, where {port} is replaced by a free port, and wait for its first response.

    In a session of its own, so that Ctrl-C reaches only the benchmark, which then stops it.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [part.replace("{port}", str(port)) for part in command],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            machine.pin([process.pid], core)
            wait_for_response(process, url, name, log)
            yield Server(name, process.pid, url)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for_response(process: "subprocess.Popen[bytes]", url: str, name: str, log: BinaryIO) -> None:
    """Return after the first response of any status: gunicorn's socket accepts before its workers run."""
    deadline = time.monotonic() + START_LIMIT
    while True:
        try:
            urllib.request.urlopen(url, timeout=START_LIMIT).close()  # noqa: S310 - on loopback
        except urllib.error.HTTPError:
            return
        except OSError:
            if process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            log.seek(0)
            tail = b"".join(log.readlines()[-15:]).decode(errors="replace")
            raise ServerError(f"{name} did not start: {' '.join(process.args)}\n{tail}") from None
        return


def free_port() -> int:
    """A free port below 32768, where the kernel's ports for outgoing connections begin."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
