"""`logs`: all lines of one request, in the order of their times."""

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from deploy.operations.docker import Docker
from deploy.operations.nodes import NODES
from deploy.operations.project import Project
from deploy.operations.report import Failure, Report

HELP = """\
Show every line of one request in order: nginx's, gunicorn's, Django's and PostgreSQL's. Changes nothing.
PostgreSQL writes statements that fail or take longer than a second.

REQUEST_ID is the response's X-Request-ID, which error pages show too."""

SERVICES = ("nginx", "web", *NODES)
LINE = re.compile(r"(?P<container>\S+)\s+\| (?P<time>\d{4}-\S+Z) (?P<text>.*)")
PROCESS = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \S+ \[(\d+)\] ")
"""How PostgreSQL's lines begin (log_line_prefix in compose.yml)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("request_id", metavar="REQUEST_ID", help="32 hexadecimal digits")
    parser.add_argument(
        "--since", metavar="TIME", default="", help="as in docker logs: 10m, 2026-11-20T16:00:00Z"
    )


def run(options: argparse.Namespace, report: Report) -> None:
    if not re.fullmatch(r"[0-9a-f]{32}", options.request_id):
        raise Failure(
            f"{options.request_id!r} is no request's id",
            "copy the X-Request-ID of a response, 32 hexadecimal digits",
            status=2,
        )
    docker = Docker(Project())
    since = ["--since", options.since] if options.since else []
    services = [name for name in SERVICES if name in docker.config()["services"]]
    text = docker.compose("logs", "--no-color", "--timestamps", *since, *services).stdout
    found = lines_of(text, options.request_id)
    if not found:
        raise Failure(
            f"no line has {options.request_id}; the newest 50 MB of each container are kept",
            "docker compose logs --tail 20 nginx",
        )
    report.data["lines"] = found
    for line in found:
        report.say(f"{line['time'][:23]}  {line['container']:10}  {line['text']}")


@dataclass
class Line:
    """A line of a container's log: when it was written, by the program itself where that says so."""

    container: str
    time: datetime
    text: str
    record: dict[str, Any]
    """What is in it, where it is JSON."""

    @property
    def service(self) -> str:
        return self.container.partition("-")[0]


def lines_of(text: str, request_id: str) -> list[dict[str, str]]:
    """
    The lines of a request in what `docker compose logs --timestamps` prints: time, container and text.

    nginx's, gunicorn's and Django's have its id, and PostgreSQL's of statements have it in their comment. The
    others of PostgreSQL are those of the processes that Django names, written while the request was served: a
    connection serves one request at a time.
    """
    lines = list(read(text))
    own = [line for line in lines if line.service not in NODES and request_id in line.text]
    processes = {str(line.record["database_process"]) for line in own if "database_process" in line.record}
    found = list(own)
    began, ended = span(own) if own else (None, None)
    for line in lines:
        if line.service in NODES and (process := PROCESS.match(line.text)):
            in_time = began and ended and began <= line.time <= ended and process[1] in processes
            if in_time or f"/*request_id='{request_id}'" in line.text:
                found.append(line)
    return [
        {
            "time": line.time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "container": line.container,
            "text": words(line),
        }
        for line in sorted(found, key=lambda one: one.time)
    ]


def span(own: list[Line]) -> tuple[datetime, datetime]:
    """From when to when a request was served, by gunicorn's line; else, without ACCESS_LOG, by nginx's."""
    exact = [line for line in own if line.service == "web" and "seconds" in line.record]
    counted = exact or own
    began = min(line.time - timedelta(seconds=float(line.record.get("seconds", 0))) for line in counted)
    tick = timedelta(milliseconds=1)  # to which the times are written
    return began - tick, max(line.time for line in counted) + tick


def read(text: str) -> Iterator[Line]:
    """The lines, in the order of each container; those of a statement of many lines are one."""
    last: Line | None = None
    for raw in re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).splitlines():  # Compose moves the cursor
        found = LINE.match(raw)
        if not found:
            continue
        container = re.sub(r"^.*?-(?=(?:nginx|web|db|replica[12])-\d+$)", "", found["container"])
        if last and container == last.container and found["text"].startswith("\t"):
            last.text = f"{last.text} {found['text'].strip()}"
            continue
        if last:
            yield last
        last = Line(container, time_of(found["time"]), found["text"], record_of(found["text"]))
        written = PROCESS.match(last.text)
        if last.service == "web" and "time" in last.record:
            last.time = datetime.fromisoformat(last.record["time"])
        elif last.service in NODES and written:
            last.time = datetime.fromisoformat(f"{last.text[:23]}+00:00")
    if last:
        yield last


def time_of(text: str) -> datetime:
    """Docker writes nanoseconds."""
    return datetime.fromisoformat(f"{text[:26].rstrip('Z')}+00:00")


def record_of(text: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(text[text.index("{") :])
    except ValueError:
        return {}
    return record


def words(line: Line) -> str:
    """A line of JSON as one for people."""
    record = line.record
    if line.service in NODES or not record:
        return line.text
    if "upstream" in record:  # nginx's
        shown = f"{record['method']} {record['target']} {record['status']} in {record['seconds']} s"
        cache = f", cache {record['cache']}" if record.get("cache") else ""
        return f"{shown}, from {record['upstream'] or 'nginx itself'}{cache}"
    level, logger = record.get("level", ""), record.get("logger", "")
    exception = record.get("exception") or record.get("exc_info") or ""
    return " ".join(part for part in (level, logger, str(record.get("message", "")), str(exception)) if part)
