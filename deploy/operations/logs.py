"""`logs`: all lines of one request, in the order of their times."""

import argparse
import json
import re
from typing import Any

from deploy.operations.docker import Docker
from deploy.operations.project import Project
from deploy.operations.report import Failure, Report

HELP = """\
Show every line of one request in order: nginx's, gunicorn's, Django's and PostgreSQL's. Changes nothing.

REQUEST_ID is the response's X-Request-ID, which error pages show too."""

SERVICES = ("nginx", "web", "db")
LINE = re.compile(r"(?P<container>\S+)\s+\| (?P<time>\d{4}-\S+Z) (?P<text>.*)")


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
    text = docker.compose("logs", "--no-color", "--timestamps", *since, *SERVICES).stdout
    found = lines_of(text, options.request_id)
    if not found:
        raise Failure(
            f"no line has {options.request_id}; the newest 50 MB of each container are kept",
            "docker compose logs --tail 20 nginx",
        )
    report.data["lines"] = found
    for line in found:
        report.say(f"{line['time'][:23]}  {line['container']:10}  {line['text']}")


def lines_of(text: str, request_id: str) -> list[dict[str, str]]:
    """
    The lines of a request in what `docker compose logs --timestamps` prints: time, container and text.

    A line belongs to it that has its id; PostgreSQL's have it as a comment or as the application's name.
    """
    found = []
    for line in re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).splitlines():  # Compose moves the cursor
        read = LINE.match(line)
        if read and request_id in read["text"]:
            container = re.sub(r"^.*?-(?=(?:nginx|web|db)-\d+$)", "", read["container"])
            found.append({"time": read["time"], "container": container, "text": words(read["text"])})
    return sorted(found, key=lambda one: one["time"])


def words(text: str) -> str:
    """A line of JSON as one for people."""
    try:
        record: dict[str, Any] = json.loads(text[text.index("{") :])
    except ValueError:
        return text
    if "upstream" in record:  # nginx's
        shown = f"{record['method']} {record['target']} {record['status']} in {record['seconds']} s"
        cache = f", cache {record['cache']}" if record.get("cache") else ""
        return f"{shown}, from {record['upstream'] or 'nginx itself'}{cache}"
    level, logger = record.get("level", ""), record.get("logger", "")
    exception = record.get("exception") or record.get("exc_info") or ""
    return " ".join(part for part in (level, logger, str(record.get("message", "")), str(exception)) if part)
