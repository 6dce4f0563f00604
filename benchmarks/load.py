"""The load generators, wrk and one in Python, and the reader of exports."""

import asyncio
import http.client
import json
import shutil
import statistics
import subprocess
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

CONNECTIONS = 16
"""Concurrent clients."""

WRK_REPORT = Path(__file__).with_name("wrk.lua")


class LoadError(Exception):
    """A server did not respond, or not as expected: its results would mean nothing."""


class Rate(NamedTuple):
    requests: int
    seconds: float
    p99: float
    """Seconds: the 99th percentile of the latency under this load."""

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


class Export(NamedTuple):
    seconds: float
    first_byte: float
    """Seconds to the first byte of the body."""
    lines: int


def generator() -> str:
    """The default generator on this machine."""
    return "wrk" if shutil.which("wrk") else "python"


def load_test(url: str, seconds: float, by: str) -> Rate:
    """Request `url` with CONNECTIONS concurrent clients for that time, with the generator `by`."""
    return wrk(url, seconds) if by == "wrk" else asyncio.run(python_load_test(url, seconds))


def wrk(url: str, seconds: float) -> Rate:
    # wrk takes whole seconds only; `timeout -s INT` ends it earlier, and it still prints its report.
    # Without --timeout a response that takes two seconds has failed.
    command = ["timeout", "-s", "INT", str(seconds), "wrk", "-t1", f"-c{CONNECTIONS}"]
    command += ["-d60s", "--timeout", "60s"]
    done = subprocess.run(
        [*command, "--script", WRK_REPORT, url], capture_output=True, text=True, check=False
    )
    try:
        report = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise LoadError(f"wrk {url}: {done.stderr or done.stdout}") from None
    if report["failed"]:
        raise LoadError(f"{report['failed']} of {report['requests']} requests failed: {url}")
    return Rate(report["requests"], report["microseconds"] / 1e6, report["p99"] / 1e6)


async def python_load_test(url: str, seconds: float) -> Rate:
    """A load test in Python: up to about 3,000 requests a second on one core."""
    times: list[float] = []
    start = time.perf_counter()
    clients = (client(url, start + seconds, times) for _ in range(CONNECTIONS))
    await asyncio.gather(*clients)
    elapsed = time.perf_counter() - start
    return Rate(len(times), elapsed, statistics.quantiles(times, n=100)[98] if len(times) > 1 else elapsed)


async def client(url: str, end: float, times: list[float]) -> None:
    """One client that sends requests until `end`, on one connection where the server keeps it open."""
    target = urlsplit(url)
    path = f"{target.path}?{target.query}" if target.query else target.path
    request = f"GET {path} HTTP/1.1\r\nHost: {target.netloc}\r\n\r\n".encode()
    writer = None
    try:
        while (start := time.perf_counter()) < end:
            if writer is None:
                reader, writer = await asyncio.open_connection(target.hostname, target.port)
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not head.startswith((b"http/1.1 200", b"http/1.0 200")):
                raise LoadError(f"{head.splitlines()[0].decode()}: {url}")
            await reader.readexactly(int(head.partition(b"\r\ncontent-length:")[2].split(b"\r\n", 1)[0]))
            times.append(time.perf_counter() - start)
            if b"\r\nconnection: close" in head:
                writer.close()
                writer = None
    except (OSError, EOFError, ValueError) as error:
        raise LoadError(f"{url}: {error}") from None
    finally:
        if writer is not None:
            writer.close()


def get(url: str) -> tuple[http.client.HTTPResponse, bytes]:
    """The response to one request and its body. LoadError unless its status is 200."""
    target = urlsplit(url)
    connection = http.client.HTTPConnection(target.netloc, timeout=60)
    try:
        connection.request("GET", f"{target.path}?{target.query}" if target.query else target.path)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise LoadError(f"{url}: {error!r}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise LoadError(f"{response.status} {response.reason}: {url}: {body[:200].decode(errors='replace')}")
    return response, body


def one_by_one(url: str, seconds: float, at_least: int) -> list[float]:
    """The seconds of each request of a single client, for that time and at least that many requests."""
    times: list[float] = []
    while sum(times) < seconds or len(times) < at_least:
        start = time.perf_counter()
        get(url)
        times.append(time.perf_counter() - start)
    return times


def export(url: str) -> Export:
    """Read a whole export without storing it."""
    target = urlsplit(url)
    connection = http.client.HTTPConnection(target.netloc, timeout=120)
    start = time.perf_counter()
    try:
        connection.request("GET", target.path)
        response = connection.getresponse()
        lines = response.read(1).count(b"\n")
        first_byte = time.perf_counter() - start
        while block := response.read(1 << 18):
            lines += block.count(b"\n")
    except (OSError, http.client.HTTPException) as error:
        raise LoadError(f"{url}: {error!r}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise LoadError(f"{response.status} {response.reason}: {url}")
    return Export(time.perf_counter() - start, first_byte, lines)
