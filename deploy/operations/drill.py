"""`drill`: the newest backup, restored where nobody sees it."""

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path

from deploy.operations import backup_metrics, manifest, process
from deploy.operations.docker import Docker
from deploy.operations.incoming import Incoming
from deploy.operations.project import Project
from deploy.operations.report import Failure, Report

HELP = """\
Prove the newest backup: restore it into a database of its own, beside the one that serves.

Its manifest is checked, the dump is read in, its rows are counted and compared with the manifest, and it is
migrated. Then a replica without clients is asked for the first page, for the number of rooms, and for those
within a box, and what it says is compared with the database's own count. The database is dropped afterwards;
the site goes on. The result is in doctor, in status, and in deploy/monitoring/textfile."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", help="another backup than the newest")


def run(options: argparse.Namespace, report: Report) -> None:
    project = Project()
    with project.lock("drill", options.wait):
        docker = Docker(project)
        file = Path(options.file).resolve() if options.file else newest(project)
        incoming = Incoming(docker, file, f"{project.database}_drill", report)
        if options.dry_run:
            incoming.check()
            report.say(f"Would restore {file} into the database {incoming.name}, and drop that.")
            return
        began = time.monotonic()
        try:
            prove(incoming)
        except Failure as failure:
            seconds = round(time.monotonic() - began, 1)
            project.note("drill", file=file.name, ok=False, seconds=seconds, reason=failure.reason)
            backup_metrics.write(project)
            raise Failure(
                f"the drill failed: {failure.reason}",
                failure.next_step or "./deploy/rentomatic backup, then ./deploy/rentomatic drill",
            ) from None
        seconds = round(time.monotonic() - began, 1)
        rooms = report.data["rows"]["room"]
        project.note("drill", file=file.name, ok=True, seconds=seconds, rooms=rooms)
        backup_metrics.write(project)
        report.data |= {"file": str(file), "drill_seconds": seconds}
        report.say(f"Proven in {seconds:.0f} s: {file.name}, with {rooms} rooms. Nothing else was changed.")


def prove(incoming: Incoming) -> None:
    incoming.check()
    try:
        incoming.read_in()
        incoming.try_it()
    finally:
        with process.held():
            incoming.database.execute(incoming.dropping(), check=False)


def newest(project: Project) -> Path:
    found = manifest.past(project.deploy / "backups", datetime.now(UTC))
    if not found:
        raise Failure("there is no backup in deploy/backups", "./deploy/rentomatic backup")
    return found[-1]
