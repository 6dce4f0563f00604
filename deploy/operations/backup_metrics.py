"""What is known of the backups, in Prometheus' text format, for node exporter's collector of text files."""

from collections.abc import Iterator
from datetime import UTC, datetime

from deploy.operations import environment, manifest
from deploy.operations.pitr import copying
from deploy.operations.project import Project, parse_time
from deploy.operations.report import Failure

Gauge = tuple[str, str, float]
"""Name, help and value."""


def write(project: Project) -> None:
    """
    Written anew, in one step, by each backup, drill and copy of the archive.

    A time and not an age: the file of a timer that has stopped would say the same age for ever.
    """
    lines = []
    for name, words, number in gauges(project):
        lines += [f"# HELP {name} {words}", f"# TYPE {name} gauge", f"{name} {number:.15g}"]
    folder = project.deploy / "monitoring" / "textfile"
    folder.mkdir(parents=True, exist_ok=True)
    environment.replace(folder / "backup.prom", "\n".join([*lines, ""]), 0o644)


def gauges(project: Project) -> Iterator[Gauge]:
    found = manifest.past(project.deploy / "backups", datetime.now(UTC))
    yield "rentomatic_backups", "Backups in deploy/backups.", len(found)
    for dump in reversed(found):
        try:
            newest = manifest.read(dump)
        except Failure:
            continue  # of before there were manifests
        yield "rentomatic_backup_timestamp_seconds", "When the newest backup was begun.", epoch(newest.at)
        yield "rentomatic_backup_duration_seconds", "How long the newest backup took.", newest.seconds
        yield "rentomatic_backup_size_bytes", "Size of the newest backup.", newest.total_bytes
        yield "rentomatic_backup_rooms", "Rooms in the newest backup.", newest.rows.get("room", 0)
        break
    if copies := project.notes("copy"):
        yield (
            "rentomatic_backup_copied_timestamp_seconds",
            "When all were last copied.",
            epoch(copies[-1]["at"]),
        )
    last, every = copying.last(project), copying.interval(project)
    if last and every:
        due = copying.due(last, every)
        yield (
            "rentomatic_archive_copy_due_timestamp_seconds",
            "When the next has to be there.",
            due.timestamp(),
        )
    drills = project.notes("drill")
    if drills:
        yield "rentomatic_drill_success", "Whether the last drill proved its backup.", int(drills[-1]["ok"])
    for drill in reversed(drills):
        if drill["ok"]:
            yield "rentomatic_drill_timestamp_seconds", "When a drill last proved one.", epoch(drill["at"])
            yield "rentomatic_drill_duration_seconds", "How long that drill took.", drill["seconds"]
            break


def epoch(written: str) -> float:
    return parse_time(written).timestamp()
