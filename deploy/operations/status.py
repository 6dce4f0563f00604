"""`status`: how the site does, on one screen."""

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from deploy.operations import hosts, manifest, nodes, pitr, pooling
from deploy.operations.docker import Docker
from deploy.operations.doctor.containers import time_of
from deploy.operations.doctor.files import hours, proof_age
from deploy.operations.pitr import copying
from deploy.operations.pitr.archive import Archive
from deploy.operations.project import Project
from deploy.operations.report import Report

HELP = """\
Show how the site does, on one screen: the version and its replicas, requests, errors and the slowest ones of
the last minutes, by nginx's log, the age of the newest backup, since when restore --at can go back, and
how old the archive's copy is. Changes nothing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--minutes", type=int, default=10, help="how far back requests are counted (default: 10)"
    )


def run(options: argparse.Namespace, report: Report) -> None:
    project = Project()
    docker = Docker(project)
    now = datetime.now(UTC)
    log = docker.compose("logs", "--no-color", "--no-log-prefix", "--since", f"{options.minutes}m", "nginx")
    facts: dict[str, Any] = {
        "image": project.image,
        "url": project.setting("SITE_ADDRESS"),
        "containers": [described(one, now) for one in containers(docker)],
        "requests": summary(read_lines(log.stdout.splitlines())),
        "minutes": options.minutes,
        "database": servers(docker),
        "hosts": [f"{name}: {one.reason or 'ready'}" for name, one in hosts.ask_all(project).items()],
        "role": project.setting("ROLE", "site"),
        "backup": newest_backup(project, now),
        "since": reach(project),
        "archive_copied": copied(project, now),
        "last": [
            f"{note['at']} {note['command']}"
            for note in [one for one in project.notes() if not {"begun", "put_back"} & one.keys()][-3:]
        ],
    }
    report.data |= facts
    report.say(screen(facts))


def containers(docker: Docker) -> list[dict[str, Any]]:
    beside = [pooling.SERVICE] if pooling.wanted(docker.project) else []
    services = (*nodes.services(docker.project, docker.primary), *beside, "web", "nginx")
    ids = [one for service in services for one in docker.containers(service)]
    return docker.inspect(*ids)


def described(container: dict[str, Any], now: datetime) -> dict[str, str]:
    state = container["State"]
    return {
        "name": container["Name"].lstrip("/"),
        "image": container["Config"]["Image"],
        "state": state.get("Health", {}).get("Status") or state["Status"],
        "up": hours(now - time_of(state["StartedAt"])) if state["Running"] else "",
        "restarts": str(container["RestartCount"]),
    }


def servers(docker: Docker) -> list[str]:
    """The primary and its replicas in words; empty without replicas."""
    if not nodes.wanted(docker.project):
        return []
    found = nodes.look_at_all(docker)
    written = max(one.place for one in found)
    return [f"{one.name}: {role(one, written)}" for one in found]


def role(node: nodes.Node, written: int) -> str:
    if not node.answers:
        return "does not answer"
    if node.accepts_writes:
        return "the primary"
    return f"a replica, {written - node.shown} bytes behind" + ("" if node.streams else ", receives nothing")


def read_lines(lines: Iterable[str]) -> list[dict[str, Any]]:
    """nginx's access log; what is no line of it is left out."""
    found = []
    for line in lines:
        start = line.find('{"time"')
        if start >= 0:
            try:
                found.append(json.loads(line[start:]))
            except ValueError:
                continue
    return found


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Requests by status, the share from the cache, and the five slowest."""
    slowest = sorted(lines, key=lambda line: -float(line["seconds"]))[:5]
    return {
        "total": len(lines),
        "statuses": dict(sorted(Counter(str(line["status"]) for line in lines).items())),
        "errors": sum(int(line["status"]) >= 500 for line in lines),
        "cached": sum(line.get("cache") in {"HIT", "STALE", "UPDATING"} for line in lines),
        "slowest": [
            {name: line[name] for name in ("seconds", "status", "method", "target", "request_id")}
            for line in slowest
        ],
    }


def newest_backup(project: Project, now: datetime) -> str:
    """Its age in words, and when one was proven; empty where there is none."""
    taken = manifest.newest(project.deploy / "backups", now)
    if taken is None:
        return ""
    return f"{hours(now - taken)} old; {proof_age(project.proofs(), now).text}"


def reach(project: Project) -> str:
    """The time since which any second can be reached; empty where none can."""
    since = Archive(project).oldest() if pitr.wanted(project) else None
    return f"{since:%Y-%m-%d %H:%M:%S} UTC" if since else ""


def copied(project: Project, now: datetime) -> str:
    """How long ago the archive was last brought to BACKUP_TO; empty where it never was."""
    last = copying.last(project) if pitr.wanted(project) else None
    return hours(now - last) if last else ""


def screen(facts: dict[str, Any]) -> str:
    requests = facts["requests"]
    lines = [f"{facts['image'] or 'nothing is released'} at {facts['url']}", ""]
    for one in facts["containers"]:
        lines.append(
            f"{one['name']:32} {one['state']:10} up {one['up'] or '-':10} {one['restarts']} restarts"
        )
    if facts["role"] == "web":
        return "\n".join(
            [*lines, "", "a web host: requests and backups are in the status of the site's host"]
        )
    statuses = ", ".join(f"{number} × {status}" for status, number in requests["statuses"].items())
    lines += ["", f"last {facts['minutes']} minutes: {requests['total']} requests ({statuses or 'none'})"]
    lines.append(f"errors: {requests['errors']}; from the cache: {requests['cached']}")
    for one in requests["slowest"]:
        lines.append(f"  {one['seconds']:7.3f} s  {one['status']}  {one['method']} {one['target'][:60]}")
    if facts["database"]:
        lines += ["", *facts["database"]]
    if facts["hosts"]:
        lines += ["", *facts["hosts"]]
    lines += ["", f"newest backup: {facts['backup'] or 'none'}"]
    if facts["since"]:
        lines.append(f"can go back to any second since {facts['since']}")
    if facts["archive_copied"]:
        lines.append(f"on another host to any second until {facts['archive_copied']} ago")
    lines += [f"  {line}" for line in facts["last"]]
    return "\n".join(lines)
